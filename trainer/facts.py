"""What can be known of a picture without looking at it, and a little by looking: numbers.

`file_facts` reads a header and decodes nothing; `pixel_facts` sums up pixels so coarsely that
no content is left. Both feed the leak probe; no model ever sees them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from scanner.errors import UsageError
from trainer.data import FILE_COLUMNS

Facts = dict[str, float]
RGB = npt.NDArray[np.uint8]

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
SIZE = ("width", "height", "aspect", "square", "multiple_of_64")
STORAGE = ("bytes", "bytes_per_pixel", *(f"is_{f.lower()}" for f in _FORMATS), "channels")
TRACES = (
    "quantisation_luma", "quantisation_chroma", "quantisation_dc", "subsampling", "progressive",
    "exif_bytes", "exif_camera", "icc_bytes", "xmp_bytes", "text_bytes", "dpi",
)  # fmt: skip
PIXELS = (
    "red", "green", "blue", "contrast", "saturation", "black", "white", "detail", "fine_detail",
    "blockiness", "flat_border",
)  # fmt: skip


def file_facts(stream: BinaryIO, length: int) -> Facts:
    """SIZE, STORAGE and TRACES of a picture file of `length` bytes, from its header.

    Raises whatever Pillow raises for what is no picture.
    """
    with Image.open(stream) as image:
        info = image.info
        exif = _exif(image)
        tables = getattr(image, "quantization", None) or {}
        sums = [float(sum(table)) for table in tables.values()]
        kind = "JPEG" if image.format == "MPO" else image.format or "?"
        layers = getattr(image, "layer", None) or []
        text = getattr(image, "text", None) or {}
        facts = _size_and_storage(*image.size, kind, length)
        facts |= {
            "channels": float(len(image.getbands())),
            "quantisation_luma": sums[0] if sums else math.nan,
            "quantisation_chroma": sums[1] if len(sums) > 1 else math.nan,
            "quantisation_dc": float(next(iter(tables.values()))[0]) if tables else math.nan,
            # Sampling factors of luma, 22 for 4:2:0.
            "subsampling": float(layers[0][1] * 10 + layers[0][2]) if layers else math.nan,
            "progressive": float(bool(info.get("progressive"))),
            "exif_bytes": float(len(info.get("exif", b""))),
            "exif_camera": float(ExifTags.Base.Make in exif or ExifTags.Base.Model in exif),
            "icc_bytes": float(len(info.get("icc_profile") or b"")),
            "xmp_bytes": float(len(info.get("xmp") or b"")),
            "text_bytes": float(sum(len(str(v)) for v in text.values())),
            "dpi": float(info["dpi"][0]) if "dpi" in info else math.nan,
        }
        return facts


def _exif(image: Image.Image) -> Mapping[int, object]:
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001 - part of the codec: a broken block is no reason to stop
        return {}


def _size_and_storage(width: int, height: int, kind: str, length: int) -> Facts:
    return {
        "width": float(width),
        "height": float(height),
        "aspect": width / height,
        "square": float(width == height),
        "multiple_of_64": float(width % 64 == 0 and height % 64 == 0),
        "bytes": float(length),
        "bytes_per_pixel": length / (width * height),
        **{f"is_{name.lower()}": float(kind == name) for name in _FORMATS},
    }


def signature(facts: Facts) -> dict[str, str]:
    """The same in words, for counting which values give a class away."""
    kind = next((f for f in _FORMATS if facts.get(f"is_{f.lower()}")), "another format")
    words = {"size": f"{facts['width']:.0f} x {facts['height']:.0f}", "format": kind}
    luma = facts.get("quantisation_luma", math.nan)
    if not math.isnan(luma):
        words["JPEG tables"] = f"quantisation tables summing to {luma:.0f}"
    if "exif_bytes" in facts:
        words["EXIF"] = "EXIF block" if facts["exif_bytes"] else "no EXIF block"
    return words


def original_facts(data: Path) -> dict[str, Facts]:
    """SIZE and STORAGE by file, from a manifest's original_width, _height, _format, _bytes.

    Empty where `data` has no manifest or it no such columns. Raises UsageError for a cell
    that is no number.
    """
    manifest = data / "manifest.csv" if data.is_dir() else data
    if not manifest.is_file():
        return {}
    text = manifest.read_text("utf-8-sig", errors="surrogateescape")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    wanted = [f"original_{name}" for name in ("width", "height", "format", "bytes")]
    if not all(name in columns for name in wanted):
        return {}
    file_column = next(columns[name] for name in FILE_COLUMNS if name in columns)
    facts = {}
    for line, row in enumerate(reader, start=2):
        width, height, kind, length = (row[columns[name]] for name in wanted)
        try:
            size = _size_and_storage(int(width), int(height), kind.strip().upper(), int(length))
        except (ValueError, TypeError, ZeroDivisionError):
            raise UsageError(
                f"{manifest}, line {line}: original_width, original_height and original_bytes "
                f"must be whole numbers above 0, not {width!r}, {height!r}, {length!r}"
            ) from None
        facts[(row[file_column] or "").strip()] = {**size, "channels": math.nan}
    return facts


def pixel_facts(square: RGB) -> Facts:
    """PIXELS of uint8 [S, S, 3]: colour, contrast, sharpness, JPEG's 8 x 8 grid, flat borders."""
    rgb = square.astype(np.float32)
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)  # [S, S]
    across = np.abs(np.diff(luma, axis=1))  # [S, S - 1]
    second = np.abs(np.diff(luma, n=2, axis=1))
    grid = across[:, 7::8].mean() / (across.mean() + 1e-3)
    edge = np.concatenate([luma[0], luma[-1], luma[:, 0], luma[:, -1]])
    return {
        **dict(zip(("red", "green", "blue"), rgb.mean((0, 1)).tolist(), strict=True)),
        "contrast": float(luma.std()),
        "saturation": float((rgb.max(2) - rgb.min(2)).mean()),
        "black": float((luma < 3).mean()),
        "white": float((luma > 252).mean()),
        "detail": float(np.log1p(across.mean())),
        # An enlarged picture has edges but little change from pixel to pixel.
        "fine_detail": float(second.mean() / (across.mean() + 1e-3)),
        "blockiness": float(grid),
        "flat_border": float(edge.std()),
    }


def matrix(facts: Iterable[Facts], names: Iterable[str]) -> npt.NDArray[np.float64]:
    """float64 [N, F] of the named facts; nan where one is missing."""
    names = tuple(names)
    return np.array([[f.get(name, math.nan) for name in names] for f in facts], np.float64)
