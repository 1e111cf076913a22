"""What happens to a report where the system refuses: no finished row is lost."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import save_grey

from scanner.bundle import Bundle
from scanner.errors import ImgscanError
from scanner.report import open_report
from scanner.types import Failed, ImageRef

ROOT = Path(__file__).parents[2]

# A process that may write no file beyond 4 kB. Python leaves SIGXFSZ ignored, so a write that
# goes beyond is an error, like that of a disk that is full.
_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs setrlimit")
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_file_that_may_grow_no_more_keeps_the_whole_rows(tmp_path: Path, name: str) -> None:
    """A real refusal of the operating system, in the middle of a row."""
    code = f"""{_LIMITED}
from pathlib import Path
from scanner.errors import ImgscanError
from scanner.report import open_report
from scanner.types import Failed, ImageRef
written = 0
try:
    with open_report(Path(sys.argv[1]), "m@1") as report:
        for i in range(1000):
            report.write(Failed(ImageRef(Path(f"{{i:050}}.png")), "empty", "no bytes"))
            written += 1
except ImgscanError as error:
    print(written, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / name],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    written, message = done.stdout.split(" ", 1)
    assert f"; the rows so far ({written}) are in {tmp_path / name}; raise the limit" in message
    with (tmp_path / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if name == "out.csv" else [*map(json.loads, file)]
    assert [row["path"] for row in rows] == [f"{i:050}.png" for i in range(int(written))]
    assert int(written) > 5
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.skipif(os.name == "nt", reason="needs setrlimit")
def test_a_scan_whose_report_cannot_grow_breaks_off_with_what_it_has(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    for i in range(60):
        save_grey(tmp_path / f"pictures/{i:03}.png", i)
    code = f"{_LIMITED}\nfrom scanner.__main__ import main\nsys.exit(main())"
    report = tmp_path / "out.csv"
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, tmp_path / "pictures", "--report", report),
            *("--model", tiny_bundle.path, "--device", "cpu"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "File too large; the rows so far (" in done.stderr
    assert "Traceback" not in done.stderr
    with report.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 0 < len(rows) < 60
    assert all(row["sha256"] and row["model"] for row in rows)


def test_a_folder_that_cannot_be_written_to_is_told_before_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really closed; for root, to whom no folder is, the refusal is made up."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    if hasattr(os, "geteuid") and os.geteuid() == 0:

        def refuse(*args: object, **options: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImgscanError, match=r"cannot be written: .*; give a --report in a folder"):
        open_report(folder / "out.csv", "m@1")
    monkeypatch.undo()
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_closed_during_the_scan_leaves_the_rows_in_the_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal is made up: a file system that turned read-only after an error of its disk."""

    def refuse(*args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def scan() -> None:
        with open_report(tmp_path / "out.jsonl", "m@1") as report:
            for i in range(3):
                report.write(Failed(ImageRef(Path(f"{i}.png")), "empty", "no bytes"))
            monkeypatch.setattr(Path, "replace", refuse)

    with pytest.raises(ImgscanError) as caught:
        scan()
    (partial,) = tmp_path.iterdir()
    assert f"the rows so far (3) are in {partial}; " in str(caught.value)
    assert len(partial.read_text().splitlines()) == 3
