"""The part of a cascade's bundle.json that names its two stages, read and verified.

    "stages":  [{"model": "fast", "digest": "0123456789ab"}, {"model": "accurate", ...}]
    "rescore": [0.2, 0.8]

A stage is a bundle that comes with this program, by its name, or lies in the cascade's own folder
as `first` or `second`; it is no cascade itself. Its digest is part of the cascade's bundle.json, so
that the cascade's own covers both stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.errors import BundleError

if TYPE_CHECKING:
    from scanner.bundle import Bundle

FOLDERS = ("first", "second")


def read_stages(
    path: Path,
    raw: Any,
    embedded: Mapping[str, Path],
    read: Callable[[Path], Bundle],
) -> tuple[Bundle, Bundle]:
    """Both bundles, by `read`, which refuses a cascade; raises BundleError or ValueError."""
    if not isinstance(raw, list) or len(raw) != len(FOLDERS):
        raise ValueError("stages must name two models")
    first, second = (
        _stage(path, stage, folder, embedded, read)
        for stage, folder in zip(raw, FOLDERS, strict=True)
    )
    if not same_squares(first, second):
        raise BundleError(
            f"{path}: its stages {first.name} and {second.name} prepare pictures differently; "
            "only mean and std may differ"
        )
    return first, second


def same_squares(first: Bundle, second: Bundle) -> bool:
    """Whether both are given the same uint8 squares: their specs differ in mean and std alone."""
    return replace(first.spec, mean=second.spec.mean, std=second.spec.std) == second.spec


def _stage(
    path: Path,
    raw: Any,
    folder: str,
    embedded: Mapping[str, Path],
    read: Callable[[Path], Bundle],
) -> Bundle:
    if not isinstance(raw, dict):
        raise ValueError("each of stages must be an object")
    name, digest = raw["model"], raw["digest"]
    if not isinstance(name, str) or not isinstance(digest, str):
        raise ValueError("model and digest of a stage must be text")
    if name == folder:
        where = path / folder
        if where.is_symlink():
            raise BundleError(f"{where}: a link; links are refused in a bundle")
    elif name in embedded:
        where = embedded[name]
    else:
        raise ValueError(f"a stage's model must be {folder!r} or a model that comes with imgscan")
    bundle = read(where)
    if bundle.digest != digest:
        raise BundleError(
            f"{path}: was made of {name}@{digest[:12]}, and {where} is {bundle.digest}; make it "
            "again with `python -m export cascade`, or use the stage's own --model"
        )
    return bundle
