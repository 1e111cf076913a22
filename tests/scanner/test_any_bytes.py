"""Names, metadata and heads of files hold anything; what reads them promises the same for all."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from fakes import SPEC, encoded, grey
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.raw_files import Tiff
from scanner.formats import EXTENSIONS, ends_early, name_notes, sniff
from scanner.images import decode_stream
from scanner.jpeg import end_of_data, read_header
from scanner.raw import find_preview, kind_of_tiff
from scanner.refused import RefusedError
from scanner.text import UNSAFE, printable
from scanner.types import ImageRef, Pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# What formats begin with, so that their parsers are reached, and anything at all behind it.
heads = st.sampled_from(
    [
        *(b"", b"\xff\xd8\xff", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"IIRO\x08\0\0\0"),
        *(b"IIU\0\x18\0\0\0", b"FUJIFILMCCD-RAW ", b"\0\0\0\x18ftypcrx ", b"\0\0\0\x18ftypheic"),
        *(b"RIFF\0\0\0\0WEBP", b"BM", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n"),
    ]
)
contents = st.builds(lambda head, rest: head + rest, heads, st.binary(max_size=300))


@given(contents)
def test_the_parsers_of_heads_answer_within_what_they_promise(data: bytes) -> None:
    stream = io.BytesIO(data)
    kind = sniff(data[:512])
    assert kind is None or kind in EXTENSIONS
    assert ends_early(stream, len(data)) in (True, False)
    assert 0 <= end_of_data(stream, len(data)) <= len(data)
    header = read_header(stream)
    assert header is None or min(header.width, header.height) > 0


tags = st.dictionaries(
    st.sampled_from(
        [254, 256, 257, 259, 262, 271, 273, 274, 279, 330, 513, 514, 34665, 37500, 0x2E]
    ),
    st.one_of(
        st.integers(0, 2**32 - 1),
        st.lists(st.integers(0, 600), min_size=1, max_size=5).map(tuple),
        st.binary(min_size=1, max_size=40),
        st.text("OLYMPUSinkon\0", min_size=1, max_size=20),
    ),
)


@given(tags, tags, st.sampled_from([b"II*\0", b"MM\0*", b"IIRO", b"IIU\0"]), st.binary(max_size=99))
def test_a_preview_lies_in_the_file_whatever_the_tags_say(
    first: dict[int, int], second: dict[int, int], magic: bytes, rest: bytes
) -> None:
    tiff = Tiff(magic)
    tiff.block(rest)
    data = tiff.done(tiff.folder(first, after=tiff.folder(second)))
    stream = io.BytesIO(data)
    kind = kind_of_tiff(stream, ".nef")
    assert kind in EXTENSIONS
    try:
        preview = find_preview(stream, len(data), kind)
    except RefusedError as refused:
        preview, reason = None, refused.reason
    else:
        reason = "truncated"
    assert reason == "truncated"
    assert preview is None or preview.offset + preview.length <= len(data)


@settings(deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_metadata_of_any_bytes_costs_no_picture(block: bytes, with_head: bool) -> None:
    """EXIF and XMP of a JPEG, text and EXIF of a PNG."""
    exif = (b"Exif\0\0II*\0\x08\0\0\0" if with_head else b"") + block
    text = struct.pack(">I", len(block)) + b"iTXt" + block
    text += struct.pack(">I", zlib.crc32(b"iTXt" + block))
    png = bytearray(encoded(grey(9), "PNG", exif=exif))
    png[33:33] = text
    for data in (encoded(grey(9), "JPEG", exif=exif, xmp=block), bytes(png)):
        ref = ImageRef(Path("picture"))
        pixels = decode_stream(io.BytesIO(data), ref, SPEC, size_bytes=len(data))
        assert isinstance(pixels, Pixels), pixels
        assert sorted(pixels.rgb.shape) == [3, 32, 40]


@given(st.text(), st.text())
def test_any_name_has_its_notes_and_is_shown_on_one_line(name: str, member: str) -> None:
    ref = ImageRef(Path(name.replace("\0", "")), member)
    assert name_notes(ref, "JPEG") in ((), ("extension_mismatch",))
    assert not UNSAFE.search(printable(ref.name))
    assert printable(printable(ref.name)) == printable(ref.name)
