"""Formats go by content; what the name says besides is noted."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fakes import SPEC, encoded, gradient, grey

from scanner.clipped import Clipped
from scanner.formats import EXTENSIONS, KNOWN_EXTENSIONS, RAW_FORMATS, name_notes, sniff
from scanner.images import decode, decode_stream
from scanner.jpeg import end_of_data, read_header
from scanner.types import Failed, ImageRef, Pixels

# Of damaged files; pytest replaces the filter of the command line.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize(
    ("name", "kind", "noted"),
    [
        ("a.jpg", "JPEG", False),
        ("a.JPEG", "JPEG", False),
        ("a.mpo", "JPEG", False),
        ("a.png", "JPEG", True),
        ("a.jpg", "HEIF", True),
        ("a.heif", "AVIF", False),
        ("a.nrw", "NEF", False),
        ("a.tif", "DNG", True),
        ("a.bin", "PNG", False),
        ("png", "JPEG", False),
        (".png", "JPEG", False),
        ("a.png", None, False),
    ],
)
def test_only_the_name_of_another_picture_format_is_a_mismatch(
    name: str, kind: str | None, noted: bool
) -> None:
    expected = ("extension_mismatch",) if noted else ()
    assert name_notes(ImageRef(Path(name)), kind) == expected


def test_in_an_archive_the_members_name_counts() -> None:
    assert name_notes(ImageRef(Path("a.png"), "in/b.jpg"), "JPEG") == ()
    assert name_notes(ImageRef(Path("a.jpg"), "in/b.png"), "JPEG") == ("extension_mismatch",)


def test_a_mismatch_is_noted_of_scored_and_of_failed_files(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(encoded(gradient((40, 40)), "WEBP"))
    (tmp_path / "b.jpg").write_bytes(b"8BPS\0\x01" + bytes(99))
    (tmp_path / "c.jpg").write_bytes(encoded(grey(9), "PPM"))  # known by Pillow only
    results = [decode(ImageRef(tmp_path / name), SPEC) for name in ("a.gif", "b.jpg", "c.jpg")]
    assert [type(r) for r in results] == [Pixels, Failed, Pixels]
    assert [r.facts.format for r in results] == ["WEBP", "PSD", "PPM"]
    assert {r.facts.notes for r in results} == {("extension_mismatch",)}


def test_no_extension_belongs_to_two_formats_but_heifs() -> None:
    shared = [e for e in KNOWN_EXTENSIONS if sum(e in names for names in EXTENSIONS.values()) > 1]
    assert sorted(shared) == [".heif", ".hif"]
    assert set(EXTENSIONS) > RAW_FORMATS


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
        (b"IIRO\x08\0\0\0", "ORF"),
        (b"MMOR\0\0\0\x08", "ORF"),
        (b"IIU\0\x18\0\0\0", "RW2"),
        (b"FUJIFILMCCD-RAW 0201", "RAF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
    ],
)
def test_camera_raw_that_has_a_signature_is_known_by_it(head: bytes, kind: str) -> None:
    assert sniff(head.ljust(64, b"\0")) == kind


def test_a_read_is_cut_to_what_the_file_has() -> None:
    """Python makes room for all that is asked for before it looks at the disk."""

    class Asked(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            self.most = max(self.most, -1 if size is None else size)
            return super().read(size)

    stream = Asked(b"0123456789")
    clipped = Clipped(stream, 8)
    assert clipped.read(2**40) == b"01234567"
    assert clipped.read(2**40) == b""
    assert clipped.seek(-3, io.SEEK_END) == 5
    assert clipped.read() == b"567"
    assert stream.most == 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "GIF"])
def test_a_declared_length_beyond_the_file_makes_no_room_for_it(kind: str) -> None:
    """Each run of four bytes in the head is made the largest length there is, one at a time."""
    import tracemalloc

    data = encoded(grey(9, (32, 32)), kind)
    tracemalloc.start()
    try:
        for at in range(0, min(len(data) - 4, 160)):
            damaged = data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :]
            decode_stream(io.BytesIO(damaged), ImageRef(Path("a")), SPEC, size_bytes=len(damaged))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20


def test_a_jpegs_header_says_whether_it_is_decoded_in_one_pass() -> None:
    image = gradient((40, 30))
    header = read_header(io.BytesIO(encoded(image, "JPEG")))
    assert header is not None
    assert (header.width, header.height, header.in_one_pass) == (40, 30, True)
    progressive = read_header(io.BytesIO(encoded(image, "JPEG", progressive=True)))
    assert progressive is not None
    assert not progressive.in_one_pass
    # A scan for each component: the first one is of one of three.
    data = bytearray(encoded(image, "JPEG"))
    scan = data.index(b"\xff\xda")
    data[scan + 2 : scan + 5] = b"\0\x08\x01"
    several = read_header(io.BytesIO(bytes(data)))
    assert several is not None
    assert not several.in_one_pass


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\xff\xd8\xff\xc3\0\x20"])
def test_what_is_no_decodable_jpeg_has_no_header(data: bytes) -> None:
    assert read_header(io.BytesIO(data + bytes(40))) is None


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"\xff\xd8abc" + bytes(1000), 5),
        (b"\xff\xd8abc" + bytes(10), 15),
        (b"\xff\xd8abc\xff\xd9" + bytes(1000), 1007),
        (bytes(200_000), 0),
        (b"", 0),
    ],
)
def test_the_end_of_a_jpegs_data(data: bytes, end: int) -> None:
    assert end_of_data(io.BytesIO(data), len(data)) == end
