"""Several processes on the CPU, started as a user starts them, fit what one alone fits."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import CONFIG, make_data

from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.fit import fit

# Nothing here depends on how a batch is cut: no dropout, no batch statistics.
PLAIN = FitConfig(
    **{**CONFIG, "epochs": 3, "augment": "neutral", "ema": 0.9, "accumulate": 2, "head": (8,)}
)
SOURCES = {("real", "a"): 20, ("fake", "b"): 14, ("fake", "c"): 7}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), SOURCES)


@pytest.fixture(scope="module")
def splits(data: Path) -> Splits:
    return split_samples(load_samples(data), val_fraction=PLAIN.val_fraction, seed=0)


@pytest.fixture(scope="module")
def alone(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("alone") / "run"
    return out, fit(PLAIN, splits, out)


def _two_processes(
    folder: Path, config: FitConfig, data: Path, out: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    preset = folder / "tiny.toml"
    values = {k: v for k, v in config.to_dict().items() if k != "preset"}
    preset.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "trainer", "fit", "--data", str(data), "--preset", str(preset),
            "--out", str(out), "--device", "cpu", "--threads", "1", *more,
        ],
        capture_output=True, text=True, timeout=240, check=False,
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _log(out: Path) -> list[list[float]]:
    with (out / "log.csv").open() as stream:
        rows = list(csv.reader(stream))[1:]
    return [[float(cell) for cell in row[:9]] for row in rows]


def _agree(out: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    for name in (checkpoint.BEST, checkpoint.LAST):
        expected, found = (checkpoint.load(run / name)["model"] for run in (alone[0], out))
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-5)
    for expected_row, row in zip(_log(alone[0]), _log(out), strict=True):
        assert row == pytest.approx(expected_row, rel=1e-3)
    result = json.loads((out / "result.json").read_text())
    assert result["epoch"] == alone[1]["epoch"]
    at, wanted = result["validation"]["half"], alone[1]["validation"]["half"]
    assert at["auc"] == pytest.approx(wanted["auc"], abs=1e-9)


def test_two_processes_fit_what_one_does_and_only_the_first_speaks(
    data: Path, tmp_path: Path, alone: tuple[Path, dict[str, Any]]
):
    out = tmp_path / "run"
    done = _two_processes(tmp_path, PLAIN, data, out)
    assert done.returncode == 0, done.stderr
    _agree(out, alone)
    assert done.stdout.count("best epoch") == 1
    assert done.stderr.count("epoch 2/3") == 1
    assert "Warning" not in done.stderr, done.stderr
    assert not list(out.glob("*.partial"))


def test_two_processes_go_on_with_a_run_that_one_began(
    data: Path, splits: Splits, tmp_path: Path, alone: tuple[Path, dict[str, Any]]
):
    class Killed(Exception):  # noqa: N818 - stands for a signal
        pass

    def on_epoch(report: Any) -> None:
        raise Killed

    preset_is = replace(PLAIN, preset="tiny")  # by the file's name
    with pytest.raises(Killed):
        fit(preset_is, splits, tmp_path / "run", on_epoch=on_epoch)
    done = _two_processes(tmp_path, PLAIN, data, tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    _agree(tmp_path / "run", alone)
