"""Moving and copying what was found: nothing is overwritten, and all of it can be undone."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from scanner.errors import ImgscanError
from scanner.types import ImageRef

Kind = Literal["move", "copy"]

# A link cannot be made here: another disk, or a file system without them.
_NO_LINK = frozenset((errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK))


@dataclass(frozen=True, slots=True)
class Step:
    """One file of an operation. `size` and `mtime_ns` tell whether it is still the same file.

    `found` is where the scan saw it, `source` where it lay before this step.
    """

    found: Path
    source: Path
    target: Path
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Operation:
    """Files moved or copied together. `time` is UTC, ISO 8601."""

    number: int
    kind: Kind
    folder: Path
    time: str
    undone: bool = False
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """How many files were done, and of each that was not, its path and why."""

    done: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


class TransferLog:
    """The operations there were, in a file beside the journal: each step before it is taken.

    So that a kill in the middle leaves nothing that could not be found and undone.
    Raises ImgscanError if the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operations: list[Operation] = []
        self._moved: dict[Path, Path] = {}
        try:
            lines = path.read_text("ascii").splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise self._trouble(error) from None
        for line in lines:
            with suppress(ValueError, KeyError, IndexError):  # the last line of a kill is cut off
                self._take(json.loads(line))

    def where(self, path: Path) -> Path:
        """Where a file lies now that was found at `path`."""
        moved = self._moved.get(path)
        # By now there may be another one at the old place, and then that was found.
        return path if moved is None or os.path.lexists(path) else moved

    def transfer(
        self,
        refs: Sequence[ImageRef],
        folder: Path,
        kind: Kind,
        tell: Callable[[int], None] = lambda done: None,
    ) -> Outcome:
        """Move or copy the files into `folder`, which is made. Names that are taken get a number.

        `tell` is called with how many are done.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImgscanError(
                f"{folder}: cannot be made: {error.strerror}; give another folder"
            ) from None
        number = 1 + max((each.number for each in self.operations), default=0)
        operation: dict[str, object] = {
            "op": number,
            "kind": kind,
            "folder": str(folder),
            "time": _now(),
        }
        self._append(operation)
        outcome = Outcome()
        for ref in refs:
            try:
                self._one(number, ref, folder, kind)
                outcome.done += 1
            except OSError as error:
                outcome.failed.append((ref.path, error.strerror or str(error)))
            tell(outcome.done)
        return outcome

    def undo(self, operation: Operation) -> Outcome:
        """Move back what was moved and delete what was copied, where it is still the same file."""
        outcome = Outcome()
        for step in reversed(operation.steps):
            try:
                if _undo(step, operation.kind):
                    outcome.done += 1
                self._back(step)
            except OSError as error:
                outcome.failed.append((step.target, error.strerror or str(error)))
        if not outcome.failed:
            self._append({"op": operation.number, "undone": _now()})
        return outcome

    def _one(self, number: int, ref: ImageRef, folder: Path, kind: Kind) -> None:
        if ref.member is not None:
            raise OSError(errno.EINVAL, "it lies inside an archive; unpack that first")
        source = self.where(ref.path)
        info = source.stat()
        if source.parent.resolve() == folder.resolve():
            raise OSError(errno.EEXIST, "it lies in that folder already")
        for target in _names(folder / source.name):
            # Where something is taken by now, the next name is tried; what becomes taken in
            # between is seen by the system, which makes no file where there is one.
            if os.path.lexists(target):
                continue
            self._append(
                {
                    "op": number,
                    "found": str(ref.path),
                    "from": str(source),
                    "to": str(target),
                    "size": info.st_size,
                    "mtime_ns": info.st_mtime_ns,
                }
            )
            try:
                (_move if kind == "move" else _copy)(source, target)
            except OSError as error:
                # What lies there, if anything, is not ours to undo.
                self._append({"op": number, "void": str(target)})
                if isinstance(error, FileExistsError):
                    continue
                raise
            return

    def _append(self, line: dict[str, object]) -> None:
        try:
            with self.path.open("a", encoding="ascii") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._trouble(error) from None
        self._take(line)

    def _take(self, line: dict[str, object]) -> None:
        number = int(str(line["op"]))
        if "kind" in line:
            kind: Kind = "move" if line["kind"] == "move" else "copy"
            self.operations.append(
                Operation(number, kind, Path(str(line["folder"])), str(line["time"]))
            )
            return
        operation = next(each for each in reversed(self.operations) if each.number == number)
        if "undone" in line:
            operation.undone = True
            for step in reversed(operation.steps):
                self._back(step)
            return
        if "void" in line:
            self._back(operation.steps.pop())
            return
        step = Step(
            Path(str(line["found"])),
            Path(str(line["from"])),
            Path(str(line["to"])),
            int(str(line["size"])),
            int(str(line["mtime_ns"])),
        )
        operation.steps.append(step)
        if operation.kind == "move":
            self._moved[step.found] = step.target

    def _back(self, step: Step) -> None:
        self._moved.pop(step.found, None)
        if step.source != step.found:  # it had been moved before
            self._moved[step.found] = step.source

    def _trouble(self, error: Exception) -> ImgscanError:
        reason = error.strerror if isinstance(error, OSError) else "is no log of moves"
        return ImgscanError(
            f"{self.path}: {reason}; without this list of what was moved nothing is moved: "
            "free some space, or move it away"
        )


def _names(target: Path) -> Iterator[Path]:
    yield target
    for number in range(2, 10_000):
        yield target.with_name(f"{target.stem} ({number}){target.suffix}")
    raise OSError(errno.EEXIST, "there are thousands of that name; give another folder")


def _move(source: Path, target: Path) -> None:
    try:
        # Unlike a rename, a link is not made where there is something.
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(source, target)
    source.unlink()


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    shutil.copystat(source, target)


def _undo(step: Step, kind: Kind) -> bool:
    """Whether there was anything to undo: a step that a kill forestalled was never taken."""
    if not os.path.lexists(step.target):
        if os.path.lexists(step.source):
            return False
        raise FileNotFoundError(errno.ENOENT, "it is not there any more")
    info = step.target.stat()
    if (info.st_size, info.st_mtime_ns) != (step.size, step.mtime_ns):
        raise OSError(errno.EINVAL, "it has been changed since, and is left as it is")
    if kind == "copy":
        step.target.unlink()
        return True
    if os.path.lexists(step.source):
        if step.source.samefile(step.target):  # killed between the link and the unlink
            step.target.unlink()
            return True
        raise FileExistsError(errno.EEXIST, f"something else lies at {step.source} by now")
    step.source.parent.mkdir(parents=True, exist_ok=True)
    _move(step.target, step.source)
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
