"""Stages that learn, behind frozen ones whose answers are kept on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer import benchmark as benchmark_module
from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.encoded import EncodedPictures
from trainer.fit import EpochReport, fit
from trainer.models import AutoencoderClassifier
from trainer.optim import build_optimizer, set_learning_rate

pytest.importorskip("timm")

TUNED = FitConfig(
    **{**CONFIG, "encoder": "efficientnet-lite0", "unfrozen": 2, "freeze_epochs": 2, "epochs": 4,
       "decoder": "none", "reconstruction": "none", "augment": "uncropped", "head": (4,),
       "cached_draws": 4, "freeze_norm": True, "cosine": True}
)  # fmt: skip
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data = make_data(tmp_path_factory.mktemp("data"), {("real", "a"): 20, ("fake", "b"): 20})
    return split_samples(load_samples(data), val_fraction=0.25, seed=0)


def _reports(config: FitConfig, splits: Splits, out: Path) -> list[EpochReport]:
    reports: list[EpochReport] = []
    fit(config, splits, out, on_epoch=reports.append)
    return reports


def _moved(out: Path, config: FitConfig) -> set[str]:
    """Names of the encoder's tensors that are not as they were before the fit."""
    torch.manual_seed(config.seed)  # as fit() does, for the weights are random
    before = AutoencoderClassifier(config).encoder.state_dict()
    after = checkpoint.load(out / checkpoint.LAST)["model"]
    return {name for name in before if not torch.equal(before[name], after[f"encoder.{name}"])}


def test_stages_that_learn_from_the_cache_learn_what_they_would_without(
    splits: Splits, tmp_path: Path
):
    from_cache = _reports(TUNED, splits, tmp_path / "cached")
    as_they_pass = _reports(replace(TUNED, cached_draws=0), splits, tmp_path / "online")
    for one, other in zip(from_cache, as_they_pass, strict=True):
        # The map that enters is kept in half precision.
        assert one.loss == pytest.approx(other.loss, rel=2e-3)
        assert one.learning_rate == other.learning_rate
    assert _moved(tmp_path / "cached", TUNED) == _moved(tmp_path / "online", TUNED)


def test_the_frozen_epochs_are_those_of_a_frozen_encoder(splits: Splits, tmp_path: Path):
    config = replace(TUNED, cosine=False)
    tuned = _reports(config, splits, tmp_path / "tuned")
    frozen = _reports(replace(config, unfrozen=0, freeze_epochs=0), splits, tmp_path / "frozen")
    assert [r.loss for r in tuned[:2]] == [r.loss for r in frozen[:2]]
    assert [r.loss for r in tuned[2:]] != [r.loss for r in frozen[2:]]
    assert _moved(tmp_path / "frozen", config) == set()


@pytest.mark.parametrize("kept", [True, False])
def test_frozen_batch_norm_keeps_its_statistics(splits: Splits, tmp_path: Path, kept: bool):
    config = replace(TUNED, freeze_norm=kept, epochs=3)
    fit(config, splits, tmp_path / "run")
    moved = _moved(tmp_path / "run", config)
    assert moved, "the stages that are not frozen learn"
    assert all(name.startswith(("net.6.", "net.7.")) for name in moved), "and no others"
    assert any(name.endswith(STATISTICS) for name in moved) is not kept


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_fit_killed_before_or_after_the_stages_join_ends_as_if_it_had_not_been(
    splits: Splits, tmp_path: Path, killed_after: int
):
    class Killed(Exception):  # noqa: N818 - stands for a signal
        pass

    def kill(report: EpochReport) -> None:
        if report.epoch == killed_after:
            raise Killed

    config = replace(TUNED, ema=0.9)
    whole = fit(config, splits, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(config, splits, tmp_path / "killed", on_epoch=kill)
    resumed = fit(config, splits, tmp_path / "killed", resume=True)
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    one, other = (checkpoint.load(tmp_path / run / checkpoint.LAST)["model"]
                  for run in ("whole", "killed"))  # fmt: skip
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_the_cache_says_of_a_tuned_model_is_what_the_model_says(
    splits: Splits, tmp_path: Path
):
    fit(TUNED, splits, tmp_path / "run")
    tuned = checkpoint.load_run(tmp_path / "run")[0]
    torch.manual_seed(TUNED.seed)
    untuned = AutoencoderClassifier(TUNED)
    samples = sorted(splits.val, key=lambda s: s.key)
    cache = EncodedPictures(tmp_path / "cache", untuned, samples, TUNED, torch.device("cpu"))
    pictures = cache._pictures("clean")
    pixels = torch.stack([pictures[i][0][0] for i in range(len(samples))])
    for model, asked in ((tuned, tuned), (untuned, None)):
        with torch.inference_mode():
            expected = model.eval().encoder(pixels).features
        found = cache.features("clean", samples, asked)
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    assert cache.features("clean", [], tuned).shape == (0, 1408)


def test_the_stages_rate_anneals_over_their_own_epochs() -> None:
    model = AutoencoderClassifier(TUNED)
    config = replace(TUNED, epochs=6, learning_rate=1e-3, encoder_learning_rate=1e-4)
    optimizer = build_optimizer(model, config)
    found = []
    for epoch in range(config.epochs):
        set_learning_rate(optimizer, config, epoch)
        found.append([group["lr"] for group in optimizer.param_groups])
    assert [rest for rest, _ in found] == pytest.approx(
        [1e-3, 9.33e-4, 7.5e-4, 5e-4, 2.5e-4, 6.7e-5], rel=1e-2
    )
    joined = [encoder for _, encoder in found[2:]]
    assert joined == pytest.approx([1e-4, 8.54e-5, 5e-5, 1.46e-5], rel=1e-2)


@pytest.mark.parametrize(
    "change",
    [{"unfrozen": 8}, {"unfrozen": -1}, {"encoder": "resnet18"}, {"views": 2}],
)
def test_where_nothing_is_frozen_nothing_can_be_kept(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cached_draws"):
        replace(TUNED, **change)


def test_a_benchmark_tunes_in_every_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {("real", "a"): 9, ("real", "b"): 8, ("fake", "c"): 8, ("fake", "d"): 8}
    data = make_data(tmp_path / "data", sources, split_of=("train", "train", "train", "test"))
    moved: list[bool] = []
    original = benchmark_module._logits

    def watched(fold: Any, encoded: EncodedPictures, *rest: Any) -> Any:
        own = encoded.model.encoder.state_dict()
        of_fold = fold.model.encoder.state_dict()
        moved.append(any(not torch.equal(own[name], of_fold[name]) for name in own))
        return original(fold, encoded, *rest)

    monkeypatch.setattr(benchmark_module, "_logits", watched)
    config = replace(TUNED, freeze_epochs=0, epochs=1, cached_draws=1, val_fraction=0.3)
    torch.manual_seed(0)
    found = benchmark_module.benchmark(
        config, load_samples(data), tmp_path / "out.json", merged={}, cache=tmp_path / "cache",
        device="cpu",
    )  # fmt: skip
    assert len(found["left_out"]) == 4 * 3
    assert moved
    assert all(moved)
