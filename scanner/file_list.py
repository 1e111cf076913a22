"""Files named in a list, one a line, read as it comes: `--files-from`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, cast

from scanner.errors import ImgscanError, UsageError
from scanner.roots import Met, look_up
from scanner.rules import WalkCounts, WalkRules
from scanner.spool import Spool
from scanner.types import Failed, ImageRef
from scanner.walk import Walker

_CHUNK_BYTES = 1 << 16
# No path that a system takes is nearly so long. A list of another separator would be one line.
_MAX_NAME_BYTES = 1 << 17


def find_listed(
    source: Path,
    *,
    null: bool,
    counts: WalkCounts,
    rules: WalkRules,
    spool: Spool | None = None,
) -> Iterator[ImageRef | Failed]:
    """One `ImageRef` or `Failed` for each name in the file `source`, "-" being standard input.

    Names end in a line feed (or in both marks of Windows), with `null` in a NUL; empty ones are
    passed over. They are taken as they are, relative to the working directory, each for itself:
    a file listed twice comes twice. A folder is a `Failed`. Of the rules only those on patterns,
    size and time apply, and `counts` has what they leave out. The list is read as it is needed,
    never whole.

    Raises UsageError, before anything is read, if the list cannot be opened or a pattern is
    none, and ImgscanError if reading the list fails midway.
    """
    walker = Walker(rules, counts, Met((), every_folder=False), spool)
    try:
        opened = nullcontext(_stdin()) if str(source) == "-" else source.open("rb")
        if source.is_dir():
            raise IsADirectoryError(0, "that is a folder")
    except OSError as error:
        raise UsageError(f"--files-from {source}: {error.strerror}") from None
    except AttributeError:  # sys.stdin is None: closed by whoever started this
        raise UsageError("--files-from -: there is no standard input") from None
    return _listed(opened, source, walker, null=null)


def _stdin() -> BinaryIO:
    # Without its buffer: Python, as it ends, would wait for the lock of one that a thread reads.
    return cast(BinaryIO, getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))


def _listed(
    opened: BinaryIO | nullcontext[BinaryIO], source: Path, walker: Walker, *, null: bool
) -> Iterator[ImageRef | Failed]:
    with opened as stream:
        for name in _names(stream, source, b"\0" if null else b"\n"):
            path = Path(os.fsdecode(name[:_MAX_NAME_BYTES]))
            if not null and name.endswith(b"\r") and not os.path.lexists(path):
                # A list written on Windows; a name may end so elsewhere, and then exists.
                if name == b"\r":
                    continue
                path = Path(os.fsdecode(name[:-1][:_MAX_NAME_BYTES]))
            root = look_up(path)
            if isinstance(root, Failed):
                yield root
            elif root.is_folder:
                detail = "a folder; a list names files: give the folder as a PATH"
                yield Failed(ImageRef(path), "not_an_image", detail)
            else:
                yield from walker.listed(root)


def _names(stream: BinaryIO, source: Path, end: bytes) -> Iterator[bytes]:
    rest = b""
    while True:
        try:
            # What a pipe has, without waiting for more.
            chunk = getattr(stream, "read1", stream.read)(_CHUNK_BYTES)
        except OSError as error:
            raise ImgscanError(f"--files-from {source}: {error.strerror}") from None
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(end)
        yield from filter(None, whole)
        # What is too long for a path stays so, and need not be kept.
        rest = rest[: _MAX_NAME_BYTES + 1]
    if rest:
        yield rest
