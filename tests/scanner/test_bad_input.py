"""Files that are not what they seem: each is one row with a reason, and nothing else stops."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import HALF, SPEC, BrightnessScorer, encoded, gradient, grey, save_grey
from PIL import Image, TiffImagePlugin
from test_cli import imgscan, rows_of

from scanner import images, reading
from scanner.bundle import Bundle
from scanner.find import WalkRules, find_images
from scanner.images import decode
from scanner.limits import DEFAULT_LIMITS, DecodeLimits, Limits
from scanner.preprocess import PreprocessSpec
from scanner.reading import Source
from scanner.scan import scan
from scanner.types import Box, Failed, FileFacts, ImageRef, Reason, Verdict

# pytest replaces the filter that importing scanner.images sets.
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


def failure(path: Path) -> Failed:
    failed = decode(ImageRef(path), SPEC)
    assert isinstance(failed, Failed), failed
    # What people read: one line, nothing a terminal obeys, nothing of Python's insides.
    assert failed.detail
    assert failed.detail.isprintable()
    assert not re.search(r"0x[0-9a-f]{6}|<[\w.]+ |Traceback|Error\(", failed.detail)
    return failed


def bomb(width: int, height: int) -> bytes:
    """A small PNG that declares to be large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [head, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def _ftyp(*brands: bytes) -> bytes:
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(content) + 4) + content


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"not a picture at all, but long enough to look at\n" * 9, "not_an_image"),
        ("page.png", b"<!DOCTYPE html><title>404</title>", "not_an_image"),
        ("zeros.gif", bytes(4096), "not_an_image"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "unreadable"),
        ("photo.jxl", b"\xff\x0a" + bytes(99), "unsupported"),
        ("photo.nef", b"II*\0\x08\0\0\0" + bytes(99), "unsupported"),
        ("bare.jpeg", b"\xff\x0a" + bytes(99), "not_an_image"),
        ("canon.tif", b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "unsupported"),
        ("late.bin", _ftyp(b"isom", *[b"iso8"] * 20, b"heic"), "unreadable"),
        ("not_its_own.bin", _ftyp(b"isom", b"iso8") + b"heic" + bytes(99), "not_an_image"),
        ("art.psd", b"8BPS\0\x01" + bytes(99), "unsupported"),
        ("huge.png", bomb(60_000, 60_000), "too_large"),
        ("large.png", bomb(20_000, 20_000), "too_large"),
        ("tiny.png", encoded(grey(0, (15, 400)), "PNG"), "too_small"),
        ("only_header.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0", "truncated"),
    ],
)
def test_each_has_its_reason(tmp_path: Path, name: str, content: bytes, reason: Reason) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    failed = failure(path)
    assert failed.reason == reason
    assert failed.facts.bytes == len(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.7])
def test_a_file_that_was_cut_short_is_told_from_a_damaged_one(
    tmp_path: Path, kind: str, part: float
) -> None:
    """Where too little of it is left; tests/scanner/test_truncated.py has the others."""
    noisy = Image.effect_noise((200, 160), 80).convert("RGB")
    data = encoded(noisy, kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * part)])
    failed = failure(path)
    assert failed.reason == "truncated"
    assert failed.facts.format == kind


def test_an_archive_that_is_named_says_how_it_is_looked_into(tmp_path: Path) -> None:
    for name in ("pictures.zip", "book.docx"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.txt", "text")
        failed = failure(tmp_path / name)
        assert (failed.reason, "--archives" in failed.detail) == ("not_an_image", True)
    (tmp_path / "page.png").write_bytes(b"<!DOCTYPE html><title>404</title>")
    assert "--archives" not in failure(tmp_path / "page.png").detail


def test_a_damaged_file_of_full_length_is_unreadable(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.effect_noise((200, 160), 80), "PNG"))
    data[1000:9000] = bytes(8000)
    (tmp_path / "body.png").write_bytes(data)
    (tmp_path / "header.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(500) + b"\xff\xd9")
    assert failure(tmp_path / "body.png").reason == "unreadable"
    assert failure(tmp_path / "header.jpg").reason == "unreadable"


def test_what_is_known_of_a_failed_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bomb(20_000, 20_000))
    failed = failure(tmp_path / "large.png")
    assert (failed.facts.width, failed.facts.height) == (20_000, 20_000)
    assert failed.facts.format == "PNG"
    assert failed.facts.sha256 is not None
    assert "20000 x 20000 pixels are more than the limit of 300,000,000" in failed.detail


