"""How the parts of decoding say "not this one": caught in scanner.images, and only there."""

from __future__ import annotations

from scanner.types import Reason


class RefusedError(Exception):
    """A picture that is understood and not decoded, with the row's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
