"""A run calibrated on left-out families: its logits, thresholds and figures belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import make_data, make_run

from scanner.errors import UsageError
from trainer import checkpoint
from trainer.cli import command
from trainer.left_out import fit_left_out, read_scores
from trainer.recalibrate import recalibrate


@pytest.fixture
def run(tmp_path: Path) -> Path:
    data = make_data(tmp_path / "data", {("real", "a"): 4, ("fake", "b"): 4})
    return make_run(tmp_path / "run", data, {"": "val"})


def _benchmark(run: Path, path: Path, **changed: Any) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        {"family": f"{label}-{i}", "label": label, "tier": tier, "count": 60, "auc": 0.9,
         "accuracy": {"youden": 0.9}, "logits": list(rng.normal(mean, 2.0, 60))}
        for label, mean in (("real", -1.0), ("fake", 4.0))
        for i in range(3)
        for tier in ("clean", "hard")
    ]  # fmt: skip
    config = {**checkpoint.load(run / checkpoint.BEST)["config"], **changed}
    path.write_text(json.dumps({"config": config, "left_out": rows}))
    return path


def test_the_runs_logits_move_with_its_thresholds(run: Path, tmp_path: Path):
    bench = _benchmark(run, tmp_path / "bench.json")
    before, _, old = checkpoint.load_run(run)
    fitted = fit_left_out(read_scores(json.loads(bench.read_text()), "bench.json"))

    result = recalibrate(run, bench)

    after, _, new = checkpoint.load_run(run)
    x = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        moved = after.eval()(x).logit - before.eval()(x).logit
    assert new == result
    assert moved.numpy() == pytest.approx(np.full(3, fitted.shift), abs=1e-4)
    assert abs(fitted.shift) > 0.5, "the made-up scores are off centre"
    assert new["thresholds"] == fitted.thresholds
    assert new["temperature"] == fitted.temperature
    assert new["unsure"] == list(fitted.unsure or ())
    assert new["left_out"]["on_validation"]["thresholds"] == old["thresholds"]


def test_twice_is_the_same_as_once(run: Path, tmp_path: Path):
    bench = _benchmark(run, tmp_path / "bench.json")
    once = recalibrate(run, bench)
    assert recalibrate(run, bench) == once


def test_a_benchmark_of_another_recipe_is_refused(run: Path, tmp_path: Path):
    bench = _benchmark(run, tmp_path / "bench.json", dropout=0.3)
    with pytest.raises(UsageError, match="another dropout"):
        recalibrate(run, bench)
    assert "left_out" not in checkpoint.load_run(run)[2]


def test_the_command_prints_what_each_point_does_to_left_out_families(run: Path, tmp_path: Path):
    bench = _benchmark(run, tmp_path / "bench.json")
    done = CliRunner().invoke(command, ["calibrate", str(run), "--left-out", str(bench)])
    assert done.exit_code == 0, done.output
    for point in ("youden", "best_f1", "fpr_1pct", "fpr_0.1pct", "outside unsure"):
        assert point in done.stdout
