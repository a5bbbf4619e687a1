from __future__ import annotations

import pytest

from waygate_mcp.config.document import Document
from waygate_mcp.config.roles import roles_of
from waygate_mcp.model.permissions import Grant


def test_the_built_in_roles_are_there_and_a_document_adds_or_changes() -> None:
    document = Document.model_validate(
        {"roles": {"reader": ["resources:read:file:///docs/*"], "viewer": []}}
    )
    roles = roles_of(document.roles)
    assert roles["admin"] == (Grant("*", role="admin"),)
    assert roles["reader"] == (Grant("resources:read", "file:///docs/*", "reader"),)
    assert roles["viewer"] == ()
    assert "operator" in roles


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tools:cal", "did you mean tools:call?"),
        ("tols:call:x*", "did you mean tools:call?"),
        ("metrics:read:x", "no named entries"),
        ("zzz", "there is no permission 'zzz:'"),
    ],
)
def test_a_permission_that_does_not_exist_is_refused_with_the_nearest(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        Document.model_validate({"roles": {"mine": [word]}})
