from __future__ import annotations

import csv
import errno
import io
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import ImgscanError, UsageError
from scanner.journal import Journal
from scanner.report import open_report
from scanner.report.cells import decode_cell, encode_cell
from scanner.report.csv import COLUMNS, line
from scanner.report.rows import row_of
from scanner.types import Failed, FileFacts, ImageRef
from scanner.verdict import OperatingPoint, judge

POINT = OperatingPoint("youden", 0.5, (0.3, 0.8))
FACTS = FileFacts(
    width=4,
    height=3,
    format="PNG",
    bytes=99,
    sha256="ab" * 32,
    mtime_ns=5,
    notes=("truncated", "extension_mismatch"),
)

# What a path can hold: any text, and any bytes that are not text.
paths = st.one_of(
    st.text(),
    st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(st.sampled_from("='\\x0u+-@\t\r\n\x1b\x85\u202e\udc80\ud800\uff1d;\", a")),
)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@given(paths)
def test_every_text_survives_the_way_into_a_cell_and_back(text: str) -> None:
    assert decode_cell(encode_cell(text)) == text


@given(paths)
def test_no_cell_begins_like_a_formula_or_holds_what_a_terminal_obeys(text: str) -> None:
    cell = encode_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in cell)
    assert "\u202e" not in cell
    cell.encode("utf-8")


@given(st.lists(paths, min_size=2, max_size=2, unique=True))
def test_two_different_names_never_share_a_cell(pair: list[str]) -> None:
    assert encode_cell(pair[0]) != encode_cell(pair[1])


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("photos/a.jpg", "photos/a.jpg"),
        ("=1+1", "'=1+1"),
        ("'quoted", "''quoted"),
        ("＝1", "'＝1"),
        ("a\nb\\c", r"'\a\x0ab\\c"),
        ("\t=1", r"'\\x09=1"),
        ("caf\udce9.jpg", r"'\caf\xe9.jpg"),
        ("a\x85\u202egpj.exe", r"'\a\u0085\u202egpj.exe"),
        ("C:\\photos\\a.jpg", "C:\\photos\\a.jpg"),
    ],
)
def test_cells_are_written_as_documented(text: str, cell: str) -> None:
    assert encode_cell(text) == cell


@given(st.lists(paths.filter(lambda text: "\0" not in text), max_size=5))
def test_rows_stay_rows_whatever_the_names_hold(names: list[str]) -> None:
    text = "".join(line(row_of(Failed(ImageRef(Path(n), n), "empty", n), "m@1")) for n in names)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [len(row) for row in rows] == [len(COLUMNS)] * len(names)
    assert [decode_cell(row[0]) for row in rows] == [str(Path(n)) for n in names]
    assert [decode_cell(row[1]) for row in rows] == names


def test_a_row_tells_what_people_decided_on_its_content(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        ref = ImageRef(Path("a.png"))
        journal.reviews.set(ref, "ab" * 32, "fake", reviewer="ann", note="=six fingers\n")
        with open_report(tmp_path / "out.csv", "m@1", journal.review_of) as report:
            report.write(judge(ref, FACTS, 0.25, POINT))
            report.write(judge(ref, replace(FACTS, sha256="cd" * 32), 0.25, POINT))
            report.write(Failed(ref, "vanished", "gone"))
    rows = rows_of(tmp_path / "out.csv")
    decided = [(row["review"], decode_cell(row["review_note"])) for row in rows]
    assert decided == [("fake", "=six fingers\n"), ("", ""), ("", "")]


def test_a_name_that_is_not_text_comes_back_as_its_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9 \xff.png"
    with open_report(tmp_path / "out.csv", "m@1") as report:
        report.write(Failed(ImageRef(Path(os.fsdecode(raw))), "empty", "no bytes"))
    (row,) = rows_of(tmp_path / "out.csv")
    assert os.fsencode(decode_cell(row["path"])) == raw


def test_a_row_holds_verdict_facts_and_model_or_the_reason(tmp_path: Path) -> None:
    with open_report(tmp_path / "out.csv", "tiny@0123") as report:
        report.write(judge(ImageRef(Path("a.png"), "b/c.png"), FACTS, 0.25, POINT))
        report.write(Failed(ImageRef(Path("b.png")), "truncated", "it ends", FileFacts(bytes=7)))
    verdict, failed = rows_of(tmp_path / "out.csv")
    assert verdict == {
        "path": "a.png",
        "member": "b/c.png",
        "verdict": "real",
        "confidence": "0.75",
        "p_fake": "0.25",
        "threshold": "0.5",
        "real_below": "0.3",
        "fake_from": "0.8",
        "operating_point": "youden",
        "width": "4",
        "height": "3",
        "format": "PNG",
        "bytes": "99",
        "sha256": "ab" * 32,
        "notes": "truncated extension_mismatch",
        "model": "tiny@0123",
        "error": "",
        "review": "",
        "review_note": "",
    }
    assert failed["verdict"] == "failed"
    assert failed["error"] == "truncated: it ends"
    assert failed["bytes"] == "7"
    assert failed["model"] == "tiny@0123"
    assert failed["member"] == failed["notes"] == ""
    assert failed["p_fake"] == failed["confidence"] == failed["threshold"] == ""


def test_until_it_is_done_the_asked_name_holds_the_older_report(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("older")
    with open_report(target, "m@1") as report:
        report.write(Failed(ImageRef(Path("a")), "empty", ""))
        assert target.read_text() == "older"
        (partial,) = tmp_path.glob("out.csv.*.partial")
        assert len(rows_of(partial)) == 1  # whole at every moment, for whoever is killed
    assert len(rows_of(target)) == 1
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ImgscanError("the model failed")])
def test_rows_so_far_are_kept_when_the_scan_ends_early(tmp_path: Path, stop: Exception) -> None:
    target = tmp_path / "out.csv"

    def scan_that_stops() -> None:
        with open_report(target, "m@1") as report:
            report.write(Failed(ImageRef(Path("a")), "empty", ""))
            raise stop

    with pytest.raises(type(stop)):
        scan_that_stops()
    assert [row["path"] for row in rows_of(target)] == ["a"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ImgscanError("no model"), SystemExit(1)])
