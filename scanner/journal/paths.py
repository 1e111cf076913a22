"""Refs as the journal's keys: a folder's number, and a name in it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from scanner.types import ImageRef

# Folders of which the number is at hand. A walk leaves a folder and does not come back.
_AT_HAND = 4096


def split(ref: ImageRef) -> tuple[str, bytes]:
    """The folder as it was given, and the key's name: no name holds "/", so it ends one."""
    folder, name = os.path.split(ref.path)
    key = os.fsencode(name)
    if ref.member is not None:
        # A member's name may be any text, lone surrogates included.
        key += b"/" + ref.member.encode("utf-8", "surrogatepass")
    return folder, key


def join(folder: bytes, key: bytes) -> ImageRef:
    """The ref, with an absolute path."""
    name, slash, member = key.partition(b"/")
    path = Path(os.path.join(os.fsdecode(folder), os.fsdecode(name)))  # noqa: PTH118 - a str
    return ImageRef(path, member.decode("utf-8", "surrogatepass") if slash else None)


def real_folder(folder: str) -> bytes:
    """The bytes of the one name of `folder` that every way of spelling it leads to."""
    return os.fsencode(os.path.realpath(folder))


class FolderIds:
    """Numbers of folders by the path as given; those met last are kept at hand."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._new: dict[str, int] = {}

    def find(self, connection: sqlite3.Connection, folder: str) -> int | None:
        """The folder's number, if the journal has it."""
        number = self._ids.get(folder)
        if number is None:
            found = connection.execute(
                "SELECT id FROM folders WHERE path = ?", (real_folder(folder),)
            ).fetchone()
            if found is None:
                return None
            number = int(found[0])
            self._remember(folder, number)
        return number

    def find_or_add(self, connection: sqlite3.Connection, folder: str) -> int:
        """The folder's number. Inside a transaction, on which `committed()` must follow."""
        number = self._new.get(folder)
        if number is None:
            number = self.find(connection, folder)
        if number is None:
            path = real_folder(folder)
            found = connection.execute(
                "INSERT INTO folders (path) VALUES (?) ON CONFLICT DO UPDATE SET path = path "
                "RETURNING id",
                (path,),
            ).fetchone()
            # Not a number to rely on before it is committed.
            number = self._new[folder] = int(found[0])
        return number

    def committed(self, kept: bool = True) -> None:
        """The transaction's new folders are there to stay; or, not `kept`, are not there."""
        if kept:
            for folder, number in self._new.items():
                self._remember(folder, number)
        self._new.clear()

    def _remember(self, folder: str, number: int) -> None:
        if len(self._ids) >= _AT_HAND:
            self._ids.clear()
        self._ids[folder] = number
