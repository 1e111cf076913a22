"""All that a result depends on besides the file: model, preprocessing and decoders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

from PIL import features

from scanner import __version__, domain, images
from scanner.limits import DEFAULT_LIMITS, DecodeLimits
from scanner.preprocess import PreprocessSpec


class HasModel(Protocol):
    """The part of a bundle that its results depend on; `scanner.bundle.Bundle` is one."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def digest(self) -> str:
        """Over all that the model is."""

    @property
    def spec(self) -> PreprocessSpec:
        """How pixels are prepared."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Results of equal pipelines on equal files are equal; digests are hexadecimal.

    The limits are in no digest: pipelines that differ in them alone share the results that hold
    under either's. `memory_mb` (MiB; None for no limit) is what decoding may take.
    """

    model_name: str
    model_digest: str
    preprocess_digest: str
    decoder_digest: str
    limits: DecodeLimits = DEFAULT_LIMITS
    memory_mb: int | None = None


def pipeline_of(
    bundle: HasModel, limits: DecodeLimits = DEFAULT_LIMITS, memory_mb: int | None = None
) -> Pipeline:
    """The pipeline that this program, as it is installed, makes of `bundle` under the limits."""
    decoders = {"versions": _versions(), "min_side": images.MIN_SIDE, "domain": domain.RULES}
    return Pipeline(
        bundle.name,
        bundle.digest,
        _digest(bundle.spec.to_dict()),
        _digest(decoders),
        limits,
        memory_mb,
    )


def _versions() -> dict[str, str | None]:
    # Another decoder gives other pixels, and reads what the one before could not.
    versions: dict[str, str | None] = {"imgscan": __version__}
    for package in ("pillow", "pi-heif", "rawpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    # A distribution's Pillow is built against libraries that are renewed without it.
    for codec in ("jpg", "jpg_2000", "zlib", "libtiff"):
        versions[codec] = features.version_codec(codec)
    for module in ("webp", "avif"):
        versions[module] = features.version_module(module)
    return versions


def _digest(value: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
