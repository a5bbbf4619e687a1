"""What happens to definitions of upstreams that nobody approved.

Knows the words of the document. Refuses to know how a definition is recognised.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["Quarantine", "quarantine_notes"]

Quarantine = Literal["on", "first-use", "off"]


def quarantine_notes(modes: dict[str, Quarantine]) -> tuple[str, ...]:
    """Say what is risked at upstreams with these modes; nothing where nothing is."""
    names = [name for name, mode in modes.items() if mode == "off"]
    if not names:
        return ()
    text = (
        f"quarantine is off for {', '.join(names)}: whoever runs such a server can give its tools another "
        "meaning after you looked at them, and models will believe it; `first-use` holds changes back"
    )
    return (text,)
