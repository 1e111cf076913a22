"""Which files a scan looks at, whatever they are called."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import encoded, grey, save_grey
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner import walk
from scanner.errors import UsageError
from scanner.find import WalkCounts, WalkRules, count_all, find_images
from scanner.options.walk import WalkOptions
from scanner.report.cells import decode_cell, encode_cell
from scanner.text import printable
from scanner.types import Failed, ImageRef

PICTURE = encoded(grey(0), "PNG")


def found(*roots: Path, counts: WalkCounts | None = None, **rules: object) -> list[str]:
    refs = list(find_images(list(roots), counts, WalkRules(**rules)))  # type: ignore[arg-type]
    assert all(isinstance(ref, ImageRef) for ref in refs), refs
    return [str(ref.path) for ref in refs if isinstance(ref, ImageRef)]


def test_files_come_in_the_order_of_their_names_bytes(tmp_path: Path) -> None:
    names = ["B.png", "a.png", "a/x.png", "a/b/y.png", "a.b/z.png", "é.png", "z.png"]
    for name in reversed(names):
        save_grey(tmp_path / name, 0)
    expected = ["B.png", "a/b/y.png", "a/x.png", "a.b/z.png", "a.png", "z.png", "é.png"]
    assert found(tmp_path) == [str(tmp_path / name) for name in expected]


def test_a_file_is_found_by_its_extension_or_by_its_content(tmp_path: Path) -> None:
    save_grey(tmp_path / "by_content.png", 0).path.rename(tmp_path / "by_content")
    (tmp_path / "by_extension.JPG").write_bytes(b"not a picture")
    (tmp_path / "neither.txt").write_text("BM, GIF and II* are the beginnings of some")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "app.log").write_bytes(b"\xff\x0aa line\n")  # as a bare JPEG XL begins
    assert found(tmp_path) == [str(tmp_path / "by_content"), str(tmp_path / "by_extension.JPG")]


def test_a_file_that_is_named_gets_a_row_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    assert found(tmp_path / "notes.txt") == [str(tmp_path / "notes.txt")]
    assert found(tmp_path, tmp_path / "notes.txt") == [str(tmp_path / "notes.txt")]


def test_overlapping_roots_give_each_file_once(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/b/2.png", "c/3.png"):
        save_grey(tmp_path / name, 0)
    (tmp_path / "to_a").symlink_to("a")
    a, b, one = tmp_path / "a", tmp_path / "a/b", tmp_path / "a/1.png"
    assert found(b, tmp_path, a, one) == [
        str(tmp_path / name) for name in ("a/b/2.png", "a/1.png", "c/3.png")
    ]
    assert found(one, one, a) == [str(one), str(b / "2.png")]
    assert found(a, tmp_path / "to_a") == [str(one), str(b / "2.png")]


def test_a_root_is_known_by_another_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where `Photos` and `photos`, or a composed and a bare accent, are one to the system."""
    save_grey(tmp_path / "Caf\u00e9/sub/a.png", 0)
    one = save_grey(tmp_path / "Caf\u00e9/b.png", 0).path
    # Stands in for the file system's own second spelling: a link that realpath() leaves alone.
    (tmp_path / "cafe\u0301").symlink_to("Caf\u00e9")
    monkeypatch.setattr(os.path, "realpath", os.path.abspath)
    other = tmp_path / "cafe\u0301"
    both = [str(tmp_path / "Caf\u00e9" / name) for name in ("b.png", "sub/a.png")]
    assert found(tmp_path / "Caf\u00e9", other, other / "sub") == both
    assert found(one, other / "b.png") == [str(one)]
    assert found(other / "sub", tmp_path / "Caf\u00e9") == [str(other / "sub/a.png"), str(one)]
    assert found(other / "b.png", tmp_path / "Caf\u00e9") == [str(other / "b.png"), both[1]]


def test_names_that_differ_in_case_and_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    first = save_grey(tmp_path / "a.png", 0).path
    os.link(first, tmp_path / "b.png")
    save_grey(tmp_path / "A.png", 0)
    names = [str(tmp_path / name) for name in ("a.png", "b.png", "A.png")]
    assert found(*map(Path, names)) == names
    assert sorted(found(first, tmp_path)) == sorted(names)


