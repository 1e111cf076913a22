"""HEIF and HEIC: the primary image, upright, 8 bits. The pictures' README says what they are."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import SPEC, gradient

from scanner.images import decode, decode_stream
from scanner.limits import DecodeLimits
from scanner.preprocess import prepare
from scanner.types import Failed, ImageRef, Pixels

HERE = Path(__file__).parent / "heif"


def decoded(name: str) -> Pixels:
    pixels = decode(ImageRef(HERE / name), SPEC)
    assert isinstance(pixels, Pixels), pixels
    return pixels


@pytest.mark.parametrize("name", ["plain.heic", "ten_bits.heic"])
def test_any_depth_becomes_eight_bits(name: str) -> None:
    pixels = decoded(name)
    assert pixels.rgb.dtype == np.uint8
    assert np.abs(pixels.rgb.astype(int) - np.asarray(gradient((64, 48)))).mean() < 4
    facts = pixels.facts
    assert (facts.format, facts.width, facts.height, facts.notes) == ("HEIF", 64, 48, ())


def test_a_turned_picture_is_turned_once() -> None:
    """The file says it twice: in the container, which counts, and in EXIF, which does not."""
    pixels = decoded("turned.heic")
    assert np.abs(pixels.rgb.astype(int) - np.asarray(gradient((64, 48)))).mean() < 4


def test_transparency_is_laid_over_white() -> None:
    assert (decoded("transparent.heic").rgb == 255).all()


def test_of_several_pictures_the_primary_counts() -> None:
    assert decoded("second_is_primary.heic").rgb[0, 0].tolist() == pytest.approx([250, 0, 0], abs=3)


def test_the_limit_of_pixels_holds_before_anything_is_decoded() -> None:
    failed = decode(ImageRef(HERE / "plain.heic"), SPEC, DecodeLimits(max_pixels=64 * 48 - 1))
    assert isinstance(failed, Failed)
    assert failed.reason == "too_large"


def test_a_process_that_decodes_heif_does_not_change_what_pillow_opens() -> None:
    code = f"""
from pathlib import Path
from PIL import Image
from scanner.images import decode, decode_stream
from scanner.preprocess import PreprocessSpec
from scanner.preprocess import prepare
from scanner.types import ImageRef
before = set(Image.OPEN), dict(Image.EXTENSION)
decode(ImageRef(Path({str(HERE / "plain.heic")!r})), PreprocessSpec(size=32))
assert before == (set(Image.OPEN), dict(Image.EXTENSION)), Image.OPEN.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def damaged(name: str, at: int, value: int) -> Pixels | Failed:
    data = bytearray((HERE / name).read_bytes())
    data[at] = value
    ref = ImageRef(HERE / name)
    return decode_stream(io.BytesIO(data), ref, SPEC, size_bytes=len(data))


@pytest.mark.parametrize("at", [*range(4), *range(8, 12)])
def test_a_crop_beyond_the_picture_is_the_picture(at: int) -> None:
    """Found by benchmarks.fuzz: what was scored was to be cut out of pixels that were not there."""
    start = (HERE / "plain.heic").read_bytes().index(b"clap") + 4 + at
    for value in (1, 0x30, 0x40, 0x80):
        result = damaged("plain.heic", start, value)
        if isinstance(result, Pixels):
            prepare(result.rgb, SPEC, result.box)
            assert result.rgb.shape[:2] == (result.facts.height, result.facts.width)
        else:
            assert result.reason in ("unreadable", "too_large", "too_small")


def test_an_item_whose_type_is_not_text_does_not_end_the_process() -> None:
    """Found by benchmarks.fuzz: pi-heif 1.4 ends with a segmentation fault."""
    at = (HERE / "turned.heic").read_bytes().index(b"Exif")
    failed = damaged("turned.heic", at + 1, 0xF8)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.facts.format) == ("unreadable", "HEIF")
