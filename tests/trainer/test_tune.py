"""A study finds values, survives its processes, and leaves a preset that fit reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from click.testing import CliRunner
from optuna.trial import TrialState
from PIL import Image
from torch import Tensor

import trainer.tune as tune_module
from scanner.errors import ImgscanError, UsageError
from trainer.auc_error import auc_standard_error
from trainer.checkpoint import BEST
from trainer.cli import command
from trainer.config import FitConfig, load_config
from trainer.data import Splits, load_samples, split_samples
from trainer.fit import DivergedError
from trainer.losses import ClassificationLoss
from trainer.tune import TrialReport, TuneResult, search_space, tune, tuning_config
from trainer.tuned import draw_plots

TOY = """
base = "focal-optuna"
[toy]
encoder = "conv"
encoder_weights = "none"
unfrozen = -1
size = 16
decoder = "transposed"
head = [8]
perceptual = "none"
beta = 0.0
sample = 1.0
batch_size = 8
freeze_epochs = 0
c_off = 0.0
c_ramp = 0.0
workers = 0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen dark and sixteen bright squares: something to learn in an epoch or two."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label, level in (("real", 60), ("fake", 160)):
        (folder / label).mkdir()
        for i in range(16):
            pixels = np.clip(rng.normal(level, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(TOY)
    return path


@pytest.fixture
def splits(data: Path) -> Splits:
    return split_samples(load_samples(data), val_fraction=0.25)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(toy: Path, **changes: Any) -> FitConfig:
    # 16 pixels are too few for SSIM's window: MSE searches gamma_r alone, which is enough.
    config = replace(tuning_config(load_config(str(toy)), 2), reconstruction="mse")
    return replace(config, **changes)


def run(config: FitConfig, splits: Splits, folder: Path, trials: int, **more: Any) -> TuneResult:
    storage = f"sqlite:///{folder / 'study.db'}"
    return tune(config, splits, folder / "runs", trials=trials, storage=storage, study="s", **more)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("conv-ae", {"gamma_r"}),
        ("transfer-hybrid", {"alpha_r", "beta", "gamma_r"}),
        ("focal-optuna", {"alpha_r", "beta", "gamma_r", "gamma_c", "alpha_c"}),
        ("grey", {"alpha_r", "beta", "gamma_r", "gamma_c", "alpha_c", "class_weight"}),
    ],
)
def test_only_what_the_preset_uses_is_searched(preset: str, expected: set[str]) -> None:
    config = load_config(preset)
    space = search_space(config)
    assert set(space) == expected
    for name, bounds in space.items():
        assert bounds.low <= getattr(config, name) <= bounds.high


def test_a_preset_without_loss_parameters_needs_something_else_to_search() -> None:
    for preset in ("cnn", "default"):
        with pytest.raises(UsageError, match="--also learning_rate"):
            search_space(load_config(preset))
    assert set(search_space(load_config("cnn"), ["dropout"])) == {"dropout"}


def test_reconstruction_is_searched_only_where_the_encoder_feels_it() -> None:
    frozen = load_config("focal-optuna", {"unfrozen": 0})
    assert set(search_space(frozen)) == {"gamma_c", "alpha_c"}
    assert {"alpha_r", "beta", "gamma_r", "unfrozen"} < set(search_space(frozen, ["unfrozen"]))


def test_unfrozen_cannot_be_searched_from_all_layers() -> None:
    with pytest.raises(UsageError, match="unfrozen = -1"):
        search_space(load_config("cnn"), ["unfrozen"])


def test_a_value_outside_the_usual_bounds_widens_them() -> None:
    space = search_space(load_config("focal-optuna", {"gamma_r": 9.0, "gamma_c": 0.0}))
    assert (space["gamma_r"].low, space["gamma_r"].high) == (0.25, 9.0)


def test_frozen_epochs_shrink_with_the_epochs() -> None:
    config = load_config("focal-optuna", {"freeze_epochs": 60})
    assert tuning_config(config, 10).freeze_epochs == 3
    assert tuning_config(config, 1).freeze_epochs == 0


def test_the_preset_comes_first_and_the_best_is_never_worse(
    toy: Path, splits: Splits, tmp_path: Path
) -> None:
    config = small(toy)
    reports: list[TrialReport] = []
    result = run(config, splits, tmp_path, 3, also=["learning_rate"], on_trial=reports.append)
    assert [r.number for r in reports] == [0, 1, 2]
    assert dict(reports[0].params) == dict(result.previous)
    assert result.previous == {n: getattr(config, n) for n in result.space}
    assert result.previous_auc is not None
    assert result.best_auc == max(r.auc for r in reports if r.auc is not None)
    assert result.best_auc >= result.previous_auc
    assert (tmp_path / "runs" / "trial-0002" / "log.csv").is_file()
    assert not list((tmp_path / "runs").rglob("*.pt"))


