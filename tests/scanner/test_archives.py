"""Pictures inside archives: found, read in any order, and never at any cost."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pytest
from fakes import HALF, SPEC, BrightnessScorer, encoded, grey, save_grey
from test_cli import imgscan, rows_of

from scanner import archives, members
from scanner.archives import ArchiveLimits, MemberError, list_members, open_member
from scanner.bundle import Bundle
from scanner.find import WalkCounts, WalkRules, find_images
from scanner.images import decode
from scanner.limits import Limits
from scanner.scan import scan
from scanner.spool import Spool
from scanner.types import Extent, Failed, ImageRef, Pixels, Verdict

WHITE, BLACK = encoded(grey(255), "PNG"), encoded(grey(0), "PNG")
ARCHIVES = WalkRules(archives=True)
TARS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}


def make_zip(path: Path, content: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, content: Mapping[str, bytes]) -> Path:
    kind = next(kind for ending, kind in TARS.items() if path.name.endswith(ending))
    with tarfile.open(path, f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make(path: Path, content: Mapping[str, bytes]) -> Path:
    return (make_zip if path.suffix in (".zip", ".cbz") else make_tar)(path, content)


def found(
    *roots: Path, spool: Spool | None = None, counts: WalkCounts | None = None, **rules: object
) -> list[ImageRef | Failed]:
    chosen = WalkRules(archives=True, **rules)  # type: ignore[arg-type]
    return list(find_images(list(roots), counts, chosen, spool))


def told(results: list[ImageRef | Failed]) -> list[tuple[str | None, str]]:
    return [
        (r.ref.member, r.reason) if isinstance(r, Failed) else (r.member, "found") for r in results
    ]


KINDS = [".zip", ".cbz", *TARS]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_in_archives_are_scanned_in_place(tmp_path: Path, kind: str) -> None:
    path = make(
        tmp_path / f"a{kind}",
        {
            "w.png": WHITE,
            "d/b.jpg": BLACK,
            "by_content": WHITE,
            "notes.txt": b"words",
            "e.png": b"",
        },
    )
    with Spool() as spool:
        refs = find_images([tmp_path], rules=ARCHIVES, spool=spool)
        results = []
        for result in scan(refs, BrightnessScorer(), point=HALF, batch_size=2, limits=Limits(2)):
            spool.release(result.ref)
            results.append(result)
        assert all(result.ref.path == path for result in results)
        assert [
            (r.ref.member, r.verdict if isinstance(r, Verdict) else r.reason) for r in results
        ] == [("w.png", "fake"), ("d/b.jpg", "real"), ("by_content", "fake"), ("e.png", "empty")]
        facts = results[0].facts
        assert (facts.bytes, facts.mtime_ns) == (len(WHITE), path.stat().st_mtime_ns)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_read_in_any_order_by_threads_and_other_processes(
    tmp_path: Path, kind: str
) -> None:
    content = {f"{i}.png": encoded(grey(i), "PNG") for i in range(40)}
    make(tmp_path / f"a{kind}", content)
    with Spool() as spool:
        refs = [ref for ref in found(tmp_path, spool=spool) if isinstance(ref, ImageRef)]
        assert len(refs) == 40
        wrong: list[object] = []

        def read(step: int) -> None:
            for i in range(0, 400, step):
                ref = refs[i % 40]
                with open_member(ref).stream as stream:
                    if stream.read() != content[str(ref.member)]:
                        wrong.append(ref)

        threads = [threading.Thread(target=read, args=(step,)) for step in (7, 11, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        with multiprocessing.get_context("fork").Pool(2) as pool:
            sent = pickle.loads(pickle.dumps(refs))
            assert pool.map(_grey_of, reversed(sent)) == [*reversed(range(40))]
    # Without what the walk noted (a row that is looked at later), the archive is searched.
    bare = ImageRef(tmp_path / f"a{kind}", "17.png")
    assert open_member(bare).stream.read() == content["17.png"]
    with pytest.raises(MemberError, match="no such member"):
        open_member(ImageRef(tmp_path / f"a{kind}", "gone.png"))


def _grey_of(ref: ImageRef) -> int:
    pixels = decode(ref, SPEC)
    assert isinstance(pixels, Pixels)
    return int(pixels.rgb[0, 0, 0])


def test_an_archive_is_told_by_its_content_where_its_name_says_nothing(tmp_path: Path) -> None:
    make_zip(tmp_path / "x.zip", {"a.png": WHITE}).rename(tmp_path / "zipped")
    make_tar(tmp_path / "x.tar", {"a.png": WHITE}).rename(tmp_path / "tarred.dat")
    make_tar(tmp_path / "y.tar.gz", {"a.png": WHITE}).rename(tmp_path / "is_tar_gz.tar")
    make_zip(tmp_path / "x.zip", {"a.png": WHITE}).rename(tmp_path / "not.jpg")
    (tmp_path / "notes.gz").write_bytes(b"\x1f\x8bwhatever")
    with Spool() as spool:
        refs = found(tmp_path, spool=spool)
    assert [(ref.path.name, ref.member) for ref in refs if isinstance(ref, ImageRef)] == [
        ("is_tar_gz.tar", "a.png"),
        ("not.jpg", None),
        ("tarred.dat", "a.png"),
        ("zipped", "a.png"),
    ]


def test_archives_are_left_out_and_counted_unless_asked_for(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": WHITE})
    counts = WalkCounts()
    assert list(find_images([tmp_path], counts)) == []
    assert counts.left_out == {"archive": 1}
    assert list(find_images([path])) == [ImageRef(path)]  # named, a row: it is no picture
    assert told(found(path)) == [("a.png", "found")]


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_the_rules_for_files_hold_for_members(tmp_path: Path, kind: str) -> None:
    make(
        tmp_path / f"a{kind}",
        {
            "./w.png": WHITE,
            ".hidden.png": WHITE,
            "__MACOSX/._w.png": b"resources",
            "thumbs/w.png": WHITE,
            "small.png": b"x",
            "b.jpg": WHITE,
            "inner.zip": b"PK\x03\x04",
            "inner": b"PK\x03\x04",
        },
    )
    counts = WalkCounts()
    with Spool() as spool:
        refs = found(
            tmp_path,
            spool=spool,
            counts=counts,
            exclude=("thumbs/",),
            include=("*.png",),
            min_bytes=2,
        )
        assert told(refs) == [("./w.png", "found")]
        assert counts.left_out["hidden"] == 2
        assert counts.left_out["excluded"] == 1
        assert counts.left_out["small"] == 1
        counts = WalkCounts()
        assert len(found(tmp_path, spool=spool, counts=counts, hidden=True)) == 6
        assert counts.left_out == {"nested": 2}
        assert found(tmp_path, spool=spool, exclude=(f"*{kind}",)) == []
    (tmp_path / ".imgscanignore").write_text(f"/a{kind}/*.png\n")
    with Spool() as spool:
        assert told(found(tmp_path, spool=spool)) == [("thumbs/w.png", "found"), ("b.jpg", "found")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.xz"])
def test_of_one_name_the_first_is_scanned_and_links_are_not_followed(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"a{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.png", WHITE)
            archive.writestr("a.png", BLACK)
            link = zipfile.ZipInfo("link.png")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "a.png")
    else:
        with tarfile.open(path, "w:xz" if kind == ".tar.xz" else "w") as archive:
            for data in (WHITE, BLACK):
                info = tarfile.TarInfo("a.png")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            info = tarfile.TarInfo("link.png")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    counts = WalkCounts()
    with Spool() as spool:
        (ref,) = found(tmp_path, spool=spool, counts=counts)
        assert isinstance(ref, ImageRef)
        assert open_member(ref).stream.read() == WHITE
        assert open_member(ImageRef(path, "a.png")).stream.read() == WHITE
    assert counts.left_out == {"same_name": 1, "symlink": 1}


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_a_name_of_a_member_is_never_a_path_on_disk(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    names = ["../../up.png", "/abs.png", "a\x1b[2J.png", "c:\\x.png"]
    make(tmp_path / f"in/a{kind}", dict.fromkeys(names, WHITE))
    with Spool() as spool:
        refs = found(tmp_path / "in", spool=spool)
        assert [ref.member for ref in refs if isinstance(ref, ImageRef)] == names
        assert all(isinstance(decode(ref, SPEC), Pixels) for ref in refs)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.rglob("*")) == [f"a{kind}", "in"]


# --- damage and malice ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.7])
def test_an_archive_that_was_cut_short_is_a_failed_row(
    tmp_path: Path, kind: str, part: float
) -> None:
    noise = {f"{i}.png": encoded(_noise(), "PNG") for i in range(8)}
    path = make(tmp_path / f"a{kind}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    save_grey(tmp_path / "z.png", 0)
    with Spool() as spool:
        *before, archive, z = found(tmp_path, spool=spool)
    assert isinstance(archive, Failed)
    assert archive.ref == ImageRef(path)
    assert archive.reason in ("truncated", "unreadable")
    assert archive.detail.isprintable()
    assert z == ImageRef(tmp_path / "z.png")
    if kind in TARS:
        assert archive.reason == "truncated"
        assert all(isinstance(ref, ImageRef) for ref in before[:-1])


def _noise() -> object:
    from PIL import Image

    return Image.effect_noise((60, 60), 80)


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_is_always_rows(tmp_path: Path, kind: str) -> None:
    import random

    rng = random.Random(kind)
    path = make(tmp_path / f"a{kind}", {f"{i}.png": WHITE for i in range(5)})
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with Spool() as spool:
            for ref in found(tmp_path, spool=spool):
                result = decode(ref, SPEC) if isinstance(ref, ImageRef) else ref
                assert isinstance(result, Pixels) or result.detail.isprintable()


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_without_bytes_and_one_that_is_none_are_rows(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a{kind}").write_bytes(b"")
    (tmp_path / f"b{kind}").write_text("words\n" * 200)
    with Spool() as spool:
        assert told(found(tmp_path, spool=spool)) == [(None, "empty"), (None, "unreadable")]


def test_a_damaged_header_in_the_middle_of_a_tar_is_no_quiet_end(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"a.png": WHITE, "b.png": WHITE, "c.png": WHITE})
    data = bytearray(path.read_bytes())
    data[data.index(b"b.png")] ^= 0xFF
    path.write_bytes(data)
    assert told(found(tmp_path)) == [("a.png", "found"), (None, "unreadable")]


def test_a_damaged_member_is_its_row_alone(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": WHITE, "b.png": BLACK}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(WHITE) + 40] ^= 0xFF
    path.write_bytes(data)
    a, b = (decode(ref, SPEC) for ref in found(tmp_path) if isinstance(ref, ImageRef))
    assert isinstance(a, Failed)
    assert (a.reason, "CRC" in a.detail) == ("unreadable", True)
    assert isinstance(b, Pixels)


def test_an_encrypted_member_is_unsupported_with_the_remedy(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": WHITE, "b": WHITE})
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + at] |= 1
    path.write_bytes(data)
    ref, unseen = found(tmp_path)
    assert isinstance(ref, ImageRef)
    for failed in (decode(ref, SPEC), unseen):
        assert isinstance(failed, Failed)
        assert (failed.reason, failed.detail) == (
            "unsupported",
            "it is encrypted; unpack the archive with its password",
        )


def limited(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """The walk under other limits."""
    changed = ArchiveLimits(**limits)
    plain = list_members
    monkeypatch.setattr("scanner.walk.list_members", lambda path, kind: plain(path, kind, changed))
    monkeypatch.setattr(archives, "DEFAULT_ARCHIVE_LIMITS", changed)


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_too_many_members_are_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make(tmp_path / f"a{kind}", {f"{i}.png": WHITE for i in range(5)})
    limited(monkeypatch, max_members=4)
    with Spool() as spool:
        last = found(tmp_path, spool=spool)[-1]
    assert isinstance(last, Failed)
    assert last.detail == "it has more than 4 members; unpack the archive to scan it"


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("limits", [{"ratio_from_bytes": 10**6}, {"max_total_bytes": 10**6}])
def test_what_unpacks_to_far_more_than_pictures_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limits: dict[str, int]
) -> None:
    """Also where the bomb is no picture, but lies before one in what must be unpacked."""
    path = make(tmp_path / f"a{kind}", {"bomb.txt": bytes(30_000_000), "a.png": WHITE})
    assert path.stat().st_size < 100_000
    limited(monkeypatch, **limits)
    with Spool() as spool:
        (failed,) = found(tmp_path, spool=spool)
    assert isinstance(failed, Failed)
    assert (failed.ref.member, failed.reason) == (None, "too_large")


def test_members_that_lie_over_each_other_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone is harmless: the directory names one compressed stream a hundred times."""
    path = make_zip(tmp_path / "a.zip", {"000.png": bytes(100_000)})
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry = data[start : data.index(b"PK\x05\x06")]
    entries = b"".join(entry.replace(b"000.png", b"%03d.png" % i) for i in range(100))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 100, 100, len(entries), start, 0)
    path.write_bytes(data[:start] + entries + end)
    limited(monkeypatch, ratio_from_bytes=1_000_000)
    (failed,) = found(tmp_path)
    assert isinstance(failed, Failed)
    assert failed.detail.startswith("it unpacks to more than 200 times its size")


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_a_member_above_the_limit_is_its_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    make(tmp_path / f"a{kind}", {"big.png": os.urandom(5000), "a.png": WHITE})
    limited(monkeypatch, max_member_bytes=4000)
    limits = ArchiveLimits(max_member_bytes=4000)
    with Spool() as spool:
        big, small = found(tmp_path, spool=spool)
        if isinstance(big, ImageRef):
            with pytest.raises(MemberError, match="5,000 bytes are more than the limit of 4,000"):
                open_member(big, limits)
        else:
            assert big.reason == "too_large"
        assert isinstance(small, ImageRef)
        assert open_member(small, limits).size_bytes == len(WHITE)