def test_a_junction_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: only Windows has them."""
    for name in ("a/1.png", "junction/2.png"):
        save_grey(tmp_path / name, 0)
    monkeypatch.setattr(walk, "_is_junction", lambda entry: entry.name == "junction")
    counts = WalkCounts()
    assert found(tmp_path, counts=counts) == [str(tmp_path / "a/1.png")]
    assert counts.left_out == {"symlink": 1}


@pytest.mark.parametrize(("tag", "junction"), [(0xA0000003, True), (0x9000001A, False), (0, False)])
def test_a_junction_is_told_by_its_tag(
    monkeypatch: pytest.MonkeyPatch, tag: int, junction: bool
) -> None:
    class Entry:
        def stat(self, *, follow_symlinks: bool) -> object:
            assert not follow_symlinks
            return SimpleNamespace(st_reparse_tag=tag)

    monkeypatch.setattr(walk, "_WINDOWS", True)
    assert walk._is_junction(Entry()) is junction  # type: ignore[arg-type]


def test_links_on_the_way_are_counted_and_not_followed(tmp_path: Path) -> None:
    save_grey(tmp_path / "real/a.png", 0)
    (tmp_path / "real/loop").symlink_to(tmp_path)
    (tmp_path / "real/again.png").symlink_to("a.png")
    counts = WalkCounts()
    assert found(tmp_path, counts=counts) == [str(tmp_path / "real/a.png")]
    assert counts.left_out == {"symlink": 2}


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    save_grey(tmp_path / "real/a.png", 0)
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == [str(tmp_path / "link/a.png")]


def test_a_root_that_is_missing_is_a_row_among_others(tmp_path: Path) -> None:
    save_grey(tmp_path / "a.png", 0)
    (tmp_path / "dangling").symlink_to("nowhere")
    gone, a, dangling = find_images([tmp_path / "gone", tmp_path / "a.png", tmp_path / "dangling"])
    assert isinstance(gone, Failed)
    assert isinstance(dangling, Failed)
    assert (gone.reason, gone.detail) == ("vanished", "no such file or folder")
    assert (dangling.reason, dangling.detail) == ("vanished", "a link to what does not exist")
    assert a == ImageRef(tmp_path / "a.png")


def test_roots_that_are_all_missing_are_told_before_anything_is_scanned(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone: no such file or folder$"):
        find_images([tmp_path / "gone"])  # not even iterated
    with pytest.raises(UsageError, match=r"gone: no such file or folder \(nor can the other 1"):
        find_images([tmp_path / "gone", tmp_path / "too"])


def test_pipes_and_sockets_are_never_opened_and_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.png"))  # its name may be 107 bytes long
        counts = WalkCounts()
        assert found(tmp_path, counts=counts) == []
    assert counts.left_out == {"special": 2}
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        find_images([tmp_path / "pipe.png"])


def test_only_the_folders_at_hand_are_listed(tmp_path: Path) -> None:
    """Of a tree larger than memory, only the way down to the present file is kept."""
    for folder in range(3):
        save_grey(tmp_path / f"{folder}/a.png", 0)
    refs = find_images([tmp_path])
    next(refs)
    save_grey(tmp_path / "2/late.png", 0)  # a listing made at the start would miss it
    assert len(list(refs)) == 3


# --- names ---

_NAMES = (
    st.binary(min_size=1, max_size=60)
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda name: not name.startswith(b"."))
)


@settings(deadline=None, max_examples=60)
@given(st.sets(_NAMES, max_size=6))
def test_any_bytes_are_a_name_that_is_found_shown_and_reported(names: set[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(PICTURE)
        refs = list(find_images([Path(folder)]))
        assert [os.fsencode(ref.path.name) for ref in refs] == sorted(names)  # type: ignore[union-attr]
        for ref in refs:
            assert isinstance(ref, ImageRef)
            assert not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in printable(ref.name))
            assert decode_cell(encode_cell(str(ref.path))) == str(ref.path)


@settings(deadline=None, max_examples=60)
@given(st.sets(_NAMES, min_size=1, max_size=6), st.data())
def test_a_pattern_meets_names_of_any_bytes(names: set[bytes], data: st.DataObject) -> None:
    """The name itself, with special characters escaped and blanks in brackets, is its pattern."""
    chosen = data.draw(st.sampled_from(sorted(names)))
    text = os.fsdecode(chosen)
    escaped = ("\\" + c if c in "*?[]\\!#" else f"[{c}]" if c.isspace() else c for c in text)
    pattern = "/" + "".join(escaped)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(PICTURE)
        left = [Path(path).name for path in found(Path(folder), exclude=(pattern,))]
    assert sorted(map(os.fsencode, left)) == sorted(names - {chosen})


@contextlib.contextmanager
def _deep(tmp_path: Path, length: int) -> Iterator[Path]:
    """A picture whose path below `tmp_path` is at least `length` characters, made step by step."""
    part, here = "d" * 200, os.open(tmp_path, os.O_RDONLY)
    path = tmp_path
    try:
        while len(str(path)) < length:
            os.mkdir(part, dir_fd=here)
            deeper = os.open(part, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, path = deeper, path / part
        file = os.open("a.png", os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(file, PICTURE)
        os.close(file)
        yield path / "a.png"
    finally:
        os.close(here)


def test_a_path_of_nearly_four_thousand_characters_is_found(tmp_path: Path) -> None:
    with _deep(tmp_path, 3700) as deep:
        assert 3700 < len(str(deep)) < 4096
        assert found(tmp_path) == [str(deep)]


def test_a_path_longer_than_the_system_takes_is_a_row_and_the_walk_goes_on(tmp_path: Path) -> None:
    save_grey(tmp_path / "z.png", 0)
    with _deep(tmp_path, 4200):
        too_long, z = find_images([tmp_path])
        assert isinstance(too_long, Failed)
        assert too_long.reason == "unreadable"
        assert too_long.detail == (
            f"{os.strerror(errno.ENAMETOOLONG)}: longer than the system takes; "
            "scan from a folder nearer to it"
        )
        assert z == ImageRef(tmp_path / "z.png")


# --- rules ---


def test_hidden_ones_are_left_out_unless_asked_for_or_named(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", ".c/d.png", ".c/.e.png"):
        save_grey(tmp_path / name, 0)
    counts = WalkCounts()
    assert found(tmp_path, counts=counts) == [str(tmp_path / "a.png")]
    assert counts.left_out == {"hidden": 2}  # of a folder, nothing inside is known
    every = [str(tmp_path / name) for name in (".b.png", ".c/.e.png", ".c/d.png", "a.png")]
    assert found(tmp_path, hidden=True) == every
    assert found(tmp_path / ".c") == [str(tmp_path / ".c/d.png")]
    assert found(tmp_path / ".b.png") == [str(tmp_path / ".b.png")]
    assert sorted(found(tmp_path, tmp_path / ".b.png")) == sorted([every[0], every[3]])


def test_on_windows_the_attribute_hides_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, name: str, attributes: int) -> None:
            self.name, self._attributes = name, attributes

        def stat(self, *, follow_symlinks: bool) -> object:
            assert not follow_symlinks
            return SimpleNamespace(st_file_attributes=self._attributes)

    monkeypatch.setattr(walk, "_WINDOWS", True)
    told = [walk._is_hidden(Entry(*of)) for of in [("a", 0x22), ("a", 0x20), (".a", 0)]]  # type: ignore[arg-type]
    assert told == [True, False, True]


def test_links_are_followed_if_asked_each_folder_once(tmp_path: Path) -> None:
    save_grey(tmp_path / "a/1.png", 0)
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c.png").symlink_to("a/1.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "d").symlink_to("pipe")
    counts = WalkCounts()
    names = ["a/1.png", "c.png"]
    assert found(tmp_path, counts=counts, follow_symlinks=True) == [
        str(tmp_path / name) for name in names
    ]
    assert counts.left_out == {"met_before": 2, "special": 2}


def test_a_followed_link_that_leads_nowhere_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("gone")
    (tmp_path / "b.png").symlink_to("b.png")
    gone, loop = find_images([tmp_path], rules=WalkRules(follow_symlinks=True))
    assert isinstance(gone, Failed)
    assert isinstance(loop, Failed)
    assert (gone.reason, loop.reason) == ("vanished", "unreadable")


def test_another_file_system_is_left_out_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: mounting is for the superuser."""
    for name in ("a/1.png", "mounted/2.png"):
        save_grey(tmp_path / name, 0)
    plain = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        info = plain(self, **options)
        fields = [*info]
        fields[2] += self.name == "mounted"
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)
    counts = WalkCounts()
    assert len(found(tmp_path)) == 2
    assert found(tmp_path, counts=counts, one_file_system=True) == [str(tmp_path / "a/1.png")]
    assert counts.left_out == {"other_device": 1}
    assert len(found(tmp_path / "mounted", one_file_system=True)) == 1  # named, it is the start


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"include": ("*.png",)}, ["a.png", "b/c.png", "b/d/e.png"]),
        ({"include": ("/*.png",)}, ["a.png"]),
        ({"include": ("b/d", "f.*")}, ["b/d/e.png", "b/d/f.jpg"]),
        ({"include": ("*", "!*.png")}, ["b/d/f.jpg"]),
        ({"exclude": ("*.png",)}, ["b/d/f.jpg"]),
        ({"exclude": ("d/",)}, ["a.png", "b/c.png"]),
        ({"exclude": ("a.png/",)}, ["a.png", "b/c.png", "b/d/e.png", "b/d/f.jpg"]),
        ({"exclude": ("*.png", "!/a.png")}, ["a.png", "b/d/f.jpg"]),
        ({"exclude": ("b/", "!b/c.png")}, ["a.png"]),  # what is in it is not even listed
        ({"include": ("*.png",), "exclude": ("e.*",)}, ["a.png", "b/c.png"]),
        ({"exclude": ("*.PNG",)}, ["a.png", "b/c.png", "b/d/e.png", "b/d/f.jpg"]),
    ],
)
def test_patterns_mean_what_they_mean_to_git(
    tmp_path: Path, rules: dict[str, tuple[str, ...]], left: list[str]
) -> None:
    for name in ("a.png", "b/c.png", "b/d/e.png", "b/d/f.jpg"):
        save_grey(tmp_path / name, 0)
    counts = WalkCounts()
    assert sorted(found(tmp_path, counts=counts, **rules)) == [str(tmp_path / n) for n in left]
    assert bool(counts.left_out) == (len(left) < 4)


