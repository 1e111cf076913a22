"""`--files-from`: names from a list, as they come."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from fakes import save_grey
from test_cli import COMMAND, environment, rows_of

from scanner import file_list
from scanner.bundle import Bundle
from scanner.errors import UsageError
from scanner.file_list import find_listed
from scanner.find import WalkCounts, WalkRules
from scanner.types import Failed, ImageRef


def listed(source: Path, *, null: bool = False, **rules: object) -> list[ImageRef | Failed]:
    chosen = WalkRules(**rules)  # type: ignore[arg-type]
    return list(find_listed(source, null=null, counts=WalkCounts(), rules=chosen))


def test_each_name_is_a_row_in_the_order_of_the_list(tmp_path: Path) -> None:
    a, b = (save_grey(tmp_path / name, 0).path for name in ("a.png", "b.png"))
    (tmp_path / "folder").mkdir()
    names = [b, tmp_path / "gone.png", a, tmp_path / "folder", a]
    (tmp_path / "list").write_text("\n".join(map(str, names)))  # the last without its end
    first, gone, *again, folder, last = listed(tmp_path / "list")
    assert [first, *again, last] == [ImageRef(b), ImageRef(a), ImageRef(a)]
    assert isinstance(gone, Failed)
    assert isinstance(folder, Failed)
    assert (gone.reason, folder.reason) == ("vanished", "not_an_image")
    assert "a list names files" in folder.detail


def test_names_are_relative_to_the_working_directory_and_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [b" a .png", b"\xff\x1b[2J.png", b"cr\r", b".hidden.png", b"~", b"-x.png"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(b"x")
    Path("list").write_bytes(b"\n".join(names) + b"\n\n")
    assert [os.fsencode(ref.path) for ref in listed(Path("list"))] == names  # type: ignore[union-attr]


def test_a_list_from_windows_ends_its_lines_in_two_marks(tmp_path: Path) -> None:
    a, b = (save_grey(tmp_path / name, 0).path for name in ("a.png", "b.png"))
    (tmp_path / "list").write_bytes(
        b"\r\n".join(os.fsencode(name) for name in (a, b)) + b"\r\n\r\n"
    )
    assert listed(tmp_path / "list") == [ImageRef(a), ImageRef(b)]


def test_names_with_line_feeds_are_separated_by_nuls(tmp_path: Path) -> None:
    name = tmp_path / "a\nb.png"
    name.write_bytes(b"x")
    (tmp_path / "list").write_bytes(os.fsencode(name) + b"\0\0" + os.fsencode(name) + b"\0")
    assert listed(tmp_path / "list", null=True) == [ImageRef(name)] * 2
    (failed,) = listed(tmp_path / "list")[:1]
    assert isinstance(failed, Failed)
    assert failed.reason == "vanished"
    wrong = listed(tmp_path / "list")[-1]
    assert isinstance(wrong, Failed)
    assert "give --null" in wrong.detail


def test_a_line_that_never_ends_is_one_row_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_list, "_MAX_NAME_BYTES", 5000)
    (tmp_path / "list").write_bytes(b"x" * 3_000_000 + b"\n" + os.fsencode(tmp_path))
    tracemalloc.start()
    long, folder = listed(tmp_path / "list")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(long, Failed)
    assert isinstance(folder, Failed)
    assert len(str(long.ref.path)) == 5000
    assert folder.ref.path == tmp_path
    assert peak < 1_000_000


def test_options_on_name_and_size_hold_for_listed_files(tmp_path: Path) -> None:
    for name, size in [("a.png", 1), ("b.png", 9), (".c.jpg", 9)]:
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / ".imgscanignore").write_text("*\n")  # concerns what is found, not what is named
    (tmp_path / "list").write_text(
        "".join(f"{tmp_path}/{n}\n" for n in ("a.png", "b.png", ".c.jpg"))
    )
    assert len(listed(tmp_path / "list")) == 3
    assert listed(tmp_path / "list", exclude=("*.png",)) == [ImageRef(tmp_path / ".c.jpg")]
    assert listed(tmp_path / "list", min_bytes=2, include=("*.png",)) == [
        ImageRef(tmp_path / "b.png")
    ]


def test_a_list_that_cannot_be_read_is_told_before_anything_is_scanned(tmp_path: Path) -> None:
    for source in (tmp_path / "gone", tmp_path):
        with pytest.raises(UsageError, match=r"--files-from .*(No such file|a folder|Is a dir)"):
            find_listed(source, null=False, counts=WalkCounts(), rules=WalkRules())


def test_a_list_is_read_as_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever writes into the pipe may not be done."""
    here, there = os.pipe()
    with open(here, "rb") as reader, open(there, "wb", buffering=0) as writer:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(reader))
        refs = find_listed(Path("-"), null=False, counts=WalkCounts(), rules=WalkRules())
        path = save_grey(tmp_path / "a.png", 0).path
        writer.write(os.fsencode(path) + b"\n")
        assert next(refs) == ImageRef(path)
        writer.close()
        assert list(refs) == []


def test_the_command_reads_a_list_from_its_standard_input(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    a = save_grey(tmp_path / "a.png", 250).path
    report = tmp_path / "out.csv"
    options = ["--model", str(tiny_bundle.path), "--device", "cpu", "--report", str(report)]
    done = subprocess.run(
        [*COMMAND, *options, "--files-from", "-", "-0"],
        input=os.fsencode(a) + b"\0" + os.fsencode(tmp_path / "gone\n.png"),
        env=environment(),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert [row["verdict"] for row in rows_of(report)] == ["fake", "failed"]
    assert rb"gone\x0a.png: vanished: no such file or folder" in done.stdout
