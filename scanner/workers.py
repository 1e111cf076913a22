"""What runs in a worker process: files to squares, within limits that spare everything else."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.domain import with_notes
from scanner.formats import name_notes
from scanner.images import NO_MEMORY, decode
from scanner.limits import DecodeLimits, Limits
from scanner.memory import Contents
from scanner.preprocess import PreprocessSpec, resized_squares
from scanner.reading import one_large_at_a_time
from scanner.types import Failed, FileFacts, ImageRef, Pixels, Scored

# A worker ends itself with this status to be replaced by a fresh one; see `_overgrown()`.
RECYCLED = 77
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class Decode(Protocol):
    """A file to pixels; `decode_file` is one."""

    def __call__(
        self,
        ref: ImageRef,
        spec: PreprocessSpec,
        limits: DecodeLimits,
        *,
        known: Callable[[FileFacts], Scored | Failed | None],
    ) -> Pixels | Failed | Scored:
        """The picture, or what `known` answered once the file's hash was known."""


def decode_file(
    ref: ImageRef,
    spec: PreprocessSpec,
    limits: DecodeLimits,
    *,
    known: Callable[[FileFacts], Scored | Failed | None],
) -> Pixels | Failed | Scored:
    """`scanner.images.decode` for whatever a scan may know."""
    return decode(ref, spec, limits, known=known)


@dataclass(frozen=True, slots=True)
class Squares:
    """A picture on its way to the model: uint8 [V, S, S, 3], not yet normalised."""

    ref: ImageRef
    squares: npt.NDArray[np.uint8]
    facts: FileFacts


Decoded: TypeAlias = Squares | Scored | Failed


@dataclass(frozen=True, slots=True)
class Setup:
    """What every worker is started with; picklable."""

    spec: PreprocessSpec
    limits: Limits
    contents: Contents | None = None
    decode: Decode = decode_file
    # A file by which the workers take turns over large pictures, and how many may at a time.
    turns: Path | None = None
    slots: int = 1


# What decoding takes at most, in bytes a pixel: measured by lowering --memory-limit until it
# fails. JPEG 2000 takes 20, WebP 18; a progressive JPEG holds its coefficients, 6, and the rows.
_MOST_BYTES_A_PIXEL = 22
_BYTES_A_PIXEL = {"JPEG": 10}

_setup: Setup
_memory_at_start = 0
_limit_bytes: int | None = None  # of data and stacks, as the kernel enforces it
_did_some = False


def start(setup: Setup) -> None:
    """Make this process a worker. Called once in each, before any work."""
    global _setup, _memory_at_start
    _setup = setup
    # pebble's own handler is Python's, which a decoder that hangs would not let run.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    _keep_freed_memory()
    _memory_at_start = _private_bytes()
    _limit_memory(setup.limits.memory_mb)
    if setup.turns is not None:
        # Vanished with a scan that is over already: then nobody is left to share it with.
        with suppress(OSError):
            patience_s = setup.limits.timeout_s / 4
            one_large_at_a_time.share(setup.turns, setup.slots, patience_s)
    # Decoders and the C library complain of single files on stderr, in the middle of the
    # progress bar; what there is to say of a file is in its row.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def work(refs: Sequence[ImageRef], begin_s: float) -> list[Decoded]:
    """The first of `refs` decoded; at least one, and none is begun after `begin_s` seconds."""
    global _did_some
    if _did_some and _overgrown():
        os._exit(RECYCLED)
    _did_some = True
    started = time.monotonic()
    done: list[Decoded] = []
    for ref in refs:
        if done and (time.monotonic() - started > begin_s or _overgrown()):
            break
        done.append(_prepare(ref))
    return done


