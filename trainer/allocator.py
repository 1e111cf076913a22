"""Keep freed memory in the process: tensors of one step are then reused by the next."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc not to hand large freed blocks back to the kernel; False where there is none.

    By default each activation of more than 32 MB is mapped, zeroed page by page and unmapped
    again; on the CPU that took two thirds of a convolutional encoder's time (docs/training.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGE))
