from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import SPEC, encoded, gradient, grey
from PIL import Image, ImageCms

from scanner import images, reading, webp
from scanner.images import decode, decode_stream
from scanner.preprocess import PreprocessSpec, draft_side, prepare
from scanner.types import Failed, ImageRef, Pixels

REF = ImageRef(Path("picture"))


def decoded(data: bytes, spec: PreprocessSpec = SPEC) -> Pixels:
    pixels = decode_stream(io.BytesIO(data), REF, spec, size_bytes=len(data))
    assert isinstance(pixels, Pixels), pixels
    assert pixels.rgb.dtype == np.uint8
    assert pixels.rgb.ndim == 3
    assert pixels.rgb.shape[2] == 3
    return pixels


def colour(data: bytes) -> tuple[int, ...]:
    """Of a picture that is one colour all over."""
    rgb = decoded(data).rgb.reshape(-1, 3)
    assert (np.abs(rgb.astype(int) - rgb[0]) <= 1).all()
    return tuple(int(value) for value in rgb[0])


def test_facts_are_of_the_file_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(gradient((48, 32)), "JPEG", exif=exif)
    (tmp_path / "a.png").write_bytes(data)  # named wrongly: the format is by content
    pixels = decode(ImageRef(tmp_path / "a.png"), SPEC)
    assert isinstance(pixels, Pixels)
    assert pixels.rgb.shape == (48, 32, 3)
    facts = pixels.facts
    assert (facts.width, facts.height, facts.format, facts.bytes) == (48, 32, "JPEG", len(data))
    assert facts.sha256 == hashlib.sha256(data).hexdigest()


