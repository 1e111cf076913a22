"""Files that end before their picture does: what is there is judged, if it is most of it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import encoded
from PIL import Image, ImageFile

from scanner import reading
from scanner.images import decode_stream
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed, ImageRef, Pixels

# Of damaged files; pytest replaces the filter of the command line.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

REF = ImageRef(Path("picture"))
SPEC = PreprocessSpec(size=32)


def result(data: bytes, spec: PreprocessSpec = SPEC) -> Pixels | Failed:
    return decode_stream(io.BytesIO(data), REF, spec, size_bytes=len(data))


def noise(size: tuple[int, int] = (200, 160)) -> Image.Image:
    """Every row takes about as many bytes as any other."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def pixels_of(data: bytes, spec: PreprocessSpec = SPEC) -> npt.NDArray[np.uint8]:
    pixels = result(data, spec)
    assert isinstance(pixels, Pixels), pixels
    return pixels.rgb


LZW = {"compression": "tiff_lzw", "tiffinfo": {278: 8}}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"subsampling": 0, "quality": 95}),
        ("PNG", {}),
        ("GIF", {"interlace": 0}),
        ("TIFF", {}),
        ("PPM", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("part", [0.9, 0.97])
def test_the_rows_that_there_are_are_judged_and_nothing_else(
    kind: str, options: dict[str, object], part: float
) -> None:
    data = encoded(noise(), kind, **options)
    whole = pixels_of(data)
    cut = result(data[: int(len(data) * part)])
    assert isinstance(cut, Pixels)
    assert cut.facts.notes == ("truncated",)
    assert (cut.facts.width, cut.facts.height) == (200, 160)
    rows = len(cut.rgb)
    assert part * 160 - 22 <= rows <= part * 160 + 1
    # The very pixels of the whole picture: no grey, no black, nothing made up.
    assert np.array_equal(cut.rgb, whole[:rows])


def test_a_bmp_is_stored_from_the_bottom_and_so_is_what_is_left_of_it() -> None:
    data = encoded(noise(), "BMP")
    cut = pixels_of(data[: int(len(data) * 0.8)])
    assert 0.75 * 160 <= len(cut) < 0.81 * 160
    assert np.array_equal(cut, pixels_of(data)[-len(cut) :])


def test_black_rows_that_were_decoded_count_as_decoded() -> None:
    """What is told from the background is told by decoding over two of them."""
    image = noise()
    image.paste("black", (0, 40, 200, 136))
    data = encoded(image, "PNG", compress_level=0)
    cut = pixels_of(data[: int(len(data) * 0.8)])
    assert len(cut) >= 0.78 * 160


def interlaced_png(image: Image.Image) -> bytes:
    """Seven passes (PNG, section 8.2), which Pillow reads and does not write."""
    import zlib

    pixels = np.asarray(image)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = [
        b"\0" + row.tobytes()
        for x, y, dx, dy in [*passes, (0, 1, 1, 2)]
        for row in pixels[y::dy, x::dx]
    ]
    head = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 1)
    chunks = [b"IHDR" + head, b"IDAT" + zlib.compress(b"".join(rows), 0), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def test_an_interlaced_picture_that_lacks_every_second_row_is_not_most_of_one() -> None:
    data = interlaced_png(noise())
    assert np.array_equal(pixels_of(data), np.asarray(noise()))
    cut = result(data[: int(len(data) * 0.8)])
    assert isinstance(cut, Failed)
    assert cut.reason == "truncated"


def test_less_than_three_quarters_is_a_failure_that_says_how_much_there_was() -> None:
    data = encoded(noise(), "PNG")
    cut = result(data[: int(len(data) * 0.7)])
    assert isinstance(cut, Failed)
    assert cut.reason == "truncated"
    assert "only 69% of its rows could be decoded" in cut.detail


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG2000", "progressive"])
def test_what_is_only_decoded_as_a_whole_is_a_failure_however_little_is_missing(kind: str) -> None:
    """A progressive JPEG's last part is the fine detail of all of it."""
    options = {"progressive": True} if kind == "progressive" else {}
    data = encoded(noise(), "JPEG" if options else kind, **options)
    cut = result(data[: int(len(data) * 0.95)])
    assert isinstance(cut, Failed)
    assert cut.reason == "truncated"


def test_a_heic_that_is_cut_short_is_a_failure() -> None:
    data = (Path(__file__).parent / "heif/plain.heic").read_bytes()
    cut = result(data[:-50])
    assert isinstance(cut, Failed)
    assert cut.reason == "truncated"


def test_compressed_strips_that_are_missing_are_known_from_the_tags() -> None:
    data = encoded(noise(), "TIFF", **LZW)
    cut = result(data[: int(len(data) * 0.9)])
    assert isinstance(cut, Failed)
    assert cut.reason == "truncated"


def test_zeros_in_place_of_the_end_are_no_part_of_the_picture() -> None:
    """A download that was given its full size beforehand and broke off."""
    data = encoded(noise(), "JPEG")
    cut = int(len(data) * 0.85)
    pixels = result(data[:cut] + bytes(len(data) - cut))
    assert isinstance(pixels, Pixels)
    assert pixels.facts.notes == ("truncated",)
    assert pixels.facts.bytes == len(data)
    assert np.array_equal(pixels.rgb, pixels_of(data)[: len(pixels.rgb)])
    assert len(pixels.rgb) < 0.86 * 160
    padded = result(data + bytes(5000))
    assert isinstance(padded, Pixels)
    assert padded.facts.notes == ()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_part_is_cut_before_it_is_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(), "JPEG", exif=exif)
    whole, cut = pixels_of(data), pixels_of(data[: int(len(data) * 0.85)])
    rows = cut.shape[0] if orientation == 3 else cut.shape[1]
    expected = {3: whole[160 - rows :], 6: whole[:, 160 - rows :], 8: whole[:, :rows]}
    assert np.array_equal(cut, expected[orientation])


def test_at_reduced_scale_the_part_is_the_same_part() -> None:
    spec = PreprocessSpec(size=16)
    data = encoded(noise((1001, 803)), "JPEG", quality=60)
    whole, cut = result(data, spec), result(data[: int(len(data) * 0.9)], spec)
    assert isinstance(whole, Pixels)
    assert isinstance(cut, Pixels)
    assert whole.box == (0, 0, 1001 / 8, 803 / 8)
    rows = len(cut.rgb)
    assert rows < 95
    assert np.array_equal(cut.rgb, whole.rgb[:rows])
    assert cut.box == (0, 0, 1001 / 8, rows)


def test_a_large_picture_is_not_decoded_twice_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LARGE_PIXELS", 200 * 160 - 1)
    data = encoded(noise(), "PNG")
    cut = result(data[: int(len(data) * 0.95)])
    assert isinstance(cut, Failed)
    assert cut.reason == "truncated"


def test_pillows_switch_for_broken_files_stays_off() -> None:
    """It is a global: another thread's picture would be judged with grey in it."""
    data = encoded(noise(), "JPEG")
    result(data[: int(len(data) * 0.9)])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_damaged_picture_of_full_length_is_not_called_truncated() -> None:
    data = bytearray(encoded(noise(), "PNG"))
    data[-9000:-5000] = bytes(4000)
    failed = result(bytes(data))
    assert isinstance(failed, Failed)
    assert failed.reason == "unreadable"
