"""What decoding one file may cost at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Files above these are refused, as `too_large`, before their pixels are decoded.

    `max_pixels` is width times height as the file's header declares them; the default lies above
    the largest phone sensors (200 megapixels) and is 0.9 GB as RGB. `max_bytes` is the file's
    size: a decoder may hold all that a file says besides its pixels (profiles, tags, comments),
    and the default is room for 300 megapixels stored as they are.
    """

    max_pixels: int = 300_000_000
    max_bytes: int = 2**30

    def __post_init__(self) -> None:
        if self.max_pixels < 1 or self.max_bytes < 1:
            raise ValueError("max_pixels and max_bytes must be 1 or more")


DEFAULT_LIMITS = DecodeLimits()