@pytest.mark.parametrize("option", ["include", "exclude"])
@pytest.mark.parametrize("pattern", ["", "#x", "!", "[z-a]", "a\\", "//", "/"])
def test_what_is_no_pattern_is_told_before_anything_is_scanned(
    tmp_path: Path, option: str, pattern: str
) -> None:
    with pytest.raises(UsageError, match=f"--{option} .*not a pattern"):
        find_images([tmp_path], rules=WalkRules(**{option: (pattern,)}))


def test_ignore_files_hold_for_their_folder_and_the_inner_one_has_the_last_word(
    tmp_path: Path,
) -> None:
    for name in ("a.png", "keep/a.png", "keep/b.png", "x/a.png", "x/c.png", "x/out/d.png"):
        save_grey(tmp_path / name, 0)
    (tmp_path / ".imgscanignore").write_text("# ours\na.png\nout/\n")
    (tmp_path / "keep/.imgscanignore").write_bytes(b"\xef\xbb\xbf!a.png\r\n/b.png\r\n")
    counts = WalkCounts()
    kept = [str(tmp_path / name) for name in ("keep/a.png", "x/c.png")]
    assert found(tmp_path, counts=counts) == kept
    assert counts.left_out == {"ignored": 4}
    assert len(found(tmp_path, ignore_files=False)) == 6
    assert found(tmp_path / "a.png") == [str(tmp_path / "a.png")]  # named
    assert found(tmp_path / "x/out") == [str(tmp_path / "x/out/d.png")]


