"""A bundle's folder, completed and moved into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanner.bundle import (
    ALL_FILES,
    CARD,
    LABELS,
    OPTIONAL_FILES,
    REQUIRED_FILES,
    SCHEMA_VERSION,
    Bundle,
    read_bundle,
)
from scanner.errors import BundleError
from scanner.preprocess import PreprocessSpec
from scanner.stages import FOLDERS


def write_bundle(
    out: Path,
    *,
    name: str,
    spec: PreprocessSpec | None,
    thresholds: Mapping[str, float],
    operating_point: str,
    temperature: float,
    unsure: tuple[float, float] | None = None,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    stages: Sequence[Mapping[str, str]] = (),
    rescore: tuple[float, float] | None = None,
) -> Bundle:
    """Complete folder `out`, which holds the graphs and the card, with bundle.json.

    A cascade has `stages` (see scanner/stages.py) and `rescore` in place of graphs and `spec`.
    Reads the finished bundle back, so what is returned has been verified.
    """
    if stages:
        files = [CARD]
        kind = {"stages": [dict(stage) for stage in stages], "rescore": list(rescore or ())}
    else:
        assert spec is not None
        files = [*REQUIRED_FILES, *(name for name in OPTIONAL_FILES if (out / name).exists())]
        kind = {"preprocess": spec.to_dict()}
    raw = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "labels": list(LABELS),
        **kind,
        "thresholds": dict(thresholds),
        "operating_point": operating_point,
        "temperature": temperature,
        "unsure": None if unsure is None else list(unsure),
        "metrics": metrics,
        "training": training,
        "files": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files},
    }
    text = json.dumps(raw, indent=2, sort_keys=False, allow_nan=False) + "\n"
    (out / "bundle.json").write_text(text, encoding="utf-8", newline="\n")
    return read_bundle(out)


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A folder beside `out` (absolute) to make a bundle in: moved there at the end, or gone."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        work.chmod(0o755)  # mkdtemp's 0700 would keep a shared bundle from its other readers
        yield work
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def replace_folder(finished: Path, target: Path) -> None:
    """Move the finished folder to `target`, swapping out an older bundle that stands there.

    Only an empty folder, or a bundle without anything else in it, is ever replaced. A link to
    one stays, and what it leads to is replaced.
    """
    if target.is_symlink() and not target.exists():
        raise BundleError(f"{target}: a link that leads nowhere; name another --out")
    target = target.resolve()
    if target.exists():
        if not target.is_dir():
            raise BundleError(f"{target}: exists and is no folder; name another --out")
        entries = list(target.iterdir())
        foreign = sorted(e.name for e in entries if not _of_a_bundle(e))
        if foreign:
            raise BundleError(
                f"{target}: holds {foreign[0]}, which is no part of a bundle; name another --out"
            )
        if entries and not (target / "bundle.json").exists():
            raise BundleError(f"{target}: holds files and is no bundle; name another --out")
        old = target.with_name(f".{target.name}.old-{os.getpid()}")
        target.rename(old)
        try:
            finished.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        finished.rename(target)


def _of_a_bundle(entry: Path) -> bool:
    if entry.name in FOLDERS and entry.is_dir() and not entry.is_symlink():
        return all(e.name in ALL_FILES and e.is_file() for e in entry.iterdir())
    return entry.name in ALL_FILES and entry.is_file()
