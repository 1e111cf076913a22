"""Labelled pictures, read from class folders or a CSV manifest.

Folders: `real/` and `fake/` (or a common other name), on their own or under `train/`, `val/`,
`test/`; the folders below a class name the source. A manifest: a CSV with the columns `file`
and `label`, and as wanted `source`, `split` and `group`; its files lie beside it, loose or as
members of .tar files.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from scanner.errors import UsageError
from scanner.images import decode_stream, find_images
from scanner.preprocess import PreprocessSpec
from scanner.rules import WalkRules
from scanner.types import Failed, ImageRef, Pixels

REAL, FAKE = 0, 1
UNKNOWN = -1  # the label of a picture that has none
LABELS = ("real", "fake")

# Names met in public data sets, lower case; the first of each is ours.
_CLASS_NAMES = {
    REAL: {
        "real", "reals", "0_real", "0", "nature", "natural", "human", "photo", "photos",
        "photographs", "authentic", "original", "genuine", "non_ai", "not_ai",
    },
    FAKE: {
        "fake", "fakes", "1_fake", "1", "ai", "aigc", "generated", "ai_generated", "synthetic",
        "ai-generated", "aigenerated", "artificial",
    },
}  # fmt: skip
_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
# What a fit was made of must not hang on rules for scanning.
_ALL_FILES = WalkRules(hidden=True, ignore_files=False)
FILE_COLUMNS = ("file", "path", "filename", "image")


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture. `label` is 0 for real, 1 for fake, -1 where nobody knows.

    `key` names it inside its data set and stays the same wherever that lies; pictures of one
    `group` never stand in different splits; `offset` and `length` locate it inside `path`
    if that is a .tar file (else -1); `kind` is what a column of the manifest says that was
    asked for, "" where it says nothing.
    """

    key: str
    label: int
    source: str
    group: str
    split: str | None
    path: Path
    offset: int = -1
    length: int = -1
    kind: str = ""

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, int]]:
        """The file's bytes as a stream, and how many they are."""
        if self.offset < 0:
            with self.path.open("rb") as stream:
                yield stream, self.path.stat().st_size
        else:
            with self.path.open("rb") as archive:
                if self.offset + self.length > os.fstat(archive.fileno()).st_size:
                    raise OSError(errno.EIO, f"the archive ends before its member {self.key}")
                archive.seek(self.offset)
                yield io.BytesIO(archive.read(self.length)), self.length

    def sha256(self) -> str | None:
        """Of the file's bytes, in hexadecimal; None if they cannot be read."""
        try:
            with self.open() as (stream, _):
                return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError:
            return None

    def decode(self, spec: PreprocessSpec) -> Pixels | Failed:
        """The same decoding that a scan does."""
        ref = ImageRef(Path(self.key))
        try:
            with self.open() as (stream, length):
                return decode_stream(stream, ref, spec, size_bytes=length)
        except OSError as error:
            return Failed(ref, "unreadable", f"{self.path}: {error.strerror}")


def load_samples(data: Path, *, kind_column: str = "") -> list[Sample]:
    """Read a folder or a manifest; sorted by key. Raises UsageError naming what is wrong.

    `kind_column` names a column of the manifest, in any case, that gives each picture's kind.
    """
    if data.is_dir() and (data / "manifest.csv").is_file():
        samples = _from_manifest(data / "manifest.csv", kind_column)
    elif data.is_dir() and kind_column:
        raise UsageError(f"{data}: has no manifest.csv, and folders no column {kind_column!r}")
    elif data.is_dir():
        samples = _from_folders(data)
    elif data.is_file() and data.suffix.lower() == ".csv":
        samples = _from_manifest(data, kind_column)
    else:
        what = "neither a folder nor a .csv manifest" if data.exists() else "no such folder or file"
        raise UsageError(
            f"{data}: {what}; name a folder that holds real/ and fake/, or a .csv manifest"
        )
    if not samples:
        raise UsageError(
            f"{data}: no pictures found; put them into {data}/real and {data}/fake, or name a "
            "manifest.csv with the columns file and label"
        )
    counts = Counter(sample.label for sample in samples)
    for label, name in enumerate(LABELS):
        if not counts[label]:
            raise UsageError(
                f"{data}: all {len(samples)} pictures are of one class, none is {name}; put some "
                f"into {name}/ (under train/ and test/, where there are these), or label them so "
                "in the manifest"
            )
    return sorted(samples, key=lambda sample: sample.key)