def test_an_ignore_file_that_cannot_be_followed_is_a_row(tmp_path: Path) -> None:
    for folder, content in [("a", b"ok.png\n[z-a]\n!\n"), ("b", b"#" * (2**20 + 1))]:
        save_grey(tmp_path / folder / "ok.png", 0)
        (tmp_path / folder / ".imgscanignore").write_bytes(content)
    (tmp_path / "c/.imgscanignore").mkdir(parents=True)
    a, b, ok, c = find_images([tmp_path])
    assert isinstance(a, Failed)
    assert (a.ref.path, a.detail[:23]) == (tmp_path / "a/.imgscanignore", "line 2 is not a pattern")
    assert isinstance(b, Failed)
    assert b.reason == "too_large"
    assert ok == ImageRef(tmp_path / "b/ok.png")
    assert isinstance(c, Failed)


@pytest.mark.timeout(20)
def test_a_hostile_ignore_file_does_not_hold_up_the_scan(tmp_path: Path) -> None:
    """As regular expressions, such patterns take longer than anybody waits."""
    save_grey(tmp_path / ("a" * 200 + ".png"), 0)
    many = "".join(f"*a*{i}*\n" for i in range(1100))
    (tmp_path / ".imgscanignore").write_text("*a*a*a*a*a*a*a*a*b\n" + "*a" * 400 + "b\n" + many)
    failed, *rest = find_images([tmp_path])
    assert isinstance(failed, Failed)
    assert "line 1001 is above the limit" in failed.detail
    assert len(rest) == 1


def test_hard_links_whose_names_differ_in_case_are_two_files(tmp_path: Path) -> None:
    save_grey(tmp_path / "a.png", 0)
    try:
        os.link(tmp_path / "a.png", tmp_path / "A.png")
    except FileExistsError:
        pytest.skip("this file system takes the two for one name")
    assert len(found(tmp_path)) == 2
    assert len(list(find_images([tmp_path / "a.png", tmp_path / "A.png"]))) == 2
    assert len(list(find_images([tmp_path / "a.png", tmp_path / "A.png", tmp_path]))) == 2
    assert len(list(find_images([tmp_path / "a.png"] * 2))) == 1
    for folder in ("D", "d"):  # the folders' names may be the twins
        (tmp_path / folder).mkdir()
        os.link(tmp_path / "a.png", tmp_path / folder / "x.png")
    twins = [tmp_path / "D/x.png", tmp_path / "d/x.png"]
    assert found(*twins) == [str(path) for path in twins]
    assert len(found(*twins, tmp_path)) == 4