def test_a_stream_that_was_lent_stays_open() -> None:
    """The trainer reads one picture after the other from one archive."""
    stream = io.BytesIO(encoded(grey(9), "PNG"))
    decode_stream(stream, REF, SPEC, size_bytes=len(stream.getvalue()))
    assert not stream.closed


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = gradient((48, 32))
    stored = upright
    if orientation in undo:
        inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        stored = upright.transpose(inverse.get(orientation, undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decoded(encoded(stored, kind, exif=exif, quality=95))
    assert pixels.rgb.shape == (32, 48, 3)
    assert np.abs(pixels.rgb.astype(int) - np.asarray(upright)).mean() < 4
    assert (pixels.facts.width, pixels.facts.height) == stored.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_a_broken_exif_block_leaves_the_picture_whole(exif: bytes) -> None:
    assert decoded(encoded(grey(77), "JPEG", exif=exif)).rgb.shape == (32, 40, 3)


def test_alpha_is_laid_over_white() -> None:
    half_black = Image.new("RGBA", (32, 32), (0, 0, 0, 128))
    assert colour(encoded(half_black, "PNG")) == (127, 127, 127)
    assert colour(encoded(Image.new("LA", (32, 32), (0, 0)), "PNG")) == (255, 255, 255)


def test_colours_stored_multiplied_by_alpha_are_divided_again() -> None:
    half_white = Image.new("RGBA", (32, 32), (128, 128, 128, 128))
    data = encoded(half_white, "TIFF")
    # Tag 338, "extra samples": from 2 (alpha beside the colours) to 1 (multiplied in).
    entry = b"\x52\x01\x03\0\x01\0\0\0"
    assert entry + b"\x02" in data
    assert colour(data.replace(entry + b"\x02", entry + b"\x01")) == (255, 255, 255)


def test_a_palette_is_looked_up_and_its_transparent_entry_is_white() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert colour(encoded(image, "PNG")) == (10, 200, 30)
    assert colour(encoded(image, "PNG", transparency=1)) == (255, 255, 255)
    assert colour(encoded(image, "PNG", transparency=b"\xff\x00")) == (255, 255, 255)
    assert colour(encoded(image, "GIF", transparency=1)) == (255, 255, 255)


def test_a_transparent_colour_without_an_alpha_channel_is_white() -> None:
    assert colour(encoded(grey(7), "PNG", transparency=(7, 7, 7))) == (255, 255, 255)
    assert colour(encoded(Image.new("L", (32, 32), 7), "PNG", transparency=7)) == (255,) * 3


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("1", (32, 32), 1), "PNG", (255, 255, 255)),
        (Image.new("L", (32, 32), 90), "PNG", (90, 90, 90)),
        (Image.new("L", (32, 32), 90), "JPEG", (90, 90, 90)),
        (Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", (254, 0, 0)),
        (Image.new("CMYK", (32, 32), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.new("YCbCr", (32, 32), (90, 128, 128)), "TIFF", (90, 90, 90)),
    ],
)
def test_modes_become_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    assert colour(encoded(image, kind)) == pytest.approx(expected, abs=2)


def test_lab_becomes_rgb() -> None:
    lab = ImageCms.profileToProfile(
        grey(128), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.info.clear()
    assert colour(encoded(lab, "TIFF")) == pytest.approx((128, 128, 128), abs=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("level", [0, 90, 200, 255])
def test_sixteen_bits_become_eight_by_a_constant(kind: str, level: int) -> None:
    """Never by the picture's own range: a dark picture stays dark, an even one stays even."""
    image = Image.fromarray(np.full((32, 40), level * 257, np.uint16))
    assert colour(encoded(image, kind)) == (level, level, level)


def test_a_transparent_grey_of_sixteen_bits_is_white() -> None:
    wide = np.full((32, 32), 1000, np.uint16)
    assert colour(encoded(Image.fromarray(wide), "PNG", transparency=1000)) == (255, 255, 255)
    assert colour(encoded(Image.fromarray(wide), "PNG", transparency=1001)) == (4, 4, 4)


def test_sixteen_bit_white_is_zero_is_turned_round() -> None:
    image = Image.fromarray(np.full((32, 40), 90 * 257, np.uint16))
    assert colour(encoded(image, "TIFF", tiffinfo={262: 0})) == (165, 165, 165)


def test_twelve_bits_have_their_own_white() -> None:
    side = 32
    packed = bytes([0xAB, 0xCA, 0xBC]) * (side * side // 2)  # 0xABC, twice in three bytes
    tags = [(256, side), (257, side), (258, 12), (259, 1), (262, 1), (277, 1), (278, side)]
    tags += [(273, 8 + 2 + 12 * 9 + 4), (279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed
    assert colour(tiff) == (round(0xABC / 4095 * 255),) * 3


def test_an_orientation_in_xmp_alone_is_undone() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    assert decoded(encoded(gradient((48, 32)), "JPEG", xmp=xmp)).rgb.shape == (48, 32, 3)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_without_a_defined_white_are_refused_with_a_remedy(dtype: Any) -> None:
    data = encoded(Image.fromarray(np.zeros((32, 32), dtype)), "TIFF")
    failed = decode_stream(io.BytesIO(data), REF, SPEC, size_bytes=len(data))
    assert isinstance(failed, Failed)
    assert failed.reason == "unsupported"
    assert failed.detail == "32-bit samples without a defined white; export it as 8 or 16 bit"
    assert (failed.facts.width, failed.facts.format) == (32, "TIFF")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    first, second = Image.new("RGB", (32, 32), (250, 0, 0)), Image.new("RGB", (32, 32), "blue")
    data = encoded(first, kind, save_all=True, append_images=[second], duration=100, quality=100)
    assert colour(data) == pytest.approx((250, 0, 0), abs=8)


def test_an_mpo_is_reported_as_the_jpeg_it_is() -> None:
    data = encoded(grey(9), "MPO", save_all=True, append_images=[grey(200)])
    assert decoded(data).facts.format == "JPEG"


@pytest.mark.parametrize("kind", ["BMP", "JPEG2000", "ICO", "PPM"])
def test_the_rarer_formats_are_decoded(kind: str) -> None:
    assert decoded(encoded(grey(120, (32, 32)), kind)).facts.format == kind


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_large_jpeg_comes_at_reduced_scale(scale: int) -> None:
    side = scale * draft_side(SPEC)
    pixels = decoded(encoded(gradient((side + 3, side)), "JPEG"))
    assert pixels.rgb.shape[:2] == (side // scale, -(-(side + 3) // scale))
    assert (pixels.facts.width, pixels.facts.height) == (side + 3, side)


def test_just_below_the_switch_a_jpeg_comes_whole() -> None:
    side = 2 * draft_side(SPEC) - 1
    pixels = decoded(encoded(gradient((side, side)), "JPEG"))
    assert pixels.rgb.shape == (side, side, 3)
    assert pixels.box is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_box_stays_on_the_picture_when_it_is_turned(orientation: int) -> None:
    """At 1/8 the last column stands for one pixel of eight, wherever it ends up."""
    spec = PreprocessSpec(size=16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    side = 8 * draft_side(spec)
    pixels = decoded(encoded(gradient((side + 1, side)), "JPEG", exif=exif), spec)
    assert pixels.box is not None
    left, top, right, bottom = pixels.box
    height, width = pixels.rgb.shape[:2]
    long, short = (width, height) if orientation < 5 else (height, width)
    assert (long, short) == (side // 8 + 1, side // 8)
    assert sorted((left, top, width - right, height - bottom)) == [0, 0, 0, 7 / 8]
    # The partial column is at the end of the ramp of red, so the red end shows where.
    margins = {"left": left, "right": width - right, "top": top, "bottom": height - bottom}
    red = pixels.rgb[..., 0].astype(int)
    ends = {
        "left": red[:, 0].mean(),
        "right": red[:, -1].mean(),
        "top": red[0].mean(),
        "bottom": red[-1].mean(),
    }
    assert max(margins, key=lambda edge: margins[edge]) == max(ends, key=lambda edge: ends[edge])


def test_a_huge_picture_is_reduced_on_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many workers as there are cores must not each hold a huge picture."""
    monkeypatch.setattr(reading, "_LARGE_PIXELS", 100_000)
    image = gradient((801, 603))
    data = encoded(image, "PNG")
    spec = PreprocessSpec(size=16)
    small = decoded(data, spec)
    assert small.rgb.shape == (151, 201, 3)
    assert small.box == (0, 0, 801 / 4, 603 / 4)
    monkeypatch.undo()
    whole = decoded(data, spec)
    assert whole.rgb.shape == (603, 801, 3)
    apart = prepare(small.rgb, spec, small.box) - prepare(whole.rgb, spec)
    assert np.abs(apart).max() * 255 <= 1.01


class Turns:
    """The lock of large pictures, counting how often it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *error: object) -> None:
        pass


@pytest.mark.parametrize(
    ("options", "taken"),
    [({}, 0), ({"progressive": True}, 1)],
    ids=["baseline", "progressive"],
)
def test_a_large_progressive_jpeg_takes_turns_at_any_scale(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], taken: int
) -> None:
    """libjpeg holds all of it before the first row comes out."""
    monkeypatch.setattr(reading, "_LARGE_PIXELS", 300_000)
    monkeypatch.setattr(reading, "one_large_at_a_time", turns := Turns())
    spec = PreprocessSpec(size=16)
    assert decoded(encoded(gradient((800, 600)), "JPEG", **options), spec).rgb.shape[0] == 75
    assert turns.taken == taken


def test_files_of_many_bytes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_LARGE_BYTES", 1000)
    monkeypatch.setattr(images, "one_large_at_a_time", turns := Turns())
    small, large = encoded(grey(9), "PNG"), encoded(Image.effect_noise((64, 64), 60), "PNG")
    assert len(small) < 1000 < len(large)
    decoded(small)
    assert turns.taken == 0
    decoded(large)
    assert turns.taken == 1


def test_only_listed_formats_are_ever_tried() -> None:
    """Pillow reads some forty; of an EPS it would start another program."""
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"
    failed = decode_stream(io.BytesIO(data), REF, SPEC, size_bytes=len(data))
    assert isinstance(failed, Failed)
    assert failed.reason == "not_an_image"
    tga = b"\0\0\2" + bytes(9) + b"\x20\0\x20\0\x18\0" + bytes(32 * 32 * 3)
    failed = decode_stream(io.BytesIO(tga), REF, SPEC, size_bytes=len(tga))
    assert isinstance(failed, Failed)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}]
)
def test_the_size_of_a_webp_is_read_from_each_kind_of_header(options: dict[str, object]) -> None:
    data = encoded(gradient((301, 203)), "WEBP", **options)
    assert webp.declared_size(data[:30]) == (301, 203)
    assert webp.declared_size(data[:29]) is None
    assert webp.declared_size(b"x" + data) is None
