"""Which files are to be scanned: roots to a stream of `ImageRef`, in a stable order."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanner.errors import UsageError
from scanner.formats import HEAD_BYTES, KNOWN_EXTENSIONS, sniff
from scanner.types import Failed, ImageRef, Reason


@dataclass(slots=True)
class WalkCounts:
    """What a walk met and left out. Filled while `find_images()` is iterated."""

    symlinks: int = 0


def find_images(
    roots: Sequence[Path], counts: WalkCounts | None = None
) -> Iterator[ImageRef | Failed]:
    """The pictures under `roots`, each file once, depth first, names in the order of their bytes.

    A root may be a folder, or a file, which then gets a row whatever it is. Links met on the
    way are not followed (`counts` says how many there were); a root that is itself a link is.
    Only the listings of the folders at hand are kept. A folder that cannot be listed, or a
    file that cannot be opened to see what it is, is a `Failed`.

    Raises UsageError, before anything is scanned, for a root that does not exist or is neither
    a file nor a folder.
    """
    modes = [_root_mode(root) for root in roots]
    return _find(roots, modes, counts or WalkCounts())


def open_regular(path: Path) -> tuple[int, int]:
    """A descriptor for reading and the size in bytes; OSError for anything but a plain file.

    Never waits: a pipe put in the place of a file since it was listed is opened without
    blocking, seen for what it is, and closed.
    """
    flags = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):  # those the system has
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
    except BaseException:
        os.close(fd)
        raise
    return fd, info.st_size


def failed_to_open(path: Path, error: OSError) -> Failed:
    """The row of a file or folder that the operating system would not hand over."""
    reason: Reason
    match error:
        case PermissionError():
            reason = "permission"
        case FileNotFoundError() | NotADirectoryError():
            reason = "vanished"
        case _:
            reason = "unreadable"
    return Failed(ImageRef(path), reason, error.strerror or type(error).__name__)


def _root_mode(root: Path) -> int:
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"{root}: no such file or folder") from None
    except OSError as error:
        raise UsageError(f"{root}: {error.strerror or 'cannot be read'}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError(f"{root}: neither a file nor a folder (a device, pipe or socket)")
    return mode


def _find(
    roots: Sequence[Path], modes: Iterable[int], counts: WalkCounts
) -> Iterator[ImageRef | Failed]:
    # No link is followed below a root, so a path there is its root's real path plus names, and
    # overlapping roots can be told by comparing texts: no set of all files seen is needed.
    real_roots = [os.path.realpath(root) for root in roots]
    wanted = set(real_roots)
    done: set[str] = set()
    for root, real, mode in zip(roots, real_roots, modes, strict=True):
        if real in done:
            continue
        done.add(real)
        if stat.S_ISREG(mode):
            yield ImageRef(root)
        else:
            yield from _walk(root, real, wanted, done, counts)


def _walk(
    root: Path, real_root: str, wanted: set[str], done: set[str], counts: WalkCounts
) -> Iterator[ImageRef | Failed]:
    # (folder, its real path, the names in it still to visit)
    stack: list[tuple[Path, str, Iterator[tuple[str, bool]]]] = []

    def enter(folder: Path, real: str) -> Failed | None:
        try:
            names = _listing(folder, counts)
        except OSError as error:
            return failed_to_open(folder, error)
        stack.append((folder, real, iter(names)))
        return None

    failed = enter(root, real_root)
    if failed is not None:
        yield failed
    while stack:
        folder, real_folder, names = stack[-1]
        entry = next(names, None)
        if entry is None:
            stack.pop()
            continue
        name, is_folder = entry
        path = folder / name
        real = os.path.join(real_folder, name)  # noqa: PTH118 - a str, as in `wanted`
        named = real in wanted
        if named:
            if real in done:
                continue
            done.add(real)
        if is_folder:
            failed = enter(path, real)
            if failed is not None:
                yield failed
        elif named or os.path.splitext(name)[1].lower() in KNOWN_EXTENSIONS:  # noqa: PTH122
            yield ImageRef(path)
        else:
            found = _by_content(path)
            if found is not None:
                yield found


def _listing(folder: Path, counts: WalkCounts) -> list[tuple[str, bool]]:
    """(name, whether it is a folder) of the plain files and folders, sorted by the name's bytes."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                counts.symlinks += 1
            elif entry.is_dir(follow_symlinks=False):
                names.append((entry.name, True))
            elif entry.is_file(follow_symlinks=False):
                names.append((entry.name, False))
    names.sort(key=lambda item: os.fsencode(item[0]))
    return names


def _by_content(path: Path) -> ImageRef | Failed | None:
    try:
        fd, size = open_regular(path)
        try:
            head = os.read(fd, HEAD_BYTES) if size else b""
        finally:
            os.close(fd)
    except OSError as error:
        return failed_to_open(path, error)
    return ImageRef(path) if sniff(head) else None
