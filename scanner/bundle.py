"""The model bundle: one folder that holds all that a score depends on.

    encoder.onnx      prepared pixels float32 [N, 3, S, S] -> features float32 [N, F], and
                      beside a decoder.onnx deepest, float32 [N, C, S / stride, S / stride]
    classifier.onnx   features float32 [N, F] -> logit float32 [N]
    encoder.fp16.onnx (optional) encoder.onnx in half precision, for GPUs; features alone
    decoder.onnx      (optional) deepest (and features, with experts) -> reconstruction
    bundle.json       what `Bundle` holds, and the sha256 of each file
    MODEL_CARD.md     for people

A cascade has no graphs: its bundle.json names two bundles instead, see scanner/stages.py.

Reading verifies everything before a graph is run, and says in one line what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scanner.embedded import DEFAULT
from scanner.embedded import EMBEDDED as EMBEDDED
from scanner.errors import BundleError
from scanner.onnx_guard import external_data_in
from scanner.preprocess import PreprocessSpec
from scanner.stages import read_stages
from scanner.text import one_line

SCHEMA_VERSION = 1
REQUIRED_GRAPHS = ("encoder.onnx", "classifier.onnx")
REQUIRED_FILES = (*REQUIRED_GRAPHS, "MODEL_CARD.md")
HALF_ENCODER = "encoder.fp16.onnx"
OPTIONAL_FILES = (HALF_ENCODER, "decoder.onnx")
ALL_FILES = ("bundle.json", *REQUIRED_FILES, *OPTIONAL_FILES)
CARD = "MODEL_CARD.md"
REQUIRED_POINTS = ("youden", "best_f1")
LABELS = ("real", "fake")
# A bound on what reading a foreign bundle may cost; far above any model that scans folders.
_MAX_GRAPH_BYTES = 2 * 1024**3
_MAX_JSON_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    `thresholds` maps an operating point's name to the threshold on calibrated P(fake) in
    [0, 1]; `temperature` divides the logit before the sigmoid (Guo et al., 2017); `unsure` is
    the stretch of P(fake), low included, in which there is no verdict; `metrics`
    names the data each figure was measured on; `training` is the training configuration;
    `files` maps each file to its sha256; `digest` is 12 hex digits over bundle.json, which
    covers every file through its hash. A cascade has `stages`, two bundles of which the second
    scores again what the first gave a P(fake) within `rescore` (low included, high not); its
    `spec` is the first's.
    """

    path: Path
    name: str
    digest: str
    spec: PreprocessSpec
    thresholds: Mapping[str, float]
    operating_point: str
    temperature: float
    unsure: tuple[float, float] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[Bundle, ...] = ()
    rescore: tuple[float, float] | None = None

    @property
    def models(self) -> tuple[Bundle, ...]:
        """The bundles that hold graphs: itself, or its stages."""
        return self.stages or (self,)

    @property
    def has_decoder(self) -> bool:
        """Whether the bundle carries the optional reconstruction graph; a cascade, its first."""
        return "decoder.onnx" in self.models[0].files

    @property
    def has_half(self) -> bool:
        """Whether the bundle carries the optional encoder in half precision; a cascade, both."""
        return all(HALF_ENCODER in model.files for model in self.models)

    def graph(self, name: str) -> bytes:
        """Bytes of one of `files`, verified again as they are read.

        A session is made from these bytes and not from the path: what runs is what was
        verified.
        """
        return _verified(self.path / name, self.files[name])


def default_bundle_path() -> Path:
    """Folder of the embedded bundle that is used unless another is asked for."""
    return EMBEDDED[DEFAULT]


def bundle_path(model: Path | None) -> Path:
    """The folder that `--model` stands for: an embedded bundle's name, or a folder.

    A folder that is called as an embedded bundle is given as ./fast.
    """
    return default_bundle_path() if model is None else EMBEDDED.get(os.fspath(model), model)


def names_bundle(model: Path) -> bool:
    """Whether `bundle_path(model)` is a folder of a bundle, well or damaged."""
    return (bundle_path(model) / "bundle.json").is_file()


def read_bundle(path: Path) -> Bundle:
    """Verify and read the bundle in folder `path`; raises BundleError, in one line."""
    return _read(path)


def _read_stage(path: Path) -> Bundle:
    return _read(path, stage=True)


