"""Which files are to be scanned: roots to a stream of `ImageRef`, in a stable order."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanner.errors import UsageError
from scanner.formats import HEAD_BYTES, KNOWN_EXTENSIONS, sniff
from scanner.types import Failed, ImageRef, Reason

_WINDOWS = os.name == "nt"
_MOUNT_POINT = 0xA0000003  # stat.IO_REPARSE_TAG_MOUNT_POINT, which other systems lack


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
    infos = [_root_info(root) for root in roots]
    return _find(roots, infos, counts or WalkCounts())


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


def _root_info(root: Path) -> os.stat_result:
    try:
        info = root.stat()
    except FileNotFoundError:
        if root.is_symlink():
            raise UsageError(f"{root}: a link to what does not exist") from None
        raise UsageError(f"{root}: no such file or folder") from None
    except OSError as error:
        raise UsageError(f"{root}: {error.strerror or 'cannot be read'}") from None
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        raise UsageError(f"{root}: neither a file nor a folder (a device, pipe or socket)")
    return info


class _Roots:
    """Which of the roots have been met, by whatever spelling.

    No link is followed below a root, so a path there is its root's real path plus names, and
    only what is itself a root can be met twice: no set of all files seen is needed. A folder is
    told by its number in the file system. A file may have many names, of which each counts; its
    number only tells whether two spellings that differ in case or in how accents are composed
    are one name to the file system.
    """

    def __init__(self, reals: Sequence[str], infos: Sequence[os.stat_result]) -> None:
        self._folders: set[object] = set()
        self._files: set[str] = set()
        self._met: set[object] = set()
        for real, info in zip(reals, infos, strict=True):
            if stat.S_ISDIR(info.st_mode):
                self._folders.add(_number(info, real))
            else:
                self._files.add(_folded(real))

    def first_time(self, real: str, info: os.stat_result) -> bool:
        """Whether the folder or file at `real` has not been met; from now on it has."""
        if stat.S_ISDIR(info.st_mode):
            key: object = _number(info, real)
            if key not in self._folders:
                return True
        else:
            key = (_folded(real), _number(info, real))
        if key in self._met:
            return False
        self._met.add(key)
        return True

    def names_file(self, real: str) -> bool:
        """Whether a root may be the file at `real`."""
        return bool(self._files) and _folded(real) in self._files


def _number(info: os.stat_result, real: str) -> object:
    # Some file systems have no numbers.
    return (info.st_dev, info.st_ino) if info.st_ino else real


def _folded(real: str) -> str:
    return unicodedata.normalize("NFC", real).casefold()


def _find(
    paths: Sequence[Path], infos: Sequence[os.stat_result], counts: WalkCounts
) -> Iterator[ImageRef | Failed]:
    reals = [os.path.realpath(path) for path in paths]
    roots = _Roots(reals, infos)
    for path, real, info in zip(paths, reals, infos, strict=True):
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(path, real, roots, counts)
        elif roots.first_time(real, info):
            yield ImageRef(path)


def _walk(
    root: Path, real_root: str, roots: _Roots, counts: WalkCounts
) -> Iterator[ImageRef | Failed]:
    # (folder, its real path, the names in it still to visit)
    stack: list[tuple[Path, str, Iterator[tuple[str, bool]]]] = []

    def enter(folder: Path, real: str) -> Failed | None:
        try:
            if not roots.first_time(real, folder.stat()):
                return None
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
        real = os.path.join(real_folder, name)  # noqa: PTH118 - a str, as its root's
        if is_folder:
            failed = enter(path, real)
            if failed is not None:
                yield failed
            continue
        named = roots.names_file(real)
        if named:
            try:
                if not roots.first_time(real, path.lstat()):
                    continue
            except OSError as error:
                yield failed_to_open(path, error)
                continue
        if named or os.path.splitext(name)[1].lower() in KNOWN_EXTENSIONS:  # noqa: PTH122
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
            if entry.is_symlink() or _is_junction(entry):
                counts.symlinks += 1
            elif entry.is_dir(follow_symlinks=False):
                names.append((entry.name, True))
            elif entry.is_file(follow_symlinks=False):
                names.append((entry.name, False))
    names.sort(key=lambda item: os.fsencode(item[0]))
    return names


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """A link between folders that Windows does not call one; it may lead into a circle."""
    if not _WINDOWS:
        return False
    tag = getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0)
    return bool(tag == _MOUNT_POINT)


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