def test_two_spellings_that_a_folder_lists_as_one_name_are_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that does not tell case apart: both open, and the listing has one of them."""
    save_grey(tmp_path / "a.png", 0)
    try:
        os.link(tmp_path / "a.png", tmp_path / "A.png")
    except FileExistsError:
        pass  # such a disk
    else:
        monkeypatch.setattr("scanner.roots.os.listdir", lambda folder: ["a.png"])
    assert found(tmp_path / "A.png", tmp_path / "a.png") == [str(tmp_path / "A.png")]


def test_of_an_ignore_file_so_many_patterns_are_taken_and_the_rest_is_a_row(tmp_path: Path) -> None:
    for name in ("first.png", "last.png", "z.png"):
        save_grey(tmp_path / name, 0)
    lines = ["first.png", *(f"x{i}" for i in range(999)), "last.png", "a" * 1025]
    (tmp_path / ".imgscanignore").write_text("\n".join(lines))
    row, *refs = find_images([tmp_path])
    assert isinstance(row, Failed)
    assert "line 1001 is above the limit of 1,000 patterns" in row.detail
    assert "and 1 more" in row.detail
    assert [ref.path.name for ref in refs if isinstance(ref, ImageRef)] == ["last.png", "z.png"]
    with pytest.raises(UsageError, match="--exclude: 1,001 patterns"):
        find_images([tmp_path], rules=WalkRules(exclude=("x",) * 1001))
    with pytest.raises(UsageError, match="more than 1,024 characters"):
        find_images([tmp_path], rules=WalkRules(include=("x" * 1025,)))


def test_counting_beforehand_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b", "named", "notes.txt"):
        (tmp_path / name).write_bytes(PICTURE)

    def opened(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(walk, "open_regular", opened)
    roots = [tmp_path, tmp_path / "named"]
    assert count_all(roots, WalkOptions(), lambda: False) == 2
    monkeypatch.undo()
    assert len(found(*roots)) == 4


def test_size_and_time_leave_files_out_also_named_ones(tmp_path: Path) -> None:
    now = time.time_ns()
    for name, size, age in [("a.png", 10, 0), ("b.png", 20, 0), ("c.png", 30, 100)]:
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, ns=(now, now - age * 10**9))
    counts = WalkCounts()

    def names(*roots: Path, **rules: object) -> list[str]:
        return [Path(path).name for path in found(*roots, counts=counts, **rules)]

    assert names(tmp_path, min_bytes=20) == ["b.png", "c.png"]
    assert names(tmp_path, max_bytes=20) == ["a.png", "b.png"]
    assert names(tmp_path, newer_than_ns=now - 50 * 10**9) == ["a.png", "b.png"]
    assert names(tmp_path / "a.png", tmp_path / "b.png", min_bytes=20) == ["b.png"]
    assert counts.left_out == {"small": 2, "large": 1, "old": 1}
    assert counts.describe() == "2 below --min-size, 1 above --max-size, 1 not --newer-than"


def test_the_disk_is_asked_at_most_once_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(50):
        save_grey(tmp_path / f"{i}.png", 0)
    asked = 0
    plain = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry = entry

        def __getattr__(self, name: str) -> object:
            nonlocal asked
            asked += name == "stat"
            return getattr(self._entry, name)

    @contextlib.contextmanager
    def scandir(path: str) -> Iterator[Iterator[Entry]]:
        with plain(path) as entries:
            yield map(Entry, entries)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(found(tmp_path)) == 50
    assert asked == 0
    assert len(found(tmp_path, min_bytes=1, max_bytes=10**6, newer_than_ns=0)) == 50
    assert asked == 50


def test_a_file_that_vanishes_while_its_folder_is_listed_is_its_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_grey(tmp_path / "a.png", 0)
    plain = walk.Walker._facts_cause
    calls = iter([True, False])

    def facts(self: walk.Walker, info: os.stat_result) -> object:
        if next(calls):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return plain(self, info)

    save_grey(tmp_path / "b.png", 0)
    monkeypatch.setattr(walk.Walker, "_facts_cause", facts)
    results = list(find_images([tmp_path], rules=WalkRules(min_bytes=1)))
    assert sorted(type(result).__name__ for result in results) == ["Failed", "ImageRef"]
