from __future__ import annotations

import csv
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from fakes import all_gone, encoded, grey, save_grey

from scanner.bundle import Bundle
from scanner.cli import run
from scanner.report.csv import COLUMNS

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "scanner"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def imgscan(
    *args: str | Path | bytes, model: Bundle | None = None
) -> subprocess.CompletedProcess[str]:
    options = ["--model", str(model.path), "--device", "cpu"] if model else []
    return subprocess.run(
        [*COMMAND, *options, *args],
        env=environment(),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in rows)
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


# --- exit codes ---


def test_exit_codes_tell_what_was_found(tmp_path: Path, tiny_bundle: Bundle) -> None:
    save_grey(tmp_path / "real/a.png", 10)
    save_grey(tmp_path / "fake/b.png", 250)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/c.png").write_bytes(b"")

    def status(*args: str | Path) -> int:
        return imgscan(*args, model=tiny_bundle).returncode

    real, fake, bad = tmp_path / "real", tmp_path / "fake", tmp_path / "bad"
    assert status(real) == 0
    assert status(real, fake) == 1
    assert status(real, bad) == 2
    assert status(tmp_path) == 2  # a missed file outweighs a find
    assert status("--exit-zero", tmp_path) == 0
    assert status("--exit-zero", tmp_path / "gone") == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give a file or folder to scan"),
        (["--bogus", "."], "No such option"),
        (["--device", "tpu", "."], "'tpu' is not one of"),
        (["--batch-size", "0", "."], "0 is not in the range"),
        (["--threshold", "2", "."], "0..1, not 2"),
        (["--threshold", "nan", "."], "0..1, not nan"),
        (["--threshold", "0.5", "--operating-point", "youden", "."], "exclude each other"),
        (["--operating-point", "fpr1", "."], "there are best_f1, youden"),
        (["--report", "out.xlsx", "."], ".csv"),
        (["--report", "nowhere/out.csv", "."], "nowhere/out.csv: cannot be written"),
        ([""], "PATH is empty"),
        (["--report", "", "."], "--report is empty"),
        (["--model", "", "."], "--model is empty"),
        (["gone\x1b[31m"], r"gone\x1b[31m: no such file or folder"),
    ],
)
def test_wrong_usage_is_one_line_and_status_three(
    tmp_path: Path, tiny_bundle: Bundle, args: Sequence[str], said: str
) -> None:
    done = imgscan(*args, model=tiny_bundle)
    assert done.returncode == 3
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_file_that_is_taken_for_an_option_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["-dash.webp"]) == 3
    assert "./-dash.webp" not in capsys.readouterr().err
    Path("-dash.webp").touch()
    assert run(["-dash.webp"]) == 3
    assert "./-dash.webp, or --" in capsys.readouterr().err
    for args in (["--bogus", "--", "-dash.webp"], ["--modle=fast", "--", "-dash.webp"]):
        assert run(args) == 3
        assert "-dash.webp" not in capsys.readouterr().err, "it is not what was taken for an option"


def test_a_folder_called_as_an_embedded_model_is_given_with_a_dot(
    tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_bundle.path, "fast")
    save_grey(tmp_path / "a.png", 255)
    for model, named in (("./fast", "tiny@"), ("fast", "fast@")):
        run(["a.png", "--model", model, "--no-journal", "--device", "cpu"])
        assert f": youden, {named}" in capsys.readouterr().out


def test_a_bad_model_is_one_line_and_status_three(tmp_path: Path) -> None:
    save_grey(tmp_path / "a.png", 0)
    done = imgscan("--model", tmp_path, tmp_path / "a.png")
    assert done.returncode == 3
    assert done.stderr.startswith("imgscan: ")
    assert done.stderr.count("\n") == 1


def test_version_is_the_packages(tmp_path: Path) -> None:
    from scanner import __version__

    assert imgscan("--version").stdout == f"imgscan {__version__}\n"
    assert imgscan("--version", "--quiet").stdout == f"imgscan {__version__}\n"


# --- what is printed and written ---


def test_the_report_has_one_row_for_each_file_in_order(tmp_path: Path, tiny_bundle: Bundle) -> None:
    for name, level in [("b.png", 250), ("a/x.png", 10), ("c.png", 130)]:
        save_grey(tmp_path / name, level)
    (tmp_path / "d.png").write_bytes(encoded(grey(0), "PNG")[:50])
    report = tmp_path / "out.csv"
    assert imgscan(tmp_path, "--report", report, model=tiny_bundle).returncode == 2
    rows = rows_of(report)
    assert [Path(row["path"]).name for row in rows] == ["x.png", "b.png", "c.png", "d.png"]
    assert [row["verdict"] for row in rows] == ["real", "fake", "fake", "failed"]
    assert {row["model"] for row in rows} == {f"tiny@{tiny_bundle.digest}"}
    # A second scan of the same folder is not disturbed by the report that lies in it.
    imgscan(tmp_path, "--report", report, model=tiny_bundle)
    assert rows_of(report) == rows