def load_unlabelled(folder: Path) -> list[Sample]:
    """All pictures below `folder`, of unknown class; sorted by key. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of unlabelled pictures")
    found = []
    for ref in find_images([folder], rules=_ALL_FILES):
        if isinstance(ref, Failed):
            raise UsageError(f"{ref.ref.path}: {ref.detail}")
        below = ref.path.relative_to(folder)
        key = (Path("unlabelled") / below).as_posix()
        source = below.parts[0] if len(below.parts) > 1 else "unlabelled"
        found.append(Sample(key, UNKNOWN, source, group=key, split=None, path=ref.path))
    if not found:
        raise UsageError(f"{folder}: no pictures found")
    return sorted(found, key=lambda sample: sample.key)


def _class_of(name: str) -> int | None:
    lowered = name.lower()
    return next((label for label, names in _CLASS_NAMES.items() if lowered in names), None)


def _from_folders(data: Path) -> list[Sample]:
    roots: list[tuple[str | None, Path]] = [(None, data)]
    roots += [
        (_SPLIT_NAMES[folder.name.lower()], folder)
        for folder in sorted(data.iterdir())
        if folder.is_dir() and folder.name.lower() in _SPLIT_NAMES
    ]
    samples: list[Sample] = []
    for split, root in roots:
        for folder in sorted(root.iterdir()):
            label = _class_of(folder.name) if folder.is_dir() else None
            if label is not None:
                samples.extend(_class_folder(data, folder, label, split))
    if not samples and any(data.iterdir()):
        raise UsageError(
            f"{data}: no class folders; expected {data}/real and {data}/fake (or the like), or "
            "train/, val/, test/ over them, or a manifest.csv"
        )
    return samples


def _class_folder(data: Path, folder: Path, label: int, split: str | None) -> Iterator[Sample]:
    for ref in find_images([folder], rules=_ALL_FILES):
        if isinstance(ref, Failed):
            raise UsageError(f"{ref.ref.path}: {ref.detail}")
        key = ref.path.relative_to(data).as_posix()
        below = ref.path.relative_to(folder)
        source = below.parts[0] if len(below.parts) > 1 else LABELS[label]
        yield Sample(key, label, source, group=key, split=split, path=ref.path)


def _from_manifest(manifest: Path, kind_column: str) -> list[Sample]:
    folder = manifest.parent
    try:
        text = manifest.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{manifest}: {error.strerror}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{manifest}: not a readable CSV: {error}") from None
    file_column = next((columns[name] for name in FILE_COLUMNS if name in columns), None)
    if file_column is None or "label" not in columns:
        raise UsageError(
            f"{manifest}: needs the columns file and label, has {list(columns)}; name them so in "
            "its first line, between commas"
        )
    if kind_column and kind_column.lower() not in columns:
        raise UsageError(f"{manifest}: has no column {kind_column!r}, only {list(columns)}")
    members: dict[str, Sample | str] | None = None
    samples, seen = [], set()
    for line, row in rows:

        def cell(name: str, row: dict[str, str] = row) -> str:
            return (row.get(columns.get(name, name)) or "").strip()

        here = f"{manifest}, line {line}"
        key = (row.get(file_column) or "").strip()
        label = _class_of(cell("label"))
        if not key or label is None:
            raise UsageError(
                f"{here}: needs a file and a label of real or fake, not "
                f"{key!r} and {cell('label')!r}"
            )
        if Path(key).anchor or ".." in Path(key).parts:
            raise UsageError(f"{here}: {key} leaves the manifest's folder; name files below it")
        if key in seen:
            raise UsageError(f"{here}: {key} stands in it twice")
        seen.add(key)
        split = _SPLIT_NAMES.get(cell("split").lower(), cell("split").lower() or None)
        sample = Sample(
            key, label, cell("source") or LABELS[label], cell("group") or key, split, folder / key,
            kind=cell(kind_column.lower()) if kind_column else "",
        )  # fmt: skip
        if not sample.path.is_file():
            if members is None:
                members = _tar_members(folder)
            found = members.get(key)
            if found is None:
                raise UsageError(f"{here}: no file {sample.path}, nor in a .tar beside it")
            if isinstance(found, str):
                raise UsageError(f"{here}: {key} {found}")
            sample = replace(sample, path=found.path, offset=found.offset, length=found.length)
        samples.append(sample)
    return samples


def _tar_members(folder: Path) -> dict[str, Sample | str]:
    """Where each regular file of the uncompressed .tar files in `folder` lies.

    A string says why a member cannot be used, for the row that names it: of the two that stand
    in two archives nobody can tell which is meant. Within one archive the last one counts.
    """
    members: dict[str, Sample | str] = {}
    for path in sorted(folder.glob("*.tar")):
        inside: dict[str, Sample | str] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for info in archive:
                    name = info.name.removeprefix("./")
                    if info.issparse():
                        inside[name] = f"is a sparse member of {path.name}; pack it whole"
                    elif info.isreg():
                        inside[name] = Sample(
                            info.name, 0, "", "", None, path, info.offset_data, info.size
                        )
        except (tarfile.TarError, OSError) as error:
            raise UsageError(f"{path}: not a readable .tar file: {error}") from None
        end = path.stat().st_size
        for name, member in inside.items():
            other = members.get(name)
            if isinstance(other, Sample):
                member = f"stands in {other.path.name} and in {path.name}; remove one"
            elif isinstance(member, Sample) and member.offset + member.length > end:
                member = f"is cut off: {path.name} ends before it does"
            members[name] = member
    return members
