"""The five revisions of the protocol, and what a reader of each can be sent.

Words: `legacy` revisions open with `initialize`, `modern` ones carry everything in each request.
Spec: 2026-07-28 basic/versioning.
"""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = [
    "LATEST_LEGACY",
    "MODERN",
    "REVISIONS",
    "SUPPORTED",
    "Era",
    "Revision",
    "negotiate",
]


class Era(Enum):
    """The two halves of the MCP world."""

    LEGACY = "legacy"
    MODERN = "modern"


class Revision(msgspec.Struct, frozen=True):
    """One revision. `text` is its name on the wire; the flags say what it has that others lack."""

    text: str
    era: Era
    has_batches: bool = False
    has_audio: bool = False
    has_elicitation: bool = False
    has_resource_links: bool = False
    has_structured_content: bool = False
    has_completion_context: bool = False
    has_url_elicitation: bool = False
    has_sampling_tools: bool = False
    has_modern_enums: bool = False
    has_priming_event: bool = False
    has_version_header: bool = False

    @property
    def is_modern(self) -> bool:
        """Tell whether requests carry their own context and no session exists."""
        return self.era is Era.MODERN


_2024_11_05 = Revision("2024-11-05", Era.LEGACY)
_2025_03_26 = Revision("2025-03-26", Era.LEGACY, has_batches=True, has_audio=True)
_2025_06_18 = Revision(
    "2025-06-18",
    Era.LEGACY,
    has_audio=True,
    has_elicitation=True,
    has_resource_links=True,
    has_structured_content=True,
    has_completion_context=True,
    has_version_header=True,
)
_2025_11_25 = Revision(
    "2025-11-25",
    Era.LEGACY,
    has_audio=True,
    has_elicitation=True,
    has_resource_links=True,
    has_structured_content=True,
    has_completion_context=True,
    has_url_elicitation=True,
    has_sampling_tools=True,
    has_modern_enums=True,
    has_priming_event=True,
    has_version_header=True,
)
_2026_07_28 = Revision(
    "2026-07-28",
    Era.MODERN,
    has_audio=True,
    has_elicitation=True,
    has_resource_links=True,
    has_structured_content=True,
    has_completion_context=True,
    has_url_elicitation=True,
    has_sampling_tools=True,
    has_modern_enums=True,
    has_version_header=True,
)

REVISIONS: dict[str, Revision] = {
    revision.text: revision
    for revision in (_2024_11_05, _2025_03_26, _2025_06_18, _2025_11_25, _2026_07_28)
}
"""Every revision served, oldest first, by its name."""

SUPPORTED: tuple[str, ...] = tuple(reversed(REVISIONS))
"""The names of `REVISIONS`, newest first, as they are told to clients."""

MODERN = _2026_07_28
LATEST_LEGACY = _2025_11_25


def negotiate(requested: object) -> Revision:
    """Choose the legacy revision for an `initialize` that asks for `requested`.

    A legacy revision we know is granted; anything else, a modern name included, gets the latest
    legacy one, and the client decides whether it can live with that.
    Spec: 2025-11-25 basic/lifecycle, "Version Negotiation".
    """
    known = REVISIONS.get(requested) if isinstance(requested, str) else None
    if known is None or known.is_modern:
        return LATEST_LEGACY
    return known
