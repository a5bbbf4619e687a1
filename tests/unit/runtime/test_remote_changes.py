"""What the admin API may not change unless the file says so: all that runs, reaches inside or opens."""

from __future__ import annotations

from typing import Any

import pytest

from waygate_mcp.config.document import Document
from waygate_mcp.runtime.remote_changes import unsafe_changes

OLD: dict[str, Any] = {
    "plugins": {"p": {"use": "a_module", "config": {"cert": "${file:/etc/cert}"}}},
    "upstreams": {
        "run": {"command": "/bin/a", "args": ["x"]},
        "web": {"url": "https://a.example.org/mcp"},
        "near": {"url": "http://10.0.0.5/mcp"},
    },
    "auth": {"mode": "keys"},
}


def document(**sections: Any) -> Document:
    return Document.model_validate({**OLD, **sections})


def upstream(name: str, **section: Any) -> dict[str, Any]:
    return {"upstreams": {**OLD["upstreams"], name: section}}


def oauth(issuer: str, **more: Any) -> dict[str, Any]:
    issuers = [{"issuer": issuer, "grants": {"a": ["viewer"]}, **more}]
    return {"auth": {"mode": "keys+oauth", "oauth": {"issuers": issuers}}}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (upstream("new", command="/bin/sh"), "upstreams.new.command"),
        (upstream("run", command="/bin/b", args=["x"]), "upstreams.run.command"),
        (upstream("run", command="/bin/a", args=["y"]), "upstreams.run.command"),
        (upstream("run", command="/bin/a", args=["x"], sandbox="none"), "upstreams.run.command"),
        (upstream("web", command="/bin/a"), "upstreams.web.command"),
        (upstream("new", url="http://127.0.0.1:1/mcp"), "upstreams.new.url"),
        (upstream("new", url="http://localhost/mcp"), "upstreams.new.url"),
        (upstream("new", url="${env:SOMEWHERE}"), "upstreams.new.url"),
        (upstream("web", url="https://a.example.org/mcp", network="private"), "upstreams.web.url"),
        (upstream("near", url="http://10.0.0.6/mcp"), "upstreams.near.url"),
        (upstream("web", url="https://a.example.org/mcp", headers={"X": "${file:/etc/passwd}"}),
         "upstreams.web"),
        ({"plugins": {"p": {"use": "os"}}}, "plugins.p.use"),
        ({"plugins": {"p": {"use": "a_module", "config": {"x": ["${file:/etc/passwd}", 1]}}}},
         "plugins.p.config"),
        ({"secrets": {"folders": ["/etc"]}}, "secrets"),
        (oauth("http://127.0.0.1:9/"), "auth.oauth.issuers[0]"),
        (oauth("https://a.example.org", network="private"), "auth.oauth.issuers[0]"),
        ({"auth": {"mode": "none"}}, "auth.mode"),
        ({"audit": {"enabled": False}}, "audit.enabled"),
        ({"server": {"remote_changes": "all"}}, "server.remote_changes"),
    ],
)  # fmt: skip
def test_such_a_change_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    old, new = document(), document(**change)
    (problem,) = unsafe_changes(old, new)
    assert problem.path == path
    assert "`server.remote_changes: all`" in problem.message
    leave = document(server={"remote_changes": "all"})
    assert unsafe_changes(leave, new) == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        upstream("run", command="/bin/a", args=["x"], enabled=False, limits={"calls": 1}),
        upstream("near", url="http://10.0.0.5/mcp", headers={"X": "${secret:A}"}),
        upstream("new", url="https://b.example.org/mcp"),
        {"upstreams": {}},
        {"plugins": {"p": {"use": "a_module", "config": {"cert": "${file:/etc/cert}", "n": 2}}}},
        {"roles": {"r": ["tools:list"]}, "limits": {"page_size": 5}},
        oauth("https://a.example.org"),
    ],
)
def test_any_other_change_may_come_over_the_network(change: dict[str, Any]) -> None:
    assert unsafe_changes(document(), document(**change)) == []


def test_issuers_that_were_there_may_stay() -> None:
    there = document(**oauth("http://127.0.0.1:9/"))
    assert unsafe_changes(there, there) == []