def _prepare(ref: ImageRef) -> Decoded:
    spec = _setup.spec
    try:
        pixels = _setup.decode(
            ref, spec, _setup.limits.decode, known=lambda facts: _remembered(ref, facts)
        )
        if isinstance(pixels, Failed):
            return _if_for_memory(pixels)
        if not isinstance(pixels, Pixels):
            return pixels
        squares = resized_squares(pixels.rgb, spec, pixels.box)
        return Squares(ref, squares, with_notes(pixels.facts, squares))
    except MemoryError:
        return Failed(ref, "too_large", _no_memory())


def _if_for_memory(failed: Failed) -> Failed:
    """What failed for lack of memory, though its decoder says something else.

    libwebp, libavif, libjpeg and OpenJPEG report an allocation that fails as damage. A picture
    that may need more than was left is taken to have failed for that: were it damaged as well,
    it would still have to be tried with more memory.
    """
    limit_mb, facts = _setup.limits.memory_mb, failed.facts
    if failed.reason == "too_large" and failed.detail == NO_MEMORY:
        return replace(failed, detail=_no_memory())
    if limit_mb is None or _limit_bytes is None or failed.reason not in ("unreadable", "truncated"):
        return failed
    pixels = (facts.width or 0) * (facts.height or 0)
    left = min(limit_mb * 2**20, _limit_bytes - _private_bytes())
    if pixels * _BYTES_A_PIXEL.get(facts.format or "", _MOST_BYTES_A_PIXEL) <= left:
        return failed
    return replace(failed, reason="too_large", detail=_no_memory())


def _no_memory() -> str:
    limit = _setup.limits.memory_mb
    allowed = "" if limit is None else f" within {limit} MB"
    return f"{NO_MEMORY}{allowed}; a higher --memory-limit allows more"


def _remembered(ref: ImageRef, facts: FileFacts) -> Scored | Failed | None:
    """The result of these very bytes, wherever they lay; `facts` has the file's own."""
    if _setup.contents is None or facts.sha256 is None:
        return None
    known = _setup.contents.find(facts.sha256, facts.format)
    if known is None:
        return None
    facts = replace(
        known.facts,
        bytes=facts.bytes,
        sha256=facts.sha256,
        mtime_ns=facts.mtime_ns,
        notes=(*name_notes(ref, known.facts.format), *known.facts.notes),
    )
    if known.p_fake is not None:
        return Scored(ref, known.p_fake, facts)
    return Failed(ref, known.reason or "unreadable", known.detail, facts)


def _overgrown() -> bool:
    """Whether decoders have lost so much memory here that the next file would pay for it."""
    limit = _setup.limits.memory_mb
    return limit is not None and _private_bytes() - _memory_at_start > limit * 2**20 // 2


def _limit_memory(memory_mb: int | None) -> None:
    """Allocations beyond fail, and Python and Pillow make a MemoryError of that."""
    global _limit_bytes
    if sys.platform != "linux":
        return
    import resource

    # A crash must not leave a file of gigabytes in the working directory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is None:
        return
    # Counts what is allocated, not files that are mapped and libraries: RLIMIT_AS would.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = _memory_at_start + memory_mb * 2**20
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    _limit_bytes = soft


def _keep_freed_memory() -> None:
    """Tell glibc to use a picture's memory for the next one.

    By default it goes back to the kernel and comes again zeroed, page by page: a seventh of the
    time that decoding takes (docs/performance.md).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the highest that glibc takes
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def _private_bytes() -> int:
    """Data and stacks of this process; 0 where that is not enforced."""
    if sys.platform != "linux":
        return 0
    pages = Path("/proc/self/statm").read_bytes().split()[5]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _end_with_parent() -> None:
    """However the scan's process ends, this one does not outlive it."""
    if sys.platform == "linux":
        # The kernel's signal also reaches a decoder that never lets Python run. This process's
        # parent is the fork server, which ends once nobody holds the other end of its pipe:
        # neither the scan's process nor, as Python would have it, the workers.
        server = sys.modules.get("multiprocessing.forkserver")
        held = getattr(getattr(server, "_forkserver", None), "_forkserver_alive_fd", None)
        if held is not None:
            os.close(held)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
