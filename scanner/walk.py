"""A folder to a stream of `ImageRef`, depth first, by the rules that are asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from scanner.archives import (
    CHANGED,
    ArchiveKind,
    MemberError,
    archive_kind,
    list_members,
    locate,
    named_as_archive,
    read_head,
)
from scanner.formats import HEAD_BYTES, KNOWN_EXTENSIONS, sniff
from scanner.ignore import IGNORE_FILE, Patterns, option_patterns, read_ignore_file
from scanner.members import Listed
from scanner.opening import failed_to_open, open_regular
from scanner.roots import Met, Root
from scanner.rules import Cause, WalkCounts, WalkRules
from scanner.spool import Spool
from scanner.types import Failed, ImageRef

_WINDOWS = os.name == "nt"
_MOUNT_POINT = 0xA0000003  # stat.IO_REPARSE_TAG_MOUNT_POINT, which other systems lack
_HIDDEN = 0x2  # stat.FILE_ATTRIBUTE_HIDDEN

_Kind = Literal["folder", "file"]
# A name in a folder: what it is, or the row of what could not be found out, or why it is left out
# unless it turns out to be an archive, which is looked into first.
_Entry = tuple[str, _Kind | Failed | Cause]
# What a picture may be left out for without its archive being so.
_OF_PICTURES: tuple[Cause, ...] = ("not_included", "small", "large")


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str  # to open and to show
    real: str  # without links, to tell what is met twice
    below: str  # from the root, for patterns: "" or ends in "/"
    # Of this folder and those over it, the innermost first, with where they lie.
    ignores: tuple[tuple[str, Patterns], ...]


class Walker:
    """Walks folders under one set of rules, and counts what they leave out.

    Raises UsageError for patterns that are none.
    """

    def __init__(
        self, rules: WalkRules, counts: WalkCounts, met: Met, spool: Spool | None = None
    ) -> None:
        self._rules = rules
        self._spool = spool
        if rules.archives and spool is not None:
            spool.tidy()
        self._left_out = counts.left_out
        self._met = met
        self._include = option_patterns("--include", rules.include)
        self._exclude = option_patterns("--exclude", rules.exclude)

    def named(self, root: Root) -> Iterator[ImageRef | Failed]:
        """A file that was named, unless it was met before: a row whatever it is."""
        if self._met.first_time(root.real, root.info):
            yield from self.listed(root)

    def listed(self, root: Root) -> Iterator[ImageRef | Failed]:
        """The same, of which nothing is remembered. Options on name, size and time apply."""
        folder, name = _Folder(str(root.path.parent), "", "", ()), root.path.name
        cause = self._pattern_cause(name, is_folder=False)
        cause = cause or self._facts_cause(root.info)
        if self._may_be_archive(name) and (cause is None or cause in _OF_PICTURES):
            head = _head(root.path)
            if not isinstance(head, Failed) and (kind := self._archive_kind(name, head)):
                yield from self._members(folder, root.path, kind)
                return
        if cause is None:
            yield ImageRef(root.path)
        else:
            self._left_out[cause] += 1

    def walk(self, root: Root) -> Iterator[ImageRef | Failed]:
        """The pictures in and below a folder.

        Only the listings of the folders on the way down to the present file are kept. What
        cannot be listed or looked into is a `Failed`, and the walk goes on.
        """
        stack: list[tuple[_Folder, Iterator[_Entry]]] = []
        first = _Folder(str(root.path), root.real, "", ())
        yield from self._enter(first, root.info.st_dev, stack)
        while stack:
            folder, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            name, kind = entry
            if isinstance(kind, Failed):
                yield kind
            elif kind == "folder":
                yield from self._enter(self._inside(folder, name), root.info.st_dev, stack)
            else:
                yield from self._file(folder, name, None if kind == "file" else kind)

    def _enter(
        self, folder: _Folder, device: int, stack: list[tuple[_Folder, Iterator[_Entry]]]
    ) -> Iterator[Failed]:
        path = Path(folder.path)
        try:
            info = path.stat()
        except OSError as error:
            yield failed_to_open(path, error)
            return
        if self._rules.one_file_system and info.st_dev != device:
            self._left_out["other_device"] += 1
            return
        if not self._met.first_time(folder.real, info):
            # Without links, only roots inside of roots are met twice: nothing is left out.
            if self._rules.follow_symlinks:
                self._left_out["met_before"] += 1
            return
        names: list[_Entry] = []
        try:
            with os.scandir(folder.path) as entries:
                if self._rules.ignore_files:
                    patterns, failures = read_ignore_file(path / IGNORE_FILE)
                    yield from failures
                    if patterns is not None:
                        ignores = ((folder.below, patterns), *folder.ignores)
                        folder = replace(folder, ignores=ignores)
                for entry in entries:
                    found = self._judge(folder, entry)
                    if found is not None:
                        names.append(found)
        except OSError as error:  # possibly after some names, which then count
            yield failed_to_open(path, error)
        names.sort(key=lambda item: os.fsencode(item[0]))
        stack.append((folder, iter(names)))

    def _judge(self, folder: _Folder, entry: os.DirEntry[str]) -> _Entry | None:
        """What an entry is, or None, counted, for what is left out. Asks the disk at most once."""
        name = entry.name
        try:
            kind, cause = self._kind(entry)
            if cause is None and kind is not None:
                cause = self._name_cause(folder, name, is_folder=kind == "folder")
                if cause is None and kind != "folder" and self._rules.ask_facts:
                    cause = self._facts_cause(entry.stat())
        except OSError as error:
            return name, failed_to_open(Path(os.path.join(folder.path, name)), error)  # noqa: PTH118
        if cause is None:
            return None if kind is None else (name, kind)
        if kind == "file" and cause in _OF_PICTURES and self._may_be_archive(name):
            return name, cause
        self._left_out[cause] += 1
        return None

    def _kind(self, entry: os.DirEntry[str]) -> tuple[_Kind | None, Cause | None]:
        if entry.name == IGNORE_FILE and self._rules.ignore_files:
            return None, None
        if not self._rules.hidden and _is_hidden(entry):
            return None, "hidden"
        linked = entry.is_symlink()
        if linked or _is_junction(entry):
            if not self._rules.follow_symlinks:
                return None, "symlink"
            mode = entry.stat().st_mode  # of what it leads to; an error if that is nowhere
            if stat.S_ISDIR(mode):
                return "folder", None
            return ("file", None) if stat.S_ISREG(mode) else (None, "special")
        if entry.is_dir(follow_symlinks=False):
            return "folder", None
        return ("file", None) if entry.is_file(follow_symlinks=False) else (None, "special")

    def _name_cause(self, folder: _Folder, name: str, *, is_folder: bool) -> Cause | None:
        if not (folder.ignores or self._include or self._exclude):
            return None
        path = folder.below + name
        asked = path + "/" if is_folder else path
        for base, patterns in folder.ignores:
            decision = patterns.decide(asked[len(base) :])
            if decision:
                return "ignored"
            if decision is False:
                break
        return self._pattern_cause(path, is_folder=is_folder)

    def _pattern_cause(self, path: str, *, is_folder: bool) -> Cause | None:
        if self._exclude and self._exclude.decide(path + "/" if is_folder else path):
            return "excluded"
        if self._include and not is_folder and not self._include.decide(path):
            return "not_included"
        return None

    def _facts_cause(self, info: os.stat_result) -> Cause | None:
        return self._rules.size_cause(info.st_size) or self._rules.time_cause(info.st_mtime_ns)

    def _file(self, folder: _Folder, name: str, cause: Cause | None) -> Iterator[ImageRef | Failed]:
        """What a file gives; `cause` is why it is left out if it is a picture."""
        path = Path(os.path.join(folder.path, name))  # noqa: PTH118 - three times as fast
        named = False
        if self._met.names_files and self._met.names_file(real := self._real(folder, name)):
            named = True
            try:
                if not self._met.first_time(real, path.lstat()):
                    return
            except OSError as error:
                yield failed_to_open(path, error)
                return
        if _extension(name) in KNOWN_EXTENSIONS:
            yield ImageRef(path)
            return
        if not (self._rules.by_content or self._rules.archives):
            if named and cause is None:
                yield ImageRef(path)
            return
        head = _head(path)
        if isinstance(head, Failed):
            yield head
        elif kind := self._archive_kind(name, head):
            yield from self._members(folder, path, kind)
        elif cause is not None:
            self._left_out[cause] += 1
        elif named or sniff(head):
            yield ImageRef(path)
        elif not self._rules.archives and named_as_archive(name):
            self._left_out["archive"] += 1

    def _may_be_archive(self, name: str) -> bool:
        return self._rules.archives and _extension(name) not in KNOWN_EXTENSIONS

    def _archive_kind(self, name: str, head: bytes) -> ArchiveKind | None:
        if not self._rules.archives or sniff(head):
            return None
        return archive_kind(name, head)

    def _members(
        self, folder: _Folder, path: Path, kind: ArchiveKind
    ) -> Iterator[ImageRef | Failed]:
        """The pictures in an archive, by the rules for files as if it were a folder."""
        inside = replace(folder, below=f"{folder.below}{path.name}/")
        try:
            mtime_ns = path.stat().st_mtime_ns
            for member in list_members(path, kind):
                yield from self._member(inside, path, mtime_ns, member)
        except OSError as error:
            yield failed_to_open(path, error)
        except MemberError as error:
            yield Failed(ImageRef(path), error.reason, error.detail)

    def _member(
        self, inside: _Folder, path: Path, mtime_ns: int, member: Listed
    ) -> Iterator[ImageRef | Failed]:
        cause = member.cause or self._member_cause(inside, member)
        ref = ImageRef(path, member.name)
        try:
            head = b""
            if cause is None and _extension(member.name) not in KNOWN_EXTENSIONS:
                if named_as_archive(member.name):
                    cause = "nested"
                else:
                    head = read_head(member)
                    if not sniff(head):
                        if archive_kind(member.name, head):
                            self._left_out["nested"] += 1
                        return
            if cause is not None:
                self._left_out[cause] += 1
            else:
                ref = replace(ref, at=locate(member, head, mtime_ns, self._spool))
                if isinstance(ref.at, Path) and path.stat().st_mtime_ns != mtime_ns:
                    assert self._spool is not None
                    self._spool.release(ref)
                    raise MemberError("changed", CHANGED)
                yield ref
        except MemberError as error:
            yield Failed(ref, error.reason, error.detail)

    def _member_cause(self, inside: _Folder, member: Listed) -> Cause | None:
        # Many tar files are made of ".", and their members called "./a.png".
        parts = [part for part in member.name.split("/") if part not in ("", ".", "..")]
        if not self._rules.hidden and any(part.startswith(".") for part in parts):
            return "hidden"
        if inside.ignores or self._exclude:
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if cause := self._name_cause(inside, folder, is_folder=True):
                    return cause
        cause = self._name_cause(inside, "/".join(parts), is_folder=False)
        return cause or self._rules.size_cause(member.size)

    def _inside(self, folder: _Folder, name: str) -> _Folder:
        path = os.path.join(folder.path, name)  # noqa: PTH118
        real = self._real(folder, name)
        return _Folder(path, real, f"{folder.below}{name}/", folder.ignores)

    def _real(self, folder: _Folder, name: str) -> str:
        real = os.path.join(folder.real, name)  # noqa: PTH118 - a str, as its root's
        return os.path.realpath(real) if self._rules.follow_symlinks else real


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return True
    # Windows lists this with the names; nowhere else would it come without asking the disk.
    return _WINDOWS and bool(
        getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0) & _HIDDEN
    )


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """A link between folders that Windows does not call one; it may lead into a circle."""
    if not _WINDOWS:
        return False
    tag = getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0)
    return bool(tag == _MOUNT_POINT)


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _head(path: Path) -> bytes | Failed:
    try:
        fd, size = open_regular(path)
        try:
            return os.read(fd, HEAD_BYTES) if size else b""
        finally:
            os.close(fd)
    except OSError as error:
        return failed_to_open(path, error)
