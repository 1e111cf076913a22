"""What a run's folder may hold, and what must not be taken for its result."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.fit import EpochReport, fit

PLAIN = FitConfig(
    **{**CONFIG, "decoder": "none", "reconstruction": "none", "epochs": 1, "head": (8,)}
)


class _Killed(Exception):  # noqa: N818 - stands for a signal
    pass


def _kill(report: EpochReport) -> None:
    raise _Killed


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data = make_data(tmp_path_factory.mktemp("data"), {("real", "a"): 12, ("fake", "b"): 12})
    return split_samples(load_samples(data), val_fraction=0.3)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_names_that_are_no_utf8_go_through_a_whole_fit(tmp_path: Path):
    data = make_data(tmp_path / "data", {("real", "a"): 12, ("fake", "b"): 12})
    (data / "manifest.csv").unlink()
    for path in data.rglob("*.png"):
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9-" + os.fsencode(path.name)))
    splits = split_samples(load_samples(data), val_fraction=0.3)
    fit(PLAIN, splits, tmp_path / "run")
    with (tmp_path / "run" / "validation.csv").open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        assert [row["file"] for row in csv.DictReader(stream)] == [s.key for s in splits.val]


def test_a_result_does_not_outlive_the_model_it_is_of(splits: Splits, tmp_path: Path):
    """Resumed and killed, a run is unfinished: no threshold of an earlier epoch speaks for it."""
    fit(PLAIN, splits, tmp_path)
    with pytest.raises(_Killed):
        fit(replace(PLAIN, epochs=3), splits, tmp_path, resume=True, on_epoch=_kill)
    with pytest.raises(UsageError, match="--resume"):
        checkpoint.load_run(tmp_path)
    result = fit(replace(PLAIN, epochs=3), splits, tmp_path, resume=True)
    assert checkpoint.load_run(tmp_path)[2] == result


def test_a_result_of_another_epoch_is_refused(splits: Splits, tmp_path: Path):
    result = fit(PLAIN, splits, tmp_path)
    checkpoint.write_json(tmp_path / "result.json", {**result, "epoch": result["epoch"] + 1})
    with pytest.raises(UsageError, match=r"result\.json: is of epoch 2, best\.pt of epoch 1"):
        checkpoint.load_run(tmp_path)


def test_a_finished_run_without_its_last_checkpoint_is_not_overwritten(
    splits: Splits, tmp_path: Path
):
    fit(PLAIN, splits, tmp_path)
    (tmp_path / checkpoint.LAST).unlink()
    with pytest.raises(UsageError, match="holds a run"):
        fit(PLAIN, splits, tmp_path)