def test_what_ends_before_the_first_row_leaves_the_older_report(
    tmp_path: Path, stop: BaseException
) -> None:
    target = tmp_path / "out.csv"
    target.write_text("older")
    with pytest.raises(type(stop)), open_report(target, "m@1"):
        raise stop
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("older")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with open_report(tmp_path / "link.csv", "m@1"):
        pass
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("path,")


def test_a_link_to_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"precious")
    (tmp_path / "link.csv").symlink_to("photo.png")
    with pytest.raises(
        UsageError, match=r"links to .*photo\.png, which is not named \.csv or \.jsonl"
    ):
        open_report(tmp_path / "link.csv", "m@1")
    assert (tmp_path / "photo.png").read_bytes() == b"precious"


def test_an_older_reports_permissions_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("older")
    target.chmod(0o600)
    with open_report(target, "m@1"):
        (partial,) = tmp_path.glob("*.partial")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_score_just_under_its_threshold_is_seen_to_be(tmp_path: Path) -> None:
    score = 0.49999999999999994
    with open_report(tmp_path / "out.csv", "m@1") as report:
        report.write(judge(ImageRef(Path("a.png")), FACTS, score, OperatingPoint("youden", 0.5)))
    (row,) = rows_of(tmp_path / "out.csv")
    assert row["verdict"] == "real"
    assert float(row["p_fake"]) == score < float(row["fake_from"]) == float(row["threshold"])


def test_two_scans_to_one_report_do_not_write_into_each_others_rows(tmp_path: Path) -> None:
    """Also where both have one process id, as in two containers."""
    target = tmp_path / "out.csv"
    with open_report(target, "m@1") as first:
        with open_report(target, "m@2") as second:
            second.write(Failed(ImageRef(Path("b")), "empty", ""))
        first.write(Failed(ImageRef(Path("a")), "empty", ""))
    (row,) = rows_of(target)
    assert (row["path"], row["model"]) == ("a", "m@1")
    assert list(tmp_path.iterdir()) == [target]


def test_rows_whose_file_cannot_get_its_name_are_said_to_be_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def scan() -> None:
        with open_report(tmp_path / "out.csv", "m@1") as report:
            report.write(Failed(ImageRef(Path("a")), "empty", ""))
            monkeypatch.setattr(Path, "replace", refuse)

    with pytest.raises(ImgscanError) as caught:
        scan()
    (partial,) = tmp_path.iterdir()
    assert f"the rows so far (1) are in {partial}; " in str(caught.value)


def test_a_name_that_is_too_long_has_its_own_remedy(tmp_path: Path) -> None:
    with pytest.raises(ImgscanError, match="shorter name"):
        open_report(tmp_path / ("n" * 245 + ".csv"), "m@1")


def test_another_extension_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv"):
        open_report(tmp_path / "out.xlsx", "m@1")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told_before_the_scan(tmp_path: Path) -> None:
    with pytest.raises(ImgscanError, match=r"nowhere/out\.csv: cannot be written: No such file"):
        open_report(tmp_path / "nowhere" / "out.csv", "m@1")


def test_a_folder_in_the_reports_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(ImgscanError, match="not a file"):
        open_report(tmp_path / "out.csv", "m@1")


def test_a_disk_that_fills_up_keeps_the_whole_rows(tmp_path: Path) -> None:
    """The last row is written in part, as a full disk does it, and is not in the report."""
    target = tmp_path / "out.csv"

    class Filling(io.RawIOBase):
        def __init__(self, file: io.RawIOBase) -> None:
            self.file, self.full = file, False

        def write(self, data: memoryview) -> int:  # type: ignore[override]
            if not self.full:
                return self.file.write(data) or 0
            if len(data) > 5:
                return self.file.write(data[:5]) or 0
            raise OSError(28, "No space left on device")

        def tell(self) -> int:
            return self.file.tell()

        def truncate(self, size: int | None = None) -> int:
            return self.file.truncate(size)

        def fileno(self) -> int:
            return self.file.fileno()

        def close(self) -> None:
            self.file.close()

    def scan_until_full() -> None:
        with open_report(target, "m@1") as report:
            report._file = filling = Filling(report._file)  # type: ignore[assignment]
            report.write(Failed(ImageRef(Path("a")), "empty", ""))
            filling.full = True
            report.write(Failed(ImageRef(Path("b" * 8)), "empty", ""))

    with pytest.raises(
        ImgscanError, match=r"device; the rows so far \(1\) are in .*out\.csv; free"
    ):
        scan_until_full()
    assert [row["path"] for row in rows_of(target)] == ["a"]