def test_the_limit_of_pixels_is_the_callers_and_the_message_names_the_option(
    tmp_path: Path,
) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    failed = decode(ref, SPEC, DecodeLimits(max_pixels=40 * 32 - 1))
    assert isinstance(failed, Failed)
    assert failed.reason == "too_large"
    assert "40 x 32 pixels are more than the limit of 1,279; raise --max-pixels" in failed.detail
    assert not isinstance(decode(ref, SPEC, DecodeLimits(max_pixels=40 * 32)), Failed)
    # Others in this process open pictures too, and have not asked for so low a limit.
    assert Image.MAX_IMAGE_PIXELS is not None
    assert DEFAULT_LIMITS.max_pixels <= Image.MAX_IMAGE_PIXELS


def test_a_limit_above_the_usual_one_holds_for_pillow_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    ref = save_grey(tmp_path / "a.png", 0)
    assert not isinstance(decode(ref, SPEC, DecodeLimits(max_pixels=5000)), Failed)


def test_what_is_known_of_a_hash_is_the_answer_and_nothing_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    info = ref.path.stat()
    asked: list[FileFacts] = []

    def known(facts: FileFacts) -> str:
        asked.append(facts)
        return "as before"

    monkeypatch.setattr(images.Image, "open", refuse(errno.EIO))
    assert decode(ref, SPEC, known=known) == "as before"
    digest = hashlib.sha256(ref.path.read_bytes()).hexdigest()
    facts = FileFacts(bytes=info.st_size, mtime_ns=info.st_mtime_ns, sha256=digest, format="PNG")
    assert asked == [facts]


def test_a_disk_that_fails_after_the_hash_is_no_result_of_these_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    monkeypatch.setattr(images, "read", refuse(errno.EIO))
    failed = decode(ref, SPEC)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.facts.sha256) == ("unreadable", None)


def test_a_file_that_is_written_to_while_it_is_read_has_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    read = images.read

    def slow_read(
        image: Image.Image, source: Source, spec: PreprocessSpec, limits: DecodeLimits
    ) -> tuple[npt.NDArray[np.uint8], Box | None]:
        with ref.path.open("ab") as file:
            file.write(b"more")
        return read(image, source, spec, limits)

    monkeypatch.setattr(images, "read", slow_read)
    failed = failure(ref.path)
    assert failed.reason == "changed"
    assert failed.facts.sha256 is None  # of which of the two contents?


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [20_000, 60_000])
def test_warnings_made_errors_do_not_change_the_reason(tmp_path: Path, side: int) -> None:
    (tmp_path / "large.png").write_bytes(bomb(side, side))
    assert failure(tmp_path / "large.png").reason == "too_large"


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.hashlib, "file_digest", refuse(errno.EIO))
    with (tmp_path / "sparse.webp").open("wb") as file:
        file.write(b"RIFF\0\0\0\xc0WEBPVP8 ")
        file.truncate(DEFAULT_LIMITS.max_bytes + 1)
    failed = failure(tmp_path / "sparse.webp")
    assert failed.reason == "too_large"
    assert "1,073,741,825 bytes are more than the limit of 1,073,741,824" in failed.detail
    assert "raise --max-file-bytes" in failed.detail
    assert (failed.facts.bytes, failed.facts.sha256) == (DEFAULT_LIMITS.max_bytes + 1, None)


@pytest.mark.parametrize(
    ("tags", "kind"),
    [({50706: b"\x01\x04\0\0"}, "DNG"), ({254: 1, 330: 8}, "RAW")],
    ids=["DNG", "a preview before the photograph"],
)
def test_a_raw_file_that_is_called_tiff_is_refused(
    tmp_path: Path, tags: dict[int, object], kind: str
) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tags.items():
        info.tagtype[number] = 1 if isinstance(value, bytes) else 4
        info[number] = value
    gradient((40, 40)).save(tmp_path / "a.tif", tiffinfo=info)
    failed = failure(tmp_path / "a.tif")
    assert (failed.reason, failed.facts.format) == ("unsupported", kind)
    assert "export it as JPEG, PNG or TIFF" in failed.detail


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_file_of_no_size_that_has_bytes_is_not_called_empty() -> None:
    assert failure(Path("/proc/self/status")).reason == "not_an_image"


def test_a_wrong_extension_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(encoded(gradient((40, 40)), "WEBP"))
    assert not isinstance(decode(ImageRef(tmp_path / "a.gif"), SPEC), Failed)


def test_a_file_that_vanished_is_a_row(tmp_path: Path) -> None:
    assert failure(tmp_path / "gone.png").reason == "vanished"


def test_what_became_a_folder_or_a_pipe_is_a_row_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert failure(tmp_path / "folder.png").reason == "unreadable"
    assert failure(tmp_path / "pipe.png").detail == "not a plain file"


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EACCES, "permission"), (errno.ENOENT, "vanished"), (errno.EIO, "unreadable")],
)
def test_a_refusal_of_the_operating_system_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: Reason
) -> None:
    """Simulated: the tests may run as a user whom no file is closed to."""
    ref = save_grey(tmp_path / "a.png", 0)
    monkeypatch.setattr(os, "open", refuse(number))
    failed = failure(ref.path)
    assert (failed.reason, failed.detail) == (reason, os.strerror(number))


