"""What a scan is pointed at, and which of it has been met, by whatever spelling."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scanner.opening import failed_to_open
from scanner.types import Failed, ImageRef


@dataclass(frozen=True, slots=True)
class Root:
    """A file or folder that was named, with its real path."""

    path: Path
    real: str
    info: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether there is something to walk."""
        return stat.S_ISDIR(self.info.st_mode)


def look_up(path: Path) -> Root | Failed:
    """The root that `path` names, or the row that says why it is none."""
    try:
        info = path.stat()
    except FileNotFoundError:
        missing = "a link to what does not exist" if path.is_symlink() else "no such file or folder"
        return Failed(ImageRef(path), "vanished", missing)
    except OSError as error:
        return failed_to_open(path, error)
    except ValueError:  # the one thing that no path may hold
        detail = "the name holds a NUL; if the list is separated by NULs, give --null"
        return Failed(ImageRef(path), "vanished", detail)
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        detail = "neither a file nor a folder (a device, pipe or socket)"
        return Failed(ImageRef(path), "unreadable", detail)
    return Root(path, os.path.realpath(path), info)


class Met:
    """Which of the roots, and with `every_folder` which of all folders, have been met.

    Where no link is followed below a root, a path there is its root's real path plus names, and
    only what is itself a root can be met twice: no set of all folders seen is needed. A folder
    is told by its number in the file system. A file may have many names, of which each counts;
    its number only tells whether two spellings that differ in case or in how accents are
    composed are one name to the file system.
    """

    def __init__(self, roots: Sequence[Root], *, every_folder: bool) -> None:
        self._every_folder = every_folder
        self._folders = {_number(root.info, root.real) for root in roots if root.is_folder}
        self._files = {_folded(root.real) for root in roots if not root.is_folder}
        self._met: dict[object, str] = {}

    def first_time(self, real: str, info: os.stat_result) -> bool:
        """Whether the folder or file at `real` has not been met; from now on it has."""
        if stat.S_ISDIR(info.st_mode):
            key: object = _number(info, real)
            if not self._every_folder and key not in self._folders:
                return True
        else:
            key = (_folded(real), _number(info, real))
        if key in self._met:
            # One file by two names that differ in case alone: one entry of a folder, or two
            # hard links, which are two.
            twin = not stat.S_ISDIR(info.st_mode) and _both_listed(self._met[key], real)
            key = (key, real)
            if not twin or key in self._met:
                return False
        self._met[key] = real
        return True

    def names_file(self, real: str) -> bool:
        """Whether a root may be the file at `real`."""
        return _folded(real) in self._files

    @property
    def names_files(self) -> bool:
        """Whether any root is a file."""
        return bool(self._files)


def _both_listed(one: str, other: str) -> bool:
    """Whether these are two entries: in folders that are two, or in one that has both names."""
    if one == other:
        return False
    (ours, name), (theirs, twin) = os.path.split(one), os.path.split(other)
    try:
        if not Path(ours).samefile(theirs):
            return True
        return name != twin and {name, twin} <= set(os.listdir(ours))  # noqa: PTH208 - names alone
    except OSError:
        return True  # who cannot say scans one file twice rather than leave one out


def _number(info: os.stat_result, real: str) -> object:
    # Some file systems have no numbers.
    return (info.st_dev, info.st_ino) if info.st_ino else real


def _folded(real: str) -> str:
    return unicodedata.normalize("NFC", real).casefold()
