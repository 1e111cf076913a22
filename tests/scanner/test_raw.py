"""Camera raw files are judged by the picture that the camera put inside, or not at all."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import SPEC, encoded, gradient, grey

from benchmarks.raw_files import Tiff, raw_file, sensor_dng
from scanner.formats import RAW_FORMATS
from scanner.images import decode_stream
from scanner.limits import DEFAULT_LIMITS, DecodeLimits
from scanner.raw import find_preview
from scanner.types import Failed, ImageRef, Pixels

# Of damaged files; pytest replaces the filter of the command line.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LARGE = gradient((1200, 800))


def result(
    data: bytes, name: str = "picture", limits: DecodeLimits = DEFAULT_LIMITS
) -> Pixels | Failed:
    ref = ImageRef(Path(name))
    return decode_stream(io.BytesIO(data), ref, SPEC, size_bytes=len(data), limits=limits)


@pytest.mark.parametrize("kind", sorted(RAW_FORMATS))
def test_the_preview_is_found_and_noted_whatever_the_file_is_called(kind: str) -> None:
    data = raw_file(kind, encoded(LARGE, "JPEG", quality=90))
    pixels = result(data)
    assert isinstance(pixels, Pixels), pixels
    facts = pixels.facts
    assert (facts.format, facts.width, facts.height) == (kind, 1200, 800)
    assert facts.notes == ("embedded_preview",)
    assert facts.bytes == len(data)
    reduced = np.asarray(LARGE.reduce(1200 // pixels.rgb.shape[1])).astype(int)
    assert np.abs(pixels.rgb.astype(int) - reduced).mean() < 2


@pytest.mark.parametrize("kind", ["DNG", "NEF", "ARW", "PEF", "CR2", "ORF", "RW2", "SRW"])
def test_a_preview_without_an_orientation_has_the_raw_files(kind: str) -> None:
    pixels = result(raw_file(kind, encoded(LARGE, "JPEG"), orientation=6))
    assert isinstance(pixels, Pixels)
    height, width = pixels.rgb.shape[:2]
    assert height > width


def test_a_previews_own_orientation_comes_first() -> None:
    exif = LARGE.getexif()
    exif[0x0112] = 1
    pixels = result(raw_file("NEF", encoded(LARGE, "JPEG", exif=exif), orientation=6))
    assert isinstance(pixels, Pixels)
    height, width = pixels.rgb.shape[:2]
    assert height < width


def test_the_largest_of_several_previews_counts() -> None:
    tiff = Tiff()
    small, large = (encoded(grey(9, size), "JPEG") for size in ((1000, 700), (1400, 1000)))
    at = [tiff.block(small), tiff.block(large), tiff.block(small)]
    below = [
        tiff.folder({513: where, 514: len(data)})
        for where, data in zip(at, (small, large, small), strict=True)
    ]
    data = tiff.done(tiff.folder({50706: b"\1\4\0\0", 330: tuple(below)}))
    pixels = result(data)
    assert isinstance(pixels, Pixels)
    assert (pixels.facts.width, pixels.facts.height) == (1400, 1000)


@pytest.mark.parametrize(
    ("side", "sensor", "enough"),
    [(1000, 8000, True), (999, 3996, True), (999, 4000, False), (160, 4000, False)],
)
def test_a_thumbnail_does_not_stand_for_its_photograph(
    side: int, sensor: int, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1000 pixels, or a quarter of the sensor's side."""
    monkeypatch.setitem(sys.modules, "rawpy", None)
    found = result(raw_file("NEF", encoded(grey(9, (side, 100)), "JPEG"), sensor=sensor))
    assert isinstance(found, Pixels) == enough
    if isinstance(found, Failed):
        assert found.reason == "unsupported"
        assert "install imgscan[raw], or export it" in found.detail


def test_without_a_preview_the_sensors_data_is_developed_if_rawpy_is_there() -> None:
    pytest.importorskip("rawpy")
    pixels = result(sensor_dng())
    assert isinstance(pixels, Pixels), pixels
    assert pixels.facts.notes == ()
    assert (pixels.facts.format, pixels.facts.width) == ("DNG", 64)
    assert 20 < pixels.rgb.mean() < 235


def test_the_limit_of_pixels_holds_before_the_sensors_data_is_developed() -> None:
    pytest.importorskip("rawpy")
    failed = result(sensor_dng(), limits=DecodeLimits(max_pixels=64 * 64 - 1))
    assert isinstance(failed, Failed)
    assert failed.reason == "too_large"


def test_what_libraw_gives_up_on_is_unreadable() -> None:
    pytest.importorskip("rawpy")
    failed = result(raw_file("NEF", b"no jpeg at all"))
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.facts.format) == ("unreadable", "NEF")
    assert failed.detail.startswith("LibRaw gave up: ")


@pytest.mark.parametrize("kind", ["DNG", "CR3", "RAF"])
def test_a_raw_file_that_is_cut_short_is_truncated(kind: str) -> None:
    """Its folders, at the front or back, still point beyond the end; a CR3's box does too."""
    jpeg = encoded(LARGE, "JPEG")
    data = raw_file(kind, jpeg)
    if kind == "DNG":  # cameras put the folders first
        tiff = Tiff()
        folder = tiff.folder({50706: b"\1\4\0\0", 271: "Ours", 513: 100, 514: len(jpeg)})
        data = tiff.done(folder).ljust(100, b"\0") + jpeg
    assert isinstance(result(data), Pixels)
    failed = result(data[: len(data) // 2])
    assert isinstance(failed, Failed)
    assert failed.reason == "truncated"


def test_a_plain_tiff_is_no_raw_file_unless_it_is_called_one() -> None:
    data = encoded(gradient((40, 40)), "TIFF")
    plain = result(data, "a.tif")
    assert isinstance(plain, Pixels)
    assert plain.facts.notes == ()
    named = result(data, "a.nef")
    assert isinstance(named, Failed)
    assert (named.reason, named.facts.format) == ("unsupported", "NEF")


@pytest.mark.parametrize("kind", sorted(RAW_FORMATS))
def test_folders_that_lead_in_circles_or_nowhere_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word of four bytes in turn is made to point at the first folder, and at the end."""
    monkeypatch.setitem(sys.modules, "rawpy", None)  # of interest is what comes before it
    data = raw_file(kind, encoded(grey(9, (32, 32)), "JPEG"))
    order = ">" if data[:2] == b"MM" else "<"
    first = struct.unpack(order + "I", data[4:8])[0]
    tags = [*range(8, 40, 2), *range(max(0, len(data) - 300), len(data) - 4, 2)]
    for at in tags:
        for where in (first, len(data) - 1, 0xFFFFFFFF):
            word = struct.pack(order + "I", where & 0xFFFFFFFF)
            assert result(data[:at] + word + data[at + 4 :]) is not None


def test_a_box_of_more_bytes_than_there_are_numbers_for_is_the_last() -> None:
    """Found by benchmarks.fuzz_parsers: a length of 64 bits led beyond what can be sought."""
    data = raw_file("CR3", b"")[:28] + struct.pack(">I4sQ", 1, b"free", 2**64 - 1) + bytes(99)
    assert find_preview(io.BytesIO(data), len(data), "CR3") is None