def test_the_threshold_asked_for_is_used_and_reported(tmp_path: Path, tiny_bundle: Bundle) -> None:
    save_grey(tmp_path / "a.png", 110)  # P(fake) of about 0.33
    report = tmp_path / "out.csv"
    for options, name, threshold, verdict in [
        ([], "youden", "0.5", "real"),
        (["--operating-point", "best_f1"], "best_f1", "0.25", "fake"),
        (["--threshold", "0.9"], "custom", "0.9", "real"),
        (["--threshold", "0"], "custom", "0.0", "fake"),
    ]:
        imgscan(tmp_path, "--report", report, *options, model=tiny_bundle)
        (row,) = rows_of(report)
        told = (row["operating_point"], row["threshold"], row["verdict"])
        assert told == (name, threshold, verdict)


def test_suspects_are_listed_surest_first_and_at_most_n(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    long = "n" * 200
    for name, level in [("a", 160), (long, 250), ("c", 200), ("d", 10)]:
        save_grey(tmp_path / f"{name}.png", level)
    done = imgscan(tmp_path, "--top", "2", model=tiny_bundle)
    listed = re.findall(r"^ +([\d.]+)%  (.+)$", done.stdout, re.MULTILINE)
    # In full, on one line, without trailing blanks or colours: a pipe has no width.
    assert [path for _, path in listed] == [f"{tmp_path}/{long}.png", f"{tmp_path}/c.png"]
    assert [float(percent) for percent, _ in listed] == pytest.approx([99.2, 94.5], abs=0.5)
    assert "and 1 more" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert "%" not in imgscan(tmp_path, "--top", "0", model=tiny_bundle).stdout


def test_the_summary_counts_everything(tmp_path: Path, tiny_bundle: Bundle) -> None:
    save_grey(tmp_path / "a.png", 250)
    save_grey(tmp_path / "b.png", 10)
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "link.png").symlink_to("a.png")
    out = imgscan(tmp_path, model=tiny_bundle).stdout
    assert re.search(r"^Scanned +3 in [\d.]+ s \([\d.]+ a second, on cpu\)$", out, re.MULTILINE)
    assert re.search(r"^Suspect +1 \(P\(fake\) 0\.5000 or more: youden, tiny@", out, re.MULTILINE)
    assert re.search(r"^Failed +1 \(1 empty\)$", out, re.MULTILINE)
    assert f"{tmp_path}/c.png: empty: the file has no bytes" in out
    assert re.search(r"^Left out +1 symbolic link \(--follow-symlinks\)$", out, re.MULTILINE)


def test_quiet_prints_nothing_but_errors(tmp_path: Path, tiny_bundle: Bundle) -> None:
    save_grey(tmp_path / "a.png", 250)
    done = imgscan("-q", tmp_path, "--report", tmp_path / "o.csv", model=tiny_bundle)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert len(rows_of(tmp_path / "o.csv")) == 1


