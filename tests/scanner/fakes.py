"""A model whose answer can be foretold, and pictures to show it."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from scanner.preprocess import PreprocessSpec
from scanner.types import ImageRef
from scanner.verdict import OperatingPoint

SPEC = PreprocessSpec(size=32, views=2)
HALF = OperatingPoint("half", 0.5)


@dataclass(frozen=True)
class FakeBundle:
    spec: PreprocessSpec = SPEC
    thresholds: Mapping[str, float] = field(
        default_factory=lambda: {"youden": 0.5, "best_f1": 0.25}
    )
    operating_point: str = "youden"
    unsure: tuple[float, float] | None = None
    name: str = "fake"
    digest: str = "0123456789ab"


@dataclass
class BrightnessScorer:
    """P(fake) is the mean brightness: black is 0, white is 1."""

    bundle: FakeBundle = field(default_factory=FakeBundle)
    batches: list[int] = field(default_factory=list)
    device: str = "cpu"
    note: str | None = None
    streams: int = 1

    def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        assert batch.dtype == np.float32
        assert batch.shape[1:] == (2, 3, 32, 32)
        self.batches.append(len(batch))
        return batch.astype(np.float64).mean(axis=(1, 2, 3, 4))


def grey(level: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def save_grey(path: Path, level: int, size: tuple[int, int] = (40, 32)) -> ImageRef:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey(level, size).save(path)
    return ImageRef(path)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(size: tuple[int, int]) -> Image.Image:
    """Red grows to the right, green downwards: any turn or mirroring of it is seen."""
    width, height = size
    x = np.linspace(0, 255, width, dtype=np.uint8)
    y = np.linspace(0, 255, height, dtype=np.uint8)
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = x[None, :], y[:, None]
    return Image.fromarray(rgb)


def all_gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether all of them end in time; one that is dead and waits to be reaped has ended."""

    def alive(process: psutil.Process) -> bool:
        try:
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    end = time.monotonic() + seconds
    while any(alive(process) for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