def test_a_study_goes_on_where_it_was_stopped(toy: Path, splits: Splits, tmp_path: Path) -> None:
    config = small(toy)
    stop: list[TrialReport] = []

    def interrupt(report: TrialReport) -> None:
        stop.append(report)
        if len(stop) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, splits, tmp_path, 4, on_trial=interrupt, keep_checkpoints=True)
    assert (tmp_path / "runs" / "trial-0001" / BEST).is_file()
    rest: list[TrialReport] = []
    result = run(config, splits, tmp_path, 4, on_trial=rest.append)
    assert [r.number for r in rest] == [2, 3]
    assert result.complete + result.pruned == 4
    params = [tuple(t.params.values()) for t in result.study.trials]
    assert len(set(params)) == 4, "the resumed sampler repeats its draws"
    again: list[TrialReport] = []
    run(config, splits, tmp_path, 4, on_trial=again.append)
    assert again == []


def test_a_trial_that_was_interrupted_does_not_count(
    toy: Path, splits: Splits, tmp_path: Path
) -> None:
    def interrupt(trial: int, report: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(toy), splits, tmp_path, 2, on_epoch=interrupt)
    result = run(small(toy), splits, tmp_path, 2)
    assert [t.state.name for t in result.study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert result.previous_auc == result.study.trials[1].value
    assert result.failed == 0


def test_a_trial_that_diverges_is_recorded_and_the_study_goes_on(
    toy: Path, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_forward = ClassificationLoss.forward
    calls: list[int] = []

    def first_is_nan(self: ClassificationLoss, logit: Tensor, label: Tensor) -> Tensor:
        calls.append(1)
        loss = real_forward(self, logit, label)
        return loss * float("nan") if len(calls) == 1 else loss

    monkeypatch.setattr(ClassificationLoss, "forward", first_is_nan)
    reports: list[TrialReport] = []
    result = run(small(toy), splits, tmp_path, 3, on_trial=reports.append)
    assert [r.state for r in reports] == ["failed", "complete", "complete"]
    assert "the loss is nan" in reports[0].detail
    assert (result.failed, result.complete) == (1, 2)
    assert result.previous_auc is None


def test_a_study_in_which_all_diverge_says_why(
    toy: Path, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*args: Any, **kwargs: Any) -> Any:
        raise DivergedError("epoch 1, step 1: the loss is nan")

    monkeypatch.setattr(tune_module, "fit", diverge)
    with pytest.raises(ImgscanError, match=r"none of 2 trials ran to its end.*the loss is nan"):
        run(small(toy), splits, tmp_path, 2)


def test_the_pruner_is_fed_by_each_epoch_and_stops_a_bad_trial(
    toy: Path, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four trials of AUC 0.9 make the median; the fifth, at 0.1, ends after its first epochs."""
    started: list[int] = []

    def fake_fit(config: FitConfig, splits: Splits, out: Path, **kwargs: Any) -> dict[str, Any]:
        started.append(1)
        auc = 0.1 if len(started) == 5 else 0.9
        for epoch in range(1, config.epochs + 1):
            kwargs["on_epoch"](_epoch(epoch, config.epochs, auc))
        return {"validation": {"half": {"auc": auc}}}

    monkeypatch.setattr(tune_module, "fit", fake_fit)
    config = small(toy, epochs=6, c_off=1 / 3)
    reports: list[TrialReport] = []
    result = run(config, splits, tmp_path, 5, on_trial=reports.append)
    assert [r.state for r in reports] == ["complete"] * 4 + ["pruned"]
    assert list(result.study.trials[0].intermediate_values) == [3, 4, 5, 6]
    assert reports[4].epochs == 4
    (tmp_path / "free").mkdir()
    started.clear()
    free = run(config, splits, tmp_path / "free", 5, prune=False)
    assert (free.complete, free.pruned) == (5, 0)


def _epoch(epoch: int, epochs: int, auc: float) -> tune_module.EpochReport:
    return tune_module.EpochReport(epoch, epochs, 1.0, 1.0, 1.0, auc, 0.5, 0.1, 1e-3, 0.0, False)


def test_other_settings_and_other_data_are_refused(
    toy: Path, splits: Splits, tmp_path: Path
) -> None:
    run(small(toy), splits, tmp_path, 1)
    with pytest.raises(UsageError, match="begun with another epochs:"):
        run(small(toy, epochs=3), splits, tmp_path, 2)
    with pytest.raises(UsageError, match="begun with another data:"):
        run(small(toy), replace(splits, train=splits.train[1:]), tmp_path, 2)
    with pytest.raises(UsageError, match="begun with another ranges:"):
        run(small(toy), splits, tmp_path, 2, also=["dropout"])


def test_a_new_study_does_not_write_over_the_trials_of_another(
    toy: Path, splits: Splits, tmp_path: Path
) -> None:
    run(small(toy), splits, tmp_path, 1)
    (tmp_path / "study.db").unlink()
    with pytest.raises(UsageError, match="trials of another study"):
        run(small(toy), splits, tmp_path, 1)


@pytest.mark.parametrize("storage", ["nonsense", "sqlite:////no/such/folder/study.db"])
def test_a_storage_that_cannot_be_used_is_a_message(
    storage: str, toy: Path, splits: Splits, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="storage"):
        tune(small(toy), splits, tmp_path, trials=1, storage=storage, study="s")


def arguments(data: Path, toy: Path, folder: Path, trials: int) -> list[str]:
    return [
        "tune", "--data", str(data), "--preset", str(toy), "--out", str(folder / "best.toml"),
        "--storage", f"sqlite:///{folder / 'study.db'}", "--study", "s", "--epochs", "2",
        "--trials", str(trials), "--set", "reconstruction=mse", "--also", "learning_rate",
        "--device", "cpu", "--threads", "1",
    ]  # fmt: skip


def test_the_command_writes_a_preset_that_fit_reads(data: Path, toy: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, arguments(data, toy, tmp_path, 5), catch_exceptions=False)
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert float(lines["gamma_r"][1]) == pytest.approx(1.4612961670003108, rel=1e-5)
    before, tuned = load_config(str(toy)), load_config(str(tmp_path / "best.toml"))
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    expected = {"reconstruction": "mse", **study.best_params, "preset": "best"}
    assert tuned.to_dict() == {**before.to_dict(), **expected}
    assert float(lines["learning_rate"][2]) == pytest.approx(tuned.learning_rate, rel=1e-5)
    assert (tmp_path / "best-history.png").is_file()
    fitted = CliRunner().invoke(
        command,
        ["fit", "--data", str(data), "--preset", str(tmp_path / "best.toml"), "--epochs", "1",
         "--out", str(tmp_path / "run"), "--threads", "1"],
        catch_exceptions=False,
    )  # fmt: skip
    assert fitted.exit_code == 0


def test_plots_are_drawn_where_the_trials_tell_something(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", study_name="s")
    bounds = {"x": optuna.distributions.FloatDistribution(0, 1)}

    def add(x: float, auc: float) -> None:
        trial = optuna.trial.create_trial(params={"x": x}, distributions=bounds, value=auc)
        study.add_trial(trial)

    for i in range(3):
        add(i / 10, 0.5)
    files, missing = draw_plots(study, tmp_path / "few")
    assert [f.name for f in files] == ["few-history.png"]
    assert len(missing) == 1
    for i in range(9):
        add(i / 9, 0.5)
    files, missing = draw_plots(study, tmp_path / "equal")
    assert [f.name for f in files] == ["equal-history.png"]
    for i in range(12):
        add(i / 12, 0.6 + i / 100)
    files, missing = draw_plots(study, tmp_path / "enough")
    assert [f.name for f in files] == ["enough-history.png", "enough-importances.png"]
    assert missing == []
    for file in files:
        with Image.open(file) as image:
            assert min(image.size) > 300


@pytest.mark.slow
def test_two_processes_share_one_study(data: Path, toy: Path, tmp_path: Path) -> None:
    root = Path(tune_module.__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "trainer", *arguments(data, toy, tmp_path, 8)],
            env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    states = Counter(t.state for t in study.trials)
    assert states[TrialState.FAIL] == states[TrialState.RUNNING] == 0
    # Both may have begun one after seeing seven.
    assert 8 <= sum(states.values()) <= 9
    assert sum("previous" in t.user_attrs for t in study.trials) == 1
    assert len({tuple(t.params.values()) for t in study.trials}) == len(study.trials)
    assert load_config(str(tmp_path / "best.toml")).gamma_r == study.best_params["gamma_r"]


def test_the_error_of_an_auc_is_that_of_hanley_and_mcneil() -> None:
    """Their worked example: 58 normal and 51 abnormal cases, area 0.893, error 0.032."""
    assert auc_standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=1e-3)
    assert 0 < auc_standard_error(1.0, 2, 2) < 0.5