def test_a_folder_that_cannot_be_listed_is_a_row_and_the_walk_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        save_grey(tmp_path / name, 0)
    plain = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    first, locked, last = find_images([tmp_path])
    assert isinstance(locked, Failed)
    assert (locked.ref.path, locked.reason) == (tmp_path / "b", "permission")
    assert (first.path, last.path) == (tmp_path / "a/1.png", tmp_path / "c/3.png")  # type: ignore[union-attr]


def test_a_file_that_cannot_be_looked_into_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a picture; that it was not looked at must not go unsaid."""
    (tmp_path / "unknown").write_bytes(b"?")
    monkeypatch.setattr(os, "open", refuse(errno.EACCES))
    (failed,) = find_images([tmp_path], rules=WalkRules(ignore_files=False))
    assert isinstance(failed, Failed)
    assert failed.reason == "permission"


def test_a_disk_that_fails_while_reading_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    monkeypatch.setattr(images.hashlib, "file_digest", refuse(errno.EIO))
    failed = failure(ref.path)
    assert (failed.reason, failed.detail) == ("unreadable", "Input/output error")


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), ZeroDivisionError("x\x1b[2J")])
def test_whatever_a_decoder_raises_is_that_files_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ref = save_grey(tmp_path / "a.png", 0)

    def crash(image: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr(reading, "to_rgb", crash)
    failed = failure(ref.path)
    assert failed.reason == ("too_large" if isinstance(error, MemoryError) else "unreadable")
    assert (failed.facts.width, failed.facts.height) == (40, 32)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_damage_is_always_a_result(tmp_path: Path) -> None:
    """Bytes overwritten and cut at random, in every format: never an exception."""
    import random

    rng = random.Random(0)
    kinds = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO"]
    originals = [encoded(Image.effect_noise((64, 64), 60).convert("RGB"), kind) for kind in kinds]
    for round_ in range(300):
        data = bytearray(originals[round_ % len(originals)])
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(min(len(data), rng.choice([64, 100_000])))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path = tmp_path / "damaged.jpg"
        path.write_bytes(data)
        result = decode(ImageRef(path), SPEC)
        if isinstance(result, Failed):
            failure(path)


def test_a_folder_of_all_of_them_is_scanned_to_the_end(tmp_path: Path) -> None:
    good = encoded(grey(255), "PNG")
    (tmp_path / "a_folder.jpg").mkdir()
    (tmp_path / "a_folder.jpg/inside.png").write_bytes(good)
    (tmp_path / "b_empty.jpg").write_bytes(b"")
    (tmp_path / "c_cut.png").write_bytes(good[:50])
    (tmp_path / "d_text.webp").write_text("words")
    (tmp_path / "e_huge.png").write_bytes(bomb(60_000, 60_000))
    (tmp_path / "f_loop").symlink_to(tmp_path)
    (tmp_path / "g_self.png").symlink_to("g_self.png")
    os.mkfifo(tmp_path / "h_pipe.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/i_\xff\n\x1b[31m.png")).write_bytes(good)
    (tmp_path / "z.png").write_bytes(good)
    results = list(
        scan(
            find_images([tmp_path]), BrightnessScorer(), point=HALF, batch_size=2, limits=Limits(2)
        )
    )
    told = [
        (os.fsencode(r.ref.path.name), r.verdict if isinstance(r, Verdict) else r.reason)
        for r in results
    ]
    assert told == [
        (b"inside.png", "fake"),
        (b"b_empty.jpg", "empty"),
        (b"c_cut.png", "truncated"),
        (b"d_text.webp", "not_an_image"),
        (b"e_huge.png", "too_large"),
        (b"i_\xff\n\x1b[31m.png", "fake"),
        (b"z.png", "fake"),
    ]


def refuse(number: int) -> Callable[..., object]:
    def refused(*args: object, **options: object) -> object:
        raise OSError(number, os.strerror(number))

    return refused


def test_the_limit_of_bytes_is_an_option(tmp_path: Path, tiny_bundle: Bundle) -> None:
    path = save_grey(tmp_path / "a.png", 0).path
    size = path.stat().st_size
    report = tmp_path / "out.csv"
    for limit, status in ((size - 1, 2), (size, 0)):
        args = ("--max-file-bytes", str(limit), "--no-journal", "--report", report)
        done = imgscan(*args, path, model=tiny_bundle)
        assert done.returncode == status, done.stderr
        (row,) = rows_of(report)
        assert row["error"].startswith("too_large") == (status == 2)
