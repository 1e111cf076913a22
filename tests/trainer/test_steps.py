"""What an optimiser step is made of: accumulated batches, averages of weights, precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.fit import EpochReport, fit
from trainer.loader import batch_sizes, draw_order, share_of
from trainer.models import AutoencoderClassifier
from trainer.optim import accumulation, moving_average, reproducible

TINY = FitConfig(**{**CONFIG, "epochs": 2, "augment": "neutral", "dropout": 0.2, "head": (8,)})
PLAIN = replace(TINY, augment="none", dropout=0.0, batch_size=16)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data = make_data(
        tmp_path_factory.mktemp("data"), {("real", "a"): 20, ("fake", "b"): 14, ("fake", "c"): 6}
    )
    return split_samples(load_samples(data), val_fraction=0.25, seed=0)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = checkpoint.load(path)["model"]
    return weights


def _without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


@pytest.mark.parametrize("settings", [{}, {"class_balance_loss": True, "classification": "focal"}])
def test_accumulated_batches_step_as_one_large_batch(
    splits: Splits, tmp_path: Path, settings: dict[str, Any]
):
    """Also at the end of an epoch, where the batches of a step are not of one size."""
    config = replace(PLAIN, **settings)
    assert len(splits.train) % 16 not in (0, 1, 8, 9)
    one: list[EpochReport] = []
    two: list[EpochReport] = []
    fit(config, splits, tmp_path / "one", on_epoch=one.append)
    halves = replace(config, batch_size=8, accumulate=2)
    fit(halves, splits, tmp_path / "two", on_epoch=two.append)
    expected, found = (_weights(tmp_path / run / checkpoint.LAST) for run in ("one", "two"))
    # Adam divides a gradient by its own size: of one that is next to nothing a processor's
    # roundings decide the step. So a few weights in a thousand may differ, by less than a step.
    apart = torch.cat([(found[name] - expected[name]).abs().float().ravel() for name in expected])
    assert apart.sort().values[int(0.998 * len(apart))] < 1e-5
    assert apart.max() < config.learning_rate
    assert [r.loss for r in two] == pytest.approx([r.loss for r in one], rel=1e-5)


def test_the_plan_of_an_epoch_counts_every_picture_once():
    assert accumulation([8, 8, 8, 6], 1) == [(1.0, True)] * 4
    assert accumulation([8, 8, 6], 2) == [(0.5, False), (0.5, True), (1.0, True)]
    assert accumulation([8, 4], 3) == [(8 / 12, False), (4 / 12, True)]


def test_the_average_is_what_its_formula_says_and_leaves_the_model_alone():
    model = AutoencoderClassifier(TINY)
    ema = moving_average(model, 0.5)
    assert ema is not None
    weight = model.classifier.layers[-1].weight
    values = [1.0, 3.0, 11.0]
    for value in values:
        with torch.no_grad():
            weight.fill_(value)
        ema.update_parameters(model)
    # The first is copied; then the decay is 2/11, and after that 3/12.
    after_two = 2 / 11 * 1.0 + 9 / 11 * 3.0
    expected = 0.25 * after_two + 0.75 * 11.0
    averaged = ema.module.classifier.layers[-1].weight
    torch.testing.assert_close(averaged, torch.full_like(averaged, expected))
    assert float(weight.detach().mean()) == 11.0
    assert moving_average(model, 0.0) is None


def test_the_averaged_weights_are_judged_and_kept(splits: Splits, tmp_path: Path):
    fit(replace(PLAIN, ema=0.9, epochs=1), splits, tmp_path / "run")
    best = _weights(tmp_path / "run" / checkpoint.BEST)
    last = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    assert any(not torch.equal(best[name], last["model"][name]) for name in best)
    for name, tensor in best.items():
        assert torch.equal(tensor, last["ema"][f"module.{name}"])
    # The steps themselves are those of a fit without an average.
    fit(replace(PLAIN, epochs=1), splits, tmp_path / "without")
    for name, tensor in _weights(tmp_path / "without" / checkpoint.LAST).items():
        assert torch.equal(tensor, last["model"][name])


class _Killed(Exception):  # noqa: N818 - stands for a signal
    pass


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9},
        {"accumulate": 3},
        {"ema": 0.8, "accumulate": 2, "real_per_fake": 3.0, "class_balance_loss": True},
    ],
)
def test_a_fit_killed_between_two_steps_ends_as_if_it_had_not_been(
    splits: Splits, tmp_path: Path, settings: dict[str, Any]
):
    config = replace(TINY, **settings)
    whole = fit(config, splits, tmp_path / "whole")
    batches = 0

    def on_batch(done: int, total: int) -> None:
        nonlocal batches
        batches += 1
        if batches == total + 1:  # in the second epoch, within a step
            raise _Killed

    with pytest.raises(_Killed):
        fit(config, splits, tmp_path / "killed", on_batch=on_batch)
    resumed = fit(config, splits, tmp_path / "killed", resume=True)
    assert _without_seconds(resumed) == _without_seconds(whole)
    for name in (checkpoint.BEST, checkpoint.LAST):
        expected, found = (_weights(tmp_path / run / name) for run in ("whole", "killed"))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_resuming_with_another_average_is_refused(splits: Splits, tmp_path: Path):
    fit(replace(PLAIN, epochs=1), splits, tmp_path / "run")
    with pytest.raises(UsageError, match="ema"):
        fit(replace(PLAIN, ema=0.9), splits, tmp_path / "run", resume=True)


@pytest.mark.parametrize("size", [8, 12, 16])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_share_the_batches_of_one(splits: Splits, size: int, count: int):
    order = draw_order(splits.train, replace(PLAIN, batch_size=size), 0)
    own = [share_of(order, size, rank, count) for rank in range(count)]
    sizes = batch_sizes(len(splits.train), size, count)
    assert all(len(part) == sum(sizes) for part in own)
    at = 0
    for number, each in enumerate(sizes):
        together = {i for part in own for i in part[at : at + each]}
        assert together <= set(order[number * size : (number + 1) * size])
        at += each
    drawn = [i for part in own for i in part]
    assert len(drawn) == len(set(drawn)) > len(order) - 2 * count


def test_bfloat16_fits_on_the_cpu(splits: Splits, tmp_path: Path):
    reports: list[EpochReport] = []
    config = replace(PLAIN, precision="bfloat16", epochs=6, learning_rate=2e-3, ema=0.5)
    fit(config, splits, tmp_path / "run", on_epoch=reports.append)
    assert reports[-1].classification_loss < reports[0].classification_loss
    weights = _weights(tmp_path / "run" / checkpoint.BEST)
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float32}
    full: list[EpochReport] = []
    fit(replace(config, precision="float32"), splits, tmp_path / "full", on_epoch=full.append)
    assert reports[0].loss == pytest.approx(full[0].loss, rel=0.02)


def test_deterministic_algorithms_are_asked_for_and_the_flags_put_back(
    splits: Splits, tmp_path: Path
):
    config = replace(TINY, deterministic=True, epochs=1)
    with reproducible(config):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
    assert not torch.are_deterministic_algorithms_enabled()
    one = fit(config, splits, tmp_path / "one")
    two = fit(config, splits, tmp_path / "two")
    assert _without_seconds(one) == _without_seconds(two)
    assert not torch.are_deterministic_algorithms_enabled()
    assert np.isfinite(one["temperature"])
