"""`imgscan` with a journal, as it is run."""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from fakes import save_grey
from PIL import Image
from test_cli import COMMAND, environment

from benchmarks.kill_resume import kill_and_resume, make_pictures, whole_scan
from scanner.bundle import Bundle
from scanner.cli import run
from scanner.journal import Journal, ScanRecorder

LONG_AGO_S = 1_600_000_000


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    for level in (10, 100, 150, 250):
        ref = save_grey(folder / f"{level}.png", level)
        os.utime(ref.path, (LONG_AGO_S, LONG_AGO_S))
    (folder / "bad.jpg").write_bytes(b"no picture")
    os.utime(folder / "bad.jpg", (LONG_AGO_S, LONG_AGO_S))
    return folder


@pytest.fixture
def scan(tmp_path, tiny_bundle: Bundle, pictures):
    def scanned(*options: str, code: int = 2, folder: Path = pictures) -> list[dict[str, str]]:
        report = tmp_path / "report.csv"
        args = [str(folder), "--model", str(tiny_bundle.path), "--device", "cpu"]
        journal = [] if "--no-journal" in options else ["--journal", str(tmp_path / "j.sqlite")]
        assert run([*args, *journal, "--report", str(report), *options]) == code
        with report.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return scanned


@pytest.fixture
def no_files_are_read(monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a file was to be decoded or scored")

    def begin() -> None:
        monkeypatch.setattr("scanner.decoders.Decoders.submit", refuse)
        monkeypatch.setattr("scanner.detector.Detector.score", refuse)

    return begin


def test_an_unchanged_folder_is_reported_again_without_reading_its_files(
    scan, no_files_are_read, capsys
) -> None:
    first = scan()
    assert "from earlier scans" not in capsys.readouterr().out
    no_files_are_read()
    assert scan() == first
    assert "5 of 5 unchanged since an earlier scan" in capsys.readouterr().out


def test_a_changed_threshold_is_applied_without_inference(scan, no_files_are_read) -> None:
    before = scan()
    no_files_are_read()
    after = scan("--threshold", "0.999")
    assert [row["p_fake"] for row in after] == [row["p_fake"] for row in before]
    assert [row["verdict"] for row in before].count("fake") == 2
    assert [row["verdict"] for row in after].count("fake") == 0
    assert [row["operating_point"] for row in scan("--operating-point", "best_f1")].count(
        "best_f1"
    ) == 4


def test_rescan_reads_what_is_known_and_no_journal_knows_nothing(scan, capsys) -> None:
    first = scan()
    for option in ("--rescan", "--no-journal"):
        capsys.readouterr()
        assert scan(option) == first
        assert "from earlier scans" not in capsys.readouterr().out
    scan()
    assert "5 of 5 unchanged" in capsys.readouterr().out


def test_moved_pictures_are_known_by_their_content(scan, pictures, tmp_path, monkeypatch) -> None:
    first = scan()

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a picture was to be scored")

    monkeypatch.setattr("scanner.detector.Detector.score", refuse)
    moved = pictures.rename(tmp_path / "moved")
    second = scan(folder=moved)
    assert [{**row, "path": ""} for row in second] == [{**row, "path": ""} for row in first]


def test_a_copy_under_another_name_is_known_only_where_decoding_would_tell_the_same(
    scan, tmp_path
) -> None:
    """Named as a camera's raw file, a TIFF is developed and not read as it is."""
    scores = []
    for side, (first, second) in enumerate((("a.tif", "b.nef"), ("a.nef", "b.tif"))):
        folder = tmp_path / first
        folder.mkdir()
        Image.radial_gradient("L").resize((100 + side, 100)).save(folder / first, "TIFF")
        scan("--exit-zero", folder=folder, code=0)
        (folder / second).write_bytes((folder / first).read_bytes())
        rows = scan("--exit-zero", folder=folder, code=0)
        assert rows == scan("--exit-zero", "--no-journal", folder=folder, code=0)
        scores.append([row["p_fake"] != "" for row in rows])
    assert scores == [[True, False], [False, True]]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_a_failure_for_lack_of_memory_is_forgotten_where_there_is_more(scan, tmp_path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for name in ("a.webp", "b.webp"):
        Image.new("RGB", (4000, 4000), (200, 200, 200)).save(folder / name)
        os.utime(folder / name, (LONG_AGO_S, LONG_AGO_S))
    for _ in range(2):
        rows = scan("--memory-limit", "16", folder=folder)
        assert [row["p_fake"] for row in rows] == ["", ""]
    expected = scan("--no-journal", folder=folder, code=1)
    assert scan(folder=folder, code=1) == expected
    assert all(row["p_fake"] for row in expected)


@pytest.mark.parametrize("options", [["--newer-than", "9000d"], ["--archives"]])
def test_the_list_of_a_scan_takes_the_place_of_the_one_before(scan, tmp_path, options) -> None:
    for _ in range(3):
        scan(*options)
    scan()
    with Journal(tmp_path / "j.sqlite") as journal:
        listed = [info.listed for info in journal.scans()]
        assert listed == [True, True, False, False]
        assert len(journal._database.rows("SELECT DISTINCT scan_id FROM scan_files")) == 2


def test_lists_of_relative_names_in_two_folders_are_two(tmp_path, tiny_bundle, monkeypatch) -> None:
    args = ["--model", str(tiny_bundle.path), "--journal", str(tmp_path / "j"), "--exit-zero"]
    for name in ("a", "b", "a"):
        save_grey(tmp_path / name / "x.png", 10)
        (tmp_path / name / "list.txt").write_text("x.png\n")
        monkeypatch.chdir(tmp_path / name)
        assert run(["--files-from", "list.txt", *args]) == 0
    with Journal(tmp_path / "j") as journal:
        assert [info.listed for info in journal.scans()] == [True, True, False]


def test_a_polite_kill_ends_the_deletion_of_old_lists_and_nothing_besides(
    scan, tmp_path, monkeypatch
) -> None:
    first = scan()

    def killed(recorder: ScanRecorder, number: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the deletion went on")

    with monkeypatch.context() as patched:
        patched.setattr(ScanRecorder, "_drop", killed)
        assert scan() == first
    with Journal(tmp_path / "j.sqlite") as journal:
        assert [info.listed for info in journal.scans()] == [True, False]
        count = "SELECT count(DISTINCT scan_id) FROM scan_files"
        assert journal._database.rows(count) == [(2,)]
        scan()
        assert journal._database.rows(count) == [(1,)]


def test_reviews_are_in_the_report(scan, tmp_path) -> None:
    row = scan()[0]
    with Journal(tmp_path / "j.sqlite") as journal:
        (info,) = journal.scans()
        listed = journal.pages.page(info.id)[0]
        journal.reviews.set(
            listed.ref, listed.facts.sha256, "unsure", reviewer="ann", note="ask Bob"
        )
    assert scan()[0] == {**row, "review": "unsure", "review_note": "ask Bob"}


def test_a_named_journal_that_is_none_stops_the_scan_before_its_report(
    tmp_path, pictures, tiny_bundle, capsys
) -> None:
    bad = tmp_path / "bad.sqlite"
    bad.write_bytes(b"not a database" * 100)
    args = [str(pictures), "--model", str(tiny_bundle.path), "--report", str(tmp_path / "r.csv")]
    assert run([*args, "--journal", str(bad)]) == 3
    assert "is damaged, or no journal; move it away" in capsys.readouterr().err
    assert not list(tmp_path.glob("r.csv*"))


def test_a_default_journal_that_is_none_is_told_and_the_scan_goes_on(
    tmp_path, pictures, tiny_bundle, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *names, **options: tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.sqlite").write_bytes(b"not a database" * 100)
    assert run([str(pictures), "--model", str(tiny_bundle.path)]) == 2
    out, err = capsys.readouterr()
    assert "the scan goes on without the journal" in err
    assert "Scanned  5" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--journal", ""], "--journal is empty"),
        (["--journal", "j", "--no-journal"], "exclude each other"),
        (["--rescan", "--no-journal"], "there is none"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options, said, capsys) -> None:
    assert run([".", *options]) == 3
    assert said in capsys.readouterr().err


def test_a_scan_killed_at_any_moment_and_resumed_reports_as_one_that_was_not(
    tmp_path, tiny_bundle
) -> None:
    """`python -m benchmarks.kill_resume` does more of it, with more files."""
    files = 200
    pictures = tmp_path / "pictures"
    make_pictures(pictures, files, 0)
    expected, seconds = whole_scan(pictures, tmp_path, tiny_bundle.path)
    assert expected.count(b"\r\n") == files + 1
    rng = random.Random(1)
    kills = [
        kill_and_resume(
            pictures,
            tmp_path / str(n),
            tiny_bundle.path,
            rng.uniform(0, seconds / 2),
            expected,
            alone=n % 2 == 1,
        )
        for n in range(3)
    ]
    for kill in kills:
        assert kill.equal, kill
        assert kill.recalled >= kill.kept, kill
    # Else nothing was resumed, and nothing could have been forgotten.
    assert any(kill.midway(files) and kill.recalled for kill in kills), kills


def test_results_are_safe_while_the_list_of_files_is_long_in_coming(
    tmp_path, tiny_bundle: Bundle, pictures
) -> None:
    """And a polite kill then leaves a whole report, though the list never ends."""
    journal, report = tmp_path / "j.sqlite", tmp_path / "report.csv"
    options = ["--model", str(tiny_bundle.path), "--device", "cpu", "--files-from", "-"]
    process = subprocess.Popen(
        [*COMMAND, *options, "--journal", str(journal), "--report", str(report)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        paths = sorted(pictures.iterdir())
        process.stdin.write(b"".join(os.fsencode(path) + b"\n" for path in paths))
        process.stdin.flush()
        end = time.monotonic() + 60
        while kept(journal) < len(paths):
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.3)  # from kept to written
        process.terminate()
        assert process.wait(30) == 130
        assert process.stderr.read() == b"imgscan: interrupted\n"
    with report.open(encoding="utf-8", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [str(path) for path in paths]


def kept(journal: Path) -> int:
    """Results in it; another process may be writing."""
    try:
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
    except sqlite3.Error:  # not there yet
        return 0