def test_a_member_that_has_more_than_it_declares_is_not_read_beyond(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": bytes(10**6)})
    data = path.read_bytes().replace(struct.pack("<L", 10**6), struct.pack("<L", 1000))
    path.write_bytes(data)
    with pytest.raises(MemberError, match="damaged"):
        open_member(ImageRef(path, "a.png"))


def test_a_directory_or_header_larger_than_the_limit_is_not_taken_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_zip(tmp_path / "a.zip", {f"{i}.png": b"" for i in range(50)})
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * 5000}
        archive.addfile(info)
    limited(monkeypatch, max_header_bytes=2000, max_tar_header_bytes=2000)
    for failed in found(tmp_path):
        assert isinstance(failed, Failed)
        assert failed.reason == "too_large"


def test_sizes_below_zero_do_not_lead_into_a_circle(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"a.png": WHITE, "b.png": WHITE})
    data = bytearray(path.read_bytes())
    at = data.index(b"b.png")
    data[at + 124 : at + 136] = b"\xff" * 8 + struct.pack(">i", -2048)
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    assert told(found(tmp_path)) == [("a.png", "found"), (None, "unreadable")]


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    """It may declare any size, of nothing."""
    path = make_tar(tmp_path / "a.tar", {"a.png": WHITE})
    data = bytearray(path.read_bytes())
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    assert told(found(tmp_path)) == [("a.png", "unsupported")]


