"""What a client declared it can answer, reduced to the bits that decide anything.

Knows the shapes of `ClientCapabilities` in every revision. Refuses to know who declared them.
Spec: 2026-07-28 schema, ClientCapabilities; 2025-11-25 client/elicitation, "Capabilities".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from waygate_mcp.protocol.versions import Revision

__all__ = ["NO_CAPABILITIES", "ClientCapabilities", "bits_without_roots_changed"]

_SAMPLING = 1
_SAMPLING_TOOLS = 2
_SAMPLING_CONTEXT = 4
_ROOTS = 8
_FORM = 16
_URL = 32
_ROOTS_CHANGED = 64
_MAX_EXTENSIONS = 32
_MAX_EXTENSION_CHARS = 128


class ClientCapabilities(msgspec.Struct, frozen=True):
    """The capability class of a client: seven bits, equal for clients that can answer the same.

    `extensions` are the names of declared extensions, sorted; the first 32 of at most 128 characters
    are kept, since catalogues are kept per capability class.
    """

    bits: int = 0
    extensions: tuple[str, ...] = ()

    @property
    def sampling(self) -> bool:
        """Tell whether `sampling/createMessage` may be asked."""
        return bool(self.bits & _SAMPLING)

    @property
    def sampling_tools(self) -> bool:
        """Tell whether a sampling may carry `tools` and `toolChoice`."""
        return bool(self.bits & _SAMPLING_TOOLS)

    @property
    def roots(self) -> bool:
        """Tell whether `roots/list` may be asked."""
        return bool(self.bits & _ROOTS)

    @property
    def roots_changed(self) -> bool:
        """Tell whether a change of the roots is announced."""
        return bool(self.bits & _ROOTS_CHANGED)

    @property
    def form(self) -> bool:
        """Tell whether a form elicitation may be asked."""
        return bool(self.bits & _FORM)

    @property
    def url(self) -> bool:
        """Tell whether a URL elicitation may be asked."""
        return bool(self.bits & _URL)

    def declares(self, extension: str) -> bool:
        """Tell whether an extension of this name was declared."""
        return extension in self.extensions

    @classmethod
    def parse(cls, declared: Mapping[str, Any], revision: Revision) -> ClientCapabilities:
        """Read a `capabilities` object as a client of `revision` means it.

        An empty `elicitation` means forms only. What the revision does not have yet is not
        believed: no URL questions to a client of 2025-06-18 whatever it says.
        """
        bits = 0
        sampling = declared.get("sampling")
        if isinstance(sampling, dict):
            bits |= _SAMPLING
            if revision.has_sampling_tools and isinstance(sampling.get("tools"), dict):
                bits |= _SAMPLING_TOOLS
            if isinstance(sampling.get("context"), dict):
                bits |= _SAMPLING_CONTEXT
        roots = declared.get("roots")
        if isinstance(roots, dict):
            bits |= _ROOTS
            if roots.get("listChanged") is True:
                bits |= _ROOTS_CHANGED
        elicitation = declared.get("elicitation")
        if isinstance(elicitation, dict) and revision.has_elicitation:
            has_url = revision.has_url_elicitation and isinstance(elicitation.get("url"), dict)
            if isinstance(elicitation.get("form"), dict) or not has_url:
                bits |= _FORM
            if has_url:
                bits |= _URL
        extensions = declared.get("extensions")
        if not isinstance(extensions, dict) or not extensions:
            return _BY_BITS[bits]
        names = (name for name in extensions if len(name) <= _MAX_EXTENSION_CHARS)
        return cls(bits, tuple(sorted(names)[:_MAX_EXTENSIONS]))

    def missing_for(self, method: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the capabilities a question needs and the client lacks, None where it lacks none.

        The answer has the shape of `ClientCapabilities`, ready for `data.requiredCapabilities`.
        Spec: 2026-07-28 basic/patterns/mrtr, server requirement 8.
        """
        if method == "sampling/createMessage":
            if not self.sampling:
                return {"sampling": {}}
            needs_tools = bool(params.get("tools")) or "toolChoice" in params
            return {"sampling": {"tools": {}}} if needs_tools and not self.sampling_tools else None
        if method == "roots/list":
            return None if self.roots else {"roots": {}}
        if params.get("mode") == "url":
            return None if self.url else {"elicitation": {"url": {}}}
        return None if self.form else {"elicitation": {"form": {}}}

    def without_roots_changed(self) -> ClientCapabilities:
        """Give the same, promising no news of roots: for whoever would not be told."""
        if not self.bits & _ROOTS_CHANGED:
            return self
        return ClientCapabilities(bits_without_roots_changed(self.bits), self.extensions)

    def to_declaration(self) -> dict[str, Any]:
        """Rebuild the `capabilities` object these bits stand for."""
        declared: dict[str, Any] = {}
        if self.sampling:
            sampling: dict[str, Any] = {}
            if self.sampling_tools:
                sampling["tools"] = {}
            if self.bits & _SAMPLING_CONTEXT:
                sampling["context"] = {}
            declared["sampling"] = sampling
        if self.roots:
            declared["roots"] = {"listChanged": True} if self.bits & _ROOTS_CHANGED else {}
        if self.form or self.url:
            modes = {"form": self.form, "url": self.url}
            declared["elicitation"] = {mode: {} for mode, has in modes.items() if has}
        if self.extensions:
            declared["extensions"] = {name: {} for name in self.extensions}
        return declared


def bits_without_roots_changed(bits: int) -> int:
    """Give the bits of capabilities that promise no news of roots."""
    return bits & ~_ROOTS_CHANGED


_BY_BITS = tuple(ClientCapabilities(bits) for bits in range(128))
NO_CAPABILITIES = _BY_BITS[0]
