"""What one file may cost before it is given up, and how many processes decode."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


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
_SPARED_MB = 1024


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
    """What leaves room for all workers in `memory_for_workers_mb()`, in 512..4096 MiB."""
    available = memory_for_workers_mb()
    if available is None:
        return _MOST_MEMORY_MB
    return max(_LEAST_MEMORY_MB, min(_MOST_MEMORY_MB, available // workers))


def large_at_a_time(limits: Limits) -> int:
    """How many workers may decode a large picture at a time without running out of memory."""
    available = memory_for_workers_mb()
    if available is None:
        return limits.workers
    return min(limits.workers, max(1, available // (limits.memory_mb or _MOST_MEMORY_MB)))


def memory_for_workers_mb() -> int | None:
    """Memory (MiB) of this machine or container without a share for the main process.

    That has the model, and the system its files: a fifth, and 1 GiB at least, though never more
    than half. None where the system does not tell.
    """
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    total_mb = min([total, *cgroup_limits()]) // 2**20
    return total_mb - min(max(_SPARED_MB, total_mb // 5), total_mb // 2)


def cgroup_limits(root: Path = Path("/")) -> list[int]:
    """In bytes, of the control groups (v1 and v2) this process is in, up to the topmost.

    Empty where there are none. `root` is where /proc and /sys are.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's, and only the topmost is there.
        group = PurePosixPath(path.lstrip("/"))
        for part in (group, *group.parents):
            try:
                text = (top / part / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():  # "max": no limit
                found.append(int(text))
    return found
