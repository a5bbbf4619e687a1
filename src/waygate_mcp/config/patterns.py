"""How names are written in the document, as patterns."""

from __future__ import annotations

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""A name of ours."""

PREFIX_PATTERN = r"^([a-z0-9][a-z0-9_-]{0,62})?$"
"""A name of ours, or nothing."""

BOUND_PATTERN = r"^(\*|[a-z0-9][a-z0-9_-]{0,62})$"
"""A name of ours, or `*` for all."""

USE_PATTERN = (
    r"^([A-Za-z_][A-Za-z0-9_.-]*|(\.\.?/|/)[^:\x00-\x1f]*\.py)(:[A-Za-z_][A-Za-z0-9_.]*)?$"
)
"""`module`, `./file.py`, either with `:attribute`, or the name of an entry point."""

PUBLIC_NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""A name every client takes."""

URI_PREFIX_PATTERN = r"^[a-z][a-z0-9.-]{0,31}$"
"""What may stand before `+` in the scheme of a URI, and in its path."""

SCHEME_PATTERN = r"^[a-z][a-z0-9+.-]{0,63}$"
"""The scheme of a URI."""

SCOPE_PATTERN = r"^[\x21\x23-\x5b\x5d-\x7e]{1,256}$"
"""An OAuth scope (RFC 6749, 3.3): nothing in it can end a quoted text."""

GRANT_PATTERN = r"^(\*|[a-z0-9][a-z0-9_-]{0,62}(:\S{1,256})?)$"
"""What a claim's value may grant."""

TOKEN_TYPE_PATTERN = r"^[a-z0-9.+-]{1,64}$"
"""The `typ` of a token, in lower case."""