def test_an_archive_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"a.png": WHITE})
    (ref,) = found(tmp_path)
    assert isinstance(ref, ImageRef)
    assert isinstance(ref.at, Extent)
    os.utime(path, ns=(1, 1))
    failed = decode(ref, SPEC)
    assert isinstance(failed, Failed)
    assert failed.reason == "changed"


@pytest.mark.parametrize("kind", [".tar", ".zip", ".tar.gz"])
@pytest.mark.parametrize("damaged", [False, True])
def test_an_archive_that_is_written_to_while_a_member_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, damaged: bool
) -> None:
    path = make(tmp_path / f"a{kind}", {"a.png": WHITE})
    plain = members.held

    def held(chunks: Iterator[bytes], size: int) -> BinaryIO:
        stream = plain(chunks, size)
        with path.open("ab") as file:
            file.write(b"more")
        if damaged:
            raise ValueError("what a decoder makes of a half")
        return stream

    monkeypatch.setattr("scanner.archives.held", held)
    monkeypatch.setattr("scanner.zips.held", held)
    failed = decode(ImageRef(path, "a.png"), SPEC)
    assert isinstance(failed, Failed)
    assert failed.reason == "changed"


def test_a_compressed_tar_that_is_written_to_while_it_is_listed_is_told(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar.gz", {f"{i}.png": WHITE for i in range(3)})
    with Spool() as spool:
        refs = find_images([tmp_path], rules=ARCHIVES, spool=spool)
        assert isinstance(next(refs), ImageRef)
        os.utime(path, ns=(1, 1))
        assert told(list(refs)) == [("1.png", "changed"), ("2.png", "changed")]


# --- the temporary folder ---


def test_what_has_no_room_waits_for_it(tmp_path: Path) -> None:
    """How fast the pictures are scanned decides nothing."""
    make_tar(tmp_path / "a.tar.gz", {f"{i}.png": WHITE for i in range(40)})
    with Spool(max_bytes=2 * len(WHITE)) as spool:
        refs = find_images([tmp_path], rules=ARCHIVES, spool=spool)
        count = 0
        for result in scan(refs, BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(1)):
            assert isinstance(result, Verdict), result
            spool.release(result.ref)
            count += 1
    assert count == 40


def test_a_scan_that_ends_does_not_leave_its_walk_waiting_for_room(tmp_path: Path) -> None:
    refused: list[str] = []

    def put() -> None:
        spool.put(iter([b"1"]), 1, 0)
        try:
            spool.put(iter([b"2"]), 1, 0)
        except MemberError as error:
            refused.append(error.reason)

    with Spool(max_bytes=1) as spool:
        thread = threading.Thread(target=put)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(10)
    assert refused == ["too_large"]


def test_what_a_killed_scan_left_is_removed_by_the_next_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, signal, tempfile; from scanner.spool import Spool\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "Spool().put(iter([b'1']), 1, 0); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    (tmp_path / "imgscan-spool-begun").mkdir()  # as before its lock is there
    (tmp_path / "imgscan-spool-link").symlink_to(left)
    with Spool() as mine:
        in_use = mine.put(iter([b"1"]), 1, 0)
        find_images([tmp_path], rules=ARCHIVES, spool=Spool())
        assert not left.exists()
        assert in_use.exists()
        assert (tmp_path / "imgscan-spool-begun").exists()
        assert (tmp_path / "imgscan-spool-link").is_symlink()


def test_the_spool_holds_what_is_under_way_and_no_more(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar.gz", {f"{i}.png": WHITE for i in range(10)})
    with Spool(max_bytes=3 * len(WHITE)) as spool:
        refs = find_images([tmp_path], rules=ARCHIVES, spool=spool)
        for ref in refs:  # each released before the next is asked for
            assert isinstance(ref, ImageRef)
            assert isinstance(ref.at, Path)
            assert sorted(path.name for path in ref.at.parent.iterdir()) == [ref.at.name, "lock"]
            spool.release(ref)
        folder = ref.at.parent
        *fitting, full = list(find_images([tmp_path], rules=ARCHIVES, spool=spool))[:4]
        assert all(isinstance(ref, ImageRef) for ref in fitting)
        assert isinstance(full, Failed)
        assert "temporary folder is full" in full.detail
    assert not folder.exists()


def test_an_archive_that_is_listed_twice_has_its_members_twice(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar.gz", {"a.png": WHITE, "b.png": BLACK})
    with Spool() as spool:
        first = list(find_images([path], rules=ARCHIVES, spool=spool))
        second = list(find_images([path], rules=ARCHIVES, spool=spool))
        assert first == second
        for ref in first:
            spool.release(ref)
        for ref in second:
            assert isinstance(ref, ImageRef)
            assert isinstance(ref.at, Path)
            assert ref.at.read_bytes() in (WHITE, BLACK)


def test_an_archive_of_endless_names_is_refused_before_they_fill_the_memory(
    tmp_path: Path,
) -> None:
    names = {f"{i}" + "n" * 1_000_000: b"" for i in range(30)}
    make_tar(tmp_path / "a.tar.gz", {"a.png": WHITE, **names})
    tracemalloc.start()
    try:
        with Spool() as spool:
            good, failed = find_images([tmp_path], rules=ARCHIVES, spool=spool)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(good, ImageRef)
    assert isinstance(failed, Failed)
    assert (failed.reason, "name" in failed.detail) == ("too_large", True)
    assert peak < 12e6


def test_a_zip_of_too_many_members_is_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number it declares: here none at all."""
    entry = struct.pack("<4s24x3H12x", b"PK\x01\x02", 1, 0, 0)
    directory = b"".join(entry + b"%c" % (97 + i % 26) for i in range(60_000))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, len(directory), 0, 0)
    (tmp_path / "a.zip").write_bytes(directory + end)
    monkeypatch.setattr("scanner.walk.archive_kind", lambda name, head: "zip")
    limited(monkeypatch, max_members=10_000, max_header_bytes=3_000_000)
    tracemalloc.start()
    try:
        (failed,) = found(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(failed, Failed)
    assert failed.detail.startswith("it has more than 10,000 members")
    assert peak < 3 * len(directory)  # as objects they are 40 MB


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz"])
def test_global_headers_of_a_tar_do_not_pile_up(tmp_path: Path, kind: str) -> None:
    path, text = tmp_path / kind, "x" * 200_000
    with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
        for i in range(40):
            info = tarfile.TarInfo(f"{i}.txt")
            header = tarfile.TarInfo.create_pax_global_header({f"k{i}": text})
            archive.fileobj.write(header)  # type: ignore[union-attr]
            archive.addfile(info)
    tracemalloc.start()
    try:
        with Spool() as spool:
            (failed,) = found(tmp_path, spool=spool)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(failed, Failed)
    assert failed.reason == "too_large"
    assert peak < 6e6


def test_without_a_spool_a_compressed_tar_is_refused_with_the_remedy(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tgz", {"a.png": WHITE})
    (failed,) = found(tmp_path)
    assert isinstance(failed, Failed)
    assert (failed.reason, "decompress it to a plain .tar" in failed.detail) == (
        "unsupported",
        True,
    )


def test_large_members_go_through_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_IN_MEMORY_BYTES", 10)
    path = make_zip(tmp_path / "a.zip", {"a.png": WHITE})
    opened = open_member(ImageRef(path, "a.png"))
    with opened.stream as stream:
        assert not isinstance(stream, io.BytesIO)
        assert stream.read() == WHITE


def test_the_command_scans_archives_and_leaves_nothing_behind(
    tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "in").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    make_tar(tmp_path / "in/a.tar.gz", {"w.png": WHITE, "b.png": BLACK})
    make_zip(tmp_path / "in/b.cbz", {"w.png": WHITE})
    report = tmp_path / "out.csv"
    done = imgscan("--archives", tmp_path / "in", "--report", report, model=tiny_bundle)
    assert done.returncode == 1, done.stderr
    assert [row["verdict"] for row in rows_of(report)] == ["fake", "real", "fake"]
    assert list((tmp_path / "tmp").glob("imgscan*")) == []
