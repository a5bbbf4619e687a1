"""What full coverage of the official suite looks like, scenario by scenario.

The suite passes a server that offers nothing: capabilities that are not declared skip their checks in
silence. So the number of checks that passed counts too. The numbers are those of the pinned version of the
suite (tests/peers/npm/package.json) against a server that offers all it can ask for.
"""

from __future__ import annotations

from collections.abc import Mapping

REQUIRED: Mapping[str, Mapping[str, int]] = {
    "2025-11-25": {
        "completion-complete": 2,
        "dns-rebinding-protection": 2,
        "elicitation-sep1034-defaults": 6,
        "elicitation-sep1330-enums": 6,
        "logging-set-level": 2,
        "ping": 2,
        "prompts-get-embedded-resource": 2,
        "prompts-get-simple": 2,
        "prompts-get-with-args": 2,
        "prompts-get-with-image": 2,
        "prompts-list": 2,
        "resources-list": 2,
        "resources-read-binary": 2,
        "resources-read-text": 2,
        "resources-subscribe": 2,
        "resources-templates-read": 2,
        "resources-unsubscribe": 2,
        "server-initialize": 3,
        "server-sse-multiple-streams": 2,
        "tools-call-audio": 2,
        "tools-call-elicitation": 2,
        "tools-call-embedded-resource": 2,
        "tools-call-error": 2,
        "tools-call-image": 2,
        "tools-call-mixed-content": 2,
        "tools-call-sampling": 2,
        "tools-call-simple-text": 2,
        "tools-call-with-logging": 2,
        "tools-call-with-progress": 2,
        "tools-list": 3,
    },
    "2026-07-28": {
        "caching": 8,
        "completion-complete": 2,
        "dns-rebinding-protection": 2,
        "input-required-result-basic-elicitation": 3,
        "input-required-result-basic-list-roots": 3,
        "input-required-result-basic-sampling": 3,
        "input-required-result-capability-check": 2,
        "input-required-result-ignore-extra-params": 2,
        "input-required-result-missing-input-response": 2,
        "input-required-result-multi-round": 4,
        "input-required-result-multiple-input-requests": 3,
        "input-required-result-non-tool-request": 3,
        "input-required-result-request-state": 3,
        "input-required-result-result-type": 2,
        "input-required-result-tampered-state": 2,
        "input-required-result-unsupported-methods": 2,
        "input-required-result-validate-input": 3,
        "prompts-get-embedded-resource": 2,
        "prompts-get-simple": 2,
        "prompts-get-with-args": 2,
        "prompts-get-with-image": 2,
        "prompts-list": 2,
        "resources-list": 2,
        "resources-read-binary": 2,
        "resources-read-text": 2,
        "resources-templates-read": 2,
        "sep-2164-resource-not-found": 4,
        "server-sse-multiple-streams": 1,
        "server-stateless": 30,
        "tools-call-audio": 2,
        "tools-call-embedded-resource": 2,
        "tools-call-error": 2,
        "tools-call-image": 2,
        "tools-call-mixed-content": 2,
        "tools-call-simple-text": 2,
        "tools-call-with-progress": 2,
        "tools-list": 4,
    },
}
"""Revision → required scenario → checks that must pass."""

NOT_SCORED: Mapping[str, Mapping[str, int]] = {
    "2025-11-25": {
        "json-schema-2020-12": 8,
        "server-session-lifecycle": 3,
        "server-sse-polling": 3,
    },
    "2026-07-28": {
        "http-custom-header-server-validation": 10,
        "http-header-validation": 14,
        "json-schema-2020-12": 8,
    },
}
"""Scenarios that the suite runs without scoring them, and that must pass here all the same."""

TASKS: Mapping[str, int] = {
    "tasks-capability-negotiation": 5,
    "tasks-dispatch-and-envelope": 9,
    "tasks-lifecycle": 9,
    "tasks-mrtr-composition": 2,
    "tasks-mrtr-input": 4,
    "tasks-request-headers": 5,
    "tasks-request-state-removal": 3,
    "tasks-required-task-error": 3,
    "tasks-wire-fields": 4,
}
"""Scenario of the tasks extension → checks that must pass with an upstream that has tasks.

`tasks-status-notifications` has no check yet: the suite skips it by itself.
"""

REASONS: Mapping[tuple[str, str], str] = {
    ("server-sse-multiple-streams", "server-sse-streams-functional"): (
        "INFO in the stateless revision: the answers are plain JSON, which the scenario allows"
    ),
    ("server-sse-polling", "outgoing-request"): "INFO: a record of the dialogue, not a verdict",
    ("server-sse-polling", "incoming-response"): "INFO: a record of the dialogue, not a verdict",
    ("server-sse-polling", "incoming-sse-event"): "INFO: a record of the dialogue, not a verdict",
    ("server-sse-polling", "stream-closed"): "INFO: a record of the dialogue, not a verdict",
}
"""(scenario, check) → why this check may end as INFO. No check may fail, warn or be skipped."""
