"""A credential nobody can judge at once.

Knows that judging it takes waiting. A door that meets one waits before it reads a byte of the body.
Refuses to know what is waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # annotations only
    from waygate_mcp.model.principal import Principal

__all__ = ["UnverifiedError"]


class UnverifiedError(Exception):
    """Raised by an `Authenticator` instead of deciding; `verify` decides, within a bound of seconds.

    `verify` raises what `Authenticator.authenticate` raises, and `UpstreamError` or `LimitError` where
    nobody can judge the credential now.
    """

    def __init__(self, verify: Callable[[], Awaitable[Principal]]) -> None:
        self.verify = verify
        super().__init__("the credential is not verified yet")
