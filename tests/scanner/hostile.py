"""Decoders that fail as real ones do. Worker processes import this by name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scanner import images
from scanner.limits import DecodeLimits
from scanner.memory import KnownContent
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed, FileFacts, ImageRef, Pixels, Scored

Answer = Callable[[FileFacts], Scored | Failed | None]

_lost: list[np.ndarray] = []


def decode(
    ref: ImageRef, spec: PreprocessSpec, limits: DecodeLimits, *, known: Answer
) -> Pixels | Scored | Failed:
    """Does what the first word of the file's name says; otherwise decodes it."""
    match ref.path.stem.split("-")[0]:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(1000)
        case "deaf":  # a library that neither returns nor lets Python run
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            ctypes.PyDLL(None).sleep(1000)
        case "slow":
            time.sleep(0.4)
        case "eat":
            eaten = bytearray(3 * 2**30)
            eaten[:: 2**12] = b"x" * len(eaten[:: 2**12])
        case "eat_numpy":
            np.ones(3 * 2**30, np.uint8).sum()
        case "lose":
            _lost.append(np.ones(150 * 2**20, np.uint8))
        case "raise":
            raise ZeroDivisionError("a defect\nof the decoder")
        case "pid":
            ref.path.with_suffix(".pid").write_text(str(os.getpid()))
    return images.decode(ref, spec, limits, known=known)


def stuck(
    ref: ImageRef, spec: PreprocessSpec, limits: DecodeLimits, *, known: Answer
) -> Pixels | Scored | Failed:
    """Like a disk that does not answer; says so by a file beside the picture."""
    Path(f"{ref.path}.pid").write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(1000)
    sys.exit("never here")


class Known:
    """Contents for worker processes: everything is known, and was scored 0.75."""

    def find(self, sha256: str, kind: str | None) -> KnownContent | None:
        return KnownContent(0.75, None, "", FileFacts(width=7, height=8, format="PNG"))