def test_a_folder_without_pictures_still_has_its_report(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    report = tmp_path / "out.csv"
    done = imgscan(tmp_path, "--report", report, model=tiny_bundle)
    assert done.returncode == 0
    assert "no pictures" in done.stderr
    assert re.search(r"^Scanned +0 in ", done.stdout, re.MULTILINE)
    assert re.search(rf"^Report +{re.escape(str(report))}$", done.stdout, re.MULTILINE)
    assert rows_of(report) == []


def test_names_are_never_printed_raw(tmp_path: Path, tiny_bundle: Bundle) -> None:
    evil = os.fsencode(tmp_path) + b"/\x1b[2J\xff[red]=1\xe2\x80\xaegpj.png"
    Path(os.fsdecode(evil)).write_bytes(encoded(grey(255), "PNG"))
    report = tmp_path / "out.csv"
    done = imgscan(evil, "--report", report, model=tiny_bundle)
    assert done.returncode == 1
    assert r"/\x1b[2J\xff[red]=1\u202egpj.png" in done.stdout
    (row,) = rows_of(report)
    from scanner.report.cells import decode_cell

    assert os.fsencode(decode_cell(row["path"])) == evil


def test_a_closed_pipe_is_quiet(tmp_path: Path, tiny_bundle: Bundle) -> None:
    save_grey(tmp_path / "a.png", 250)
    command = [*COMMAND, "--model", str(tiny_bundle.path), "--device", "cpu", str(tmp_path)]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_version_that_cannot_be_printed_is_no_suspect() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--version"],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "imgscan: the version cannot be printed: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_with_exit_zero_a_full_disk_behind_stdout_does_not_undo_the_scan(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    save_grey(tmp_path / "a.png", 250)
    command = [*COMMAND, "--model", str(tiny_bundle.path), "--device", "cpu", "--exit-zero"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, str(tmp_path), "--report", str(tmp_path / "out.csv")],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, len(rows_of(tmp_path / "out.csv"))) == (0, 1)
    assert "cannot be printed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told(tmp_path: Path, tiny_bundle: Bundle) -> None:
    save_grey(tmp_path / "a.png", 250)
    command = [*COMMAND, "--model", str(tiny_bundle.path), "--device", "cpu", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert done.stderr == "imgscan: the result cannot be printed: No space left on device\n"


# --- a person at a terminal ---


class Terminal:
    """imgscan with a terminal as its standard error (and output)."""

    def __init__(self, *args: str | Path, model: Bundle) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "--model", str(model.path), "--device", "cpu", *map(str, args)],
            env=environment() | {"TERM": "xterm", "COLUMNS": "120"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._raw = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    @property
    def seen(self) -> str:
        """What was shown, without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw)

    def _read(self, seconds: float) -> bool:
        """Whether there was anything to read within that time."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            self._raw += os.read(self._ours, 65536).decode()
        except OSError:  # the other end is closed
            return False
        return True

    def read_until(self, pattern: str, seconds: float = 60) -> None:
        """Read what is shown until `pattern` is in it."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, self.seen[-2000:]
            self._read(0.2)

    def hang_up(self) -> int:
        """Close the terminal, as a person does, and wait."""
        os.close(self._ours)
        self._ours = os.open(os.devnull, os.O_RDONLY)
        self.process.send_signal(signal.SIGHUP)
        return self.process.wait(30)

    def wait(self) -> int:
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.wait(1)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough files to be interrupted in: hard links of one."""
    folder = tmp_path_factory.mktemp("many")
    first = save_grey(folder / "00000.png", 250, (800, 600)).path
    for i in range(1, 3000):
        os.link(first, folder / f"{i:05}.png")
    return folder


def test_progress_shows_count_total_rate_and_time_left(many: Path, tiny_bundle: Bundle) -> None:
    with Terminal(many, model=tiny_bundle) as terminal:
        terminal.read_until(r"\d+/3000 [\d.]+/s \d:\d\d:\d\d left +\d+ suspect +0 failed")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_leaves_a_valid_partial_report(
    tmp_path: Path, many: Path, tiny_bundle: Bundle, number: signal.Signals
) -> None:
    report = tmp_path / "out.csv"
    with Terminal(many, "--report", report, model=tiny_bundle) as terminal:
        terminal.read_until(r"[1-9]\d+/(3000|\?)")
        start = time.monotonic()
        terminal.process.send_signal(number)
        terminal.process.send_signal(number)  # the impatient second one must not spoil it
        assert terminal.wait() == 130
        assert time.monotonic() - start < 10
    rows = rows_of(report)
    assert 0 < len(rows) < 3000
    assert [Path(row["path"]).name for row in rows] == [f"{i:05}.png" for i in range(len(rows))]
    assert {row["verdict"] for row in rows} == {"fake"}
    assert list(tmp_path.iterdir()) == [report]
    assert "Interrupted" in terminal.seen
    assert "Traceback" not in terminal.seen


def test_a_closed_terminal_is_an_interruption(
    tmp_path: Path, many: Path, tiny_bundle: Bundle
) -> None:
    report = tmp_path / "out.csv"
    with Terminal(many, "--report", report, model=tiny_bundle) as terminal:
        terminal.read_until(r"[1-9]\d+/(3000|\?)")
        assert terminal.hang_up() == 130
    assert 0 < len(rows_of(report)) < 3000
    assert list(tmp_path.iterdir()) == [report]


_STUCK = """
import functools, sys
import hostile
from scanner import scan
from scanner.__main__ import main

scan.scan = functools.partial(scan.scan, decode=hostile.stuck)
sys.exit(main())
"""


def test_a_file_that_is_still_being_read_does_not_hold_up_an_interruption(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    pictures = tmp_path / "pictures"
    save_grey(pictures / "a.png", 250)
    report = tmp_path / "out.csv"
    report.write_text("older")
    options = ["--model", str(tiny_bundle.path), "--device", "cpu", "--report", str(report)]
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK, *options, str(pictures)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/scanner")])},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        worker = reading(pictures / "a.png")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert time.monotonic() - start < 10
    assert rest == "imgscan: interrupted\n"
    assert all_gone([worker], seconds=2)
    assert report.read_text() == "older"  # which no row has come to replace
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "pictures"]


def reading(path: Path) -> psutil.Process:
    """The worker process that `hostile.stuck` holds at this file."""
    told = Path(f"{path}.pid")
    end = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return psutil.Process(int(told.read_text()))


def test_a_killed_scan_leaves_its_rows_in_the_temporary_file(
    tmp_path: Path, many: Path, tiny_bundle: Bundle
) -> None:
    report = tmp_path / "out.csv"
    with Terminal(many, "--report", report, model=tiny_bundle) as terminal:
        terminal.read_until(r"[1-9]\d+/(3000|\?)")
        terminal.process.kill()
        terminal.wait()
    (partial,) = tmp_path.iterdir()
    assert re.fullmatch(r"out\.csv\.[0-9a-f]{8}\.partial", partial.name)
    assert rows_of(partial)
