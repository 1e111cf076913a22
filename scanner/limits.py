"""What one file may cost before it is given up, and how many processes decode."""

from __future__ import annotations

import os
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

DEFAULT_TIMEOUT_S = 60.0
# Room for three copies of the largest picture, which transparency takes.
_MOST_MEMORY_MB, _LEAST_MEMORY_MB = 4096, 512


@dataclass(frozen=True, slots=True)
class Limits:
    """`workers` processes decode; the rest holds for each single file.

    `timeout_s` is in seconds from when its decoding begins. `memory_mb` (MiB; None for no
    limit) is what decoding may take beyond what the process had at its start; Linux alone
    enforces it. `decode` is what is refused before it is decoded.
    """

    workers: int
    timeout_s: float = DEFAULT_TIMEOUT_S
    memory_mb: int | None = None
    decode: DecodeLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError("workers must be 1 or more")
        if not self.timeout_s > 0:
            raise ValueError("timeout_s must be above 0")
        if self.memory_mb is not None and self.memory_mb < 1:
            raise ValueError("memory_mb must be 1 or more")


def default_workers() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_memory_mb(workers: int) -> int:
    """What leaves room for all workers in the machine's memory, in 512..4096 MiB."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return _MOST_MEMORY_MB
    return max(_LEAST_MEMORY_MB, min(_MOST_MEMORY_MB, physical // workers))