def _read(path: Path, *, stage: bool = False) -> Bundle:
    if not path.is_dir():
        raise BundleError(
            f"{path}: no such bundle folder, nor one of {', '.join(EMBEDDED)}; "
            f"`python -m export onnx RUN --out {path}` makes one"
        )
    try:
        raw_json = _read_regular(path / "bundle.json", _MAX_JSON_BYTES)
        raw = json.loads(raw_json, parse_constant=_refuse_constant)
        # Before anything in it is followed: folders can be nested as deep as paths are long.
        if stage and isinstance(raw, dict) and "stages" in raw:
            raise BundleError(f"{path}: is a cascade itself; a cascade's stages are single models")
        bundle = _parse(path, raw, hashlib.sha256(raw_json).hexdigest()[:12])
        for name, expected in bundle.files.items():
            _verified(path / name, expected)
    except BundleError:
        raise
    except RecursionError:
        raise BundleError(f"{path}: bundle.json is nested too deeply") from None
    except KeyError as error:
        what = f"{error.args[0]!r} is missing"
        raise BundleError(f"{path}: bundle.json is not valid: {what}") from None
    except (ValueError, TypeError, OverflowError) as error:
        what = one_line(error, 200)
        raise BundleError(f"{path}: bundle.json is not valid: {what}") from None
    return bundle


def _parse(path: Path, raw: Any, digest: str) -> Bundle:
    if not isinstance(raw, dict):
        raise ValueError("it must hold an object")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BundleError(
            f"{path}: schema version {str(version)[:20]!r} is not {SCHEMA_VERSION}, the one that "
            "this imgscan reads; export the run again with this version"
        )
    name = raw["name"]
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= 64:
        raise ValueError("name must be 1 to 64 printable characters")
    if tuple(raw["labels"]) != LABELS:
        raise ValueError(f"labels must be {list(LABELS)}")
    stages: tuple[Bundle, ...] = ()
    rescore = None
    if "stages" in raw:
        stages = read_stages(path, raw["stages"], EMBEDDED, _read_stage)
        spec, rescore = stages[0].spec, _band(raw["rescore"], "rescore")
        if rescore[0] == rescore[1]:
            raise ValueError("rescore must be two rising values in 0..1")
    else:
        spec = PreprocessSpec.from_dict(_object(raw, "preprocess"))
    thresholds = {
        point: _number(value, f"threshold {point[:40]!r}")
        for point, value in _object(raw, "thresholds").items()
    }
    for point in REQUIRED_POINTS:
        if point not in thresholds:
            raise ValueError(f"threshold {point!r} is missing")
    for point, value in thresholds.items():
        if not re.fullmatch("[a-z0-9_.]{1,32}", point):
            raise ValueError(f"the threshold's name {point[:40]!r} must be of a-z, 0-9, _ and .")
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"threshold {point!r} must lie in 0..1")
    operating_point = raw["operating_point"]
    if operating_point not in thresholds:
        raise ValueError(f"operating_point {operating_point!r} is none of {sorted(thresholds)}")
    temperature = _number(raw["temperature"], "temperature")
    if temperature <= 0:
        raise ValueError("temperature must be above 0")
    if stages and temperature != 1.0:
        raise ValueError("temperature of a cascade must be 1: its stages are calibrated already")
    unsure = None if raw.get("unsure") is None else _band(raw["unsure"], "unsure")
    files = _object(raw, "files")
    required_files, allowed = (
        ((CARD,), (CARD,)) if stages else (REQUIRED_FILES, (*REQUIRED_FILES, *OPTIONAL_FILES))
    )
    for required in required_files:
        if required not in files:
            raise ValueError(f"files lacks {required}")
    for file_name, digest_hex in files.items():
        # Names are matched against a closed list, so no path of any kind can be smuggled in.
        if file_name not in allowed:
            raise ValueError(f"files names {file_name[:80]!r}, which is no part of a bundle")
        if not isinstance(digest_hex, str) or len(digest_hex) != 64:
            raise ValueError(f"files: the sha256 of {file_name} must be 64 hex digits")
    return Bundle(
        path=path,
        name=name,
        digest=digest,
        spec=spec,
        thresholds=MappingProxyType(thresholds),
        operating_point=operating_point,
        temperature=temperature,
        unsure=unsure,
        metrics=MappingProxyType(_object(raw, "metrics")),
        training=MappingProxyType(_object(raw, "training")),
        files=MappingProxyType(files),
        stages=stages,
        rescore=rescore,
    )


def _verified(path: Path, expected: str) -> bytes:
    content = _read_regular(path, _MAX_GRAPH_BYTES)
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected.lower():
        raise BundleError(
            f"{path}: sha256 is {actual[:12]}..., bundle.json says {expected[:12]}...; "
            "the file was changed or damaged: copy or export the bundle again"
        )
    if path.suffix == ".onnx":
        try:
            external = external_data_in(content)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None
        if external:
            raise BundleError(f"{path}: refers to external data files, which a bundle may not")
    return content


def _read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file that is no link, at most `limit` bytes."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: not a regular file; links are refused in a bundle")
        if status.st_size > limit:
            raise BundleError(f"{path}: larger than {limit} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: missing; the bundle is incomplete") from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from None


def _object(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = raw[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number")
    return float(value)


def _band(raw: Any, what: str) -> tuple[float, float]:
    if not isinstance(raw, list) or len(raw) != 2:
        raise ValueError(f"{what} must be [low, high]")
    low, high = (_number(value, what) for value in raw)
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(f"{what} must be two rising values in 0..1")
    return low, high


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
