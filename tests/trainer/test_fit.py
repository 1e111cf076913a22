from __future__ import annotations

import csv
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer import checkpoint
from trainer import encoded as encoded_module
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.encoded import EncodedPictures
from trainer.fit import EpochReport, fit
from trainer.loader import Pictures
from trainer.models import AutoencoderClassifier

TINY = FitConfig(**{**CONFIG, "epochs": 3, "augment": "neutral", "dropout": 0.2, "head": (8,)})


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data = make_data(
        tmp_path_factory.mktemp("data"), {("real", "a"): 20, ("fake", "b"): 14, ("fake", "c"): 7}
    )
    return split_samples(load_samples(data), val_fraction=0.25, seed=0)


class _Killed(Exception):  # noqa: N818 - stands for a signal
    pass


def _killed_after(epoch: int) -> Any:
    def on_epoch(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise _Killed

    return on_epoch


def _same_weights(one: Path, other: Path) -> None:
    a, b = checkpoint.load(one)["model"], checkpoint.load(other)["model"]
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def _comparable(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


def test_a_fit_leaves_a_whole_run(splits: Splits, tmp_path: Path):
    reports: list[EpochReport] = []
    result = fit(TINY, splits, tmp_path / "run", on_epoch=reports.append)
    assert [r.epoch for r in reports] == [1, 2, 3]
    assert set(result["thresholds"]) == {"youden", "best_f1"}
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    log = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    rows = list(csv.DictReader((tmp_path / "run" / "splits.csv").open()))
    assert len(rows) == 41
    assert result["pictures"] == {
        "train": len(splits.train), "val": len(splits.val), "holdout": 0
    }  # fmt: skip
    model, config, _ = checkpoint.load_run(tmp_path / "run")
    assert config == TINY
    assert not model.training


def test_the_losses_fall(splits: Splits, tmp_path: Path):
    reports: list[EpochReport] = []
    config = replace(TINY, epochs=8, augment="none", dropout=0.0, learning_rate=2e-3)
    fit(config, splits, tmp_path / "run", on_epoch=reports.append)
    # The pictures are noise on a coarse grid: little of them fits through the bottleneck.
    assert reports[-1].reconstruction_loss < 0.98 * reports[0].reconstruction_loss
    assert reports[-1].classification_loss < 0.9 * reports[0].classification_loss


def test_a_fit_killed_between_epochs_ends_as_if_it_had_not_been(splits: Splits, tmp_path: Path):
    whole = fit(TINY, splits, tmp_path / "whole")
    with pytest.raises(_Killed):
        fit(TINY, splits, tmp_path / "killed", on_epoch=_killed_after(2))
    resumed = fit(TINY, splits, tmp_path / "killed", resume=True)
    assert _comparable(resumed) == _comparable(whole)
    for name in (checkpoint.BEST, checkpoint.LAST):
        _same_weights(tmp_path / "whole" / name, tmp_path / "killed" / name)
    without_seconds = [
        [row[:9] for row in csv.reader((tmp_path / run / "log.csv").open())]
        for run in ("whole", "killed")
    ]
    assert without_seconds[0] == without_seconds[1]


def test_a_fit_killed_in_mid_epoch_ends_as_if_it_had_not_been(splits: Splits, tmp_path: Path):
    whole = fit(TINY, splits, tmp_path / "whole")
    batches = 0

    def on_batch(done: int, total: int) -> None:
        nonlocal batches
        batches += 1
        if batches == total + 2:  # in the second epoch
            raise _Killed

    with pytest.raises(_Killed):
        fit(TINY, splits, tmp_path / "killed", on_batch=on_batch)
    resumed = fit(TINY, splits, tmp_path / "killed", resume=True)
    assert _comparable(resumed) == _comparable(whole)
    _same_weights(tmp_path / "whole" / checkpoint.BEST, tmp_path / "killed" / checkpoint.BEST)


def test_workers_do_not_change_what_is_learnt(splits: Splits, tmp_path: Path):
    one = fit(replace(TINY, epochs=1, workers=0), splits, tmp_path / "none")
    two = fit(replace(TINY, epochs=1, workers=2), splits, tmp_path / "two")
    assert _comparable(one) == _comparable(two)


def test_a_run_is_not_overwritten(splits: Splits, tmp_path: Path):
    fit(replace(TINY, epochs=1), splits, tmp_path / "run")
    with pytest.raises(UsageError, match="--resume"):
        fit(TINY, splits, tmp_path / "run")


def test_resuming_with_other_settings_or_data_is_refused(splits: Splits, tmp_path: Path):
    with pytest.raises(_Killed):
        fit(TINY, splits, tmp_path / "run", on_epoch=_killed_after(1))
    with pytest.raises(UsageError, match="learning_rate"):
        fit(replace(TINY, learning_rate=1e-2), splits, tmp_path / "run", resume=True)
    fewer = replace(splits, train=splits.train[1:])
    with pytest.raises(UsageError, match="data has changed"):
        fit(TINY, fewer, tmp_path / "run", resume=True)


def test_patience_ends_a_fit_that_no_longer_improves(splits: Splits, tmp_path: Path):
    reports: list[EpochReport] = []
    frozen = replace(TINY, epochs=12, patience=2, learning_rate=1e-9, augment="none", dropout=0.0)
    fit(frozen, splits, tmp_path / "run", on_epoch=reports.append)
    assert len(reports) == 3  # the first is the best, two more were waited for


def test_frozen_stages_do_not_move_and_unfrozen_ones_do(splits: Splits, tmp_path: Path):
    pytest.importorskip("timm")
    config = replace(
        TINY, encoder="efficientnet-lite0", unfrozen=1, decoder="layered", epochs=1, size=32,
        batch_size=16,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    before = AutoencoderClassifier(config).encoder.state_dict()
    fit(config, splits, tmp_path / "run")
    after = checkpoint.load_run(tmp_path / "run")[0].encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    last = f"net.{len(checkpoint.load_run(tmp_path / 'run')[0].encoder.stages) - 1}."
    assert moved, "the unfrozen stage learns"
    assert all(name.startswith(last) for name in moved), "batch statistics stay frozen, too"


def _cached(splits: Splits, root: Path) -> tuple[FitConfig, EncodedPictures]:
    pytest.importorskip("timm")
    config = replace(
        TINY, encoder="efficientnet-lite0", unfrozen=0, decoder="layered", size=32,
        cached_draws=2, batch_size=16,
    )  # fmt: skip
    torch.manual_seed(config.seed)  # as fit() does, for random weights are part of the key
    model = AutoencoderClassifier(config)
    samples = sorted((*splits.train, *splits.val), key=lambda s: s.key)
    return config, EncodedPictures(root, model, samples, config, torch.device("cpu"))


def test_the_cache_holds_what_the_encoder_says(splits: Splits, tmp_path: Path):
    config, cache = _cached(splits, tmp_path)
    rows = cache.rows(splits.train)
    cache.fill("lottery-1", rows, maps=True)
    encoded, target = cache.read("lottery-1", rows, maps=5)
    pictures = Pictures(splits.train, cache.model.spec, augmentation="neutral", seed=config.seed)
    pictures.epoch = 1
    pixels = torch.stack([pictures[i][0][0] for i in range(len(splits.train))])
    with torch.inference_mode():
        expected = cache.model.eval().encoder(pixels)
        wanted = cache.model.target(pixels[:5])
    torch.testing.assert_close(encoded.features, expected.features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoded.deepest, expected.deepest[:5], rtol=1e-2, atol=1e-2)
    assert float((target - wanted).abs().max()) <= 0.5 / 255 + 1e-6


def test_an_interrupted_cache_goes_on_where_it_was(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, cache = _cached(splits, tmp_path)
    rows = cache.rows(splits.train)
    cache.fill("clean", rows[:6], maps=False)
    first = cache.read("clean", rows[:6], maps=0)[0].features.numpy()
    encoded: list[int] = []
    original = EncodedPictures._encode

    def counting(self: EncodedPictures, encoder: Any, pixels: Any, rows: Any, arrays: Any) -> None:
        encoded.extend(rows.tolist())
        original(self, encoder, pixels, rows, arrays)

    monkeypatch.setattr(EncodedPictures, "_encode", counting)
    cache.fill("clean", rows, maps=False)
    assert sorted(encoded) == sorted(set(rows.tolist()) - set(rows[:6].tolist()))
    np.testing.assert_array_equal(first, cache.read("clean", rows[:6], maps=0)[0].features)


def _fill_in_process(cache: EncodedPictures, rows: Any, gate: Any, count: Any) -> None:
    original = EncodedPictures._encode

    def counting(self: EncodedPictures, encoder: Any, pixels: Any, rows: Any, arrays: Any) -> None:
        with count.get_lock():
            count.value += len(rows)
        original(self, encoder, pixels, rows, arrays)

    EncodedPictures._encode = counting  # type: ignore[method-assign]
    torch.set_num_threads(1)
    gate.wait(60)
    cache.fill("clean", rows, maps=True)


def test_two_fits_that_share_a_cache_encode_each_picture_once(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encoded_module, "_CHUNK", 4)
    _, alone = _cached(splits, tmp_path / "alone")
    _, cache = _cached(splits, tmp_path / "shared")
    rows = cache.rows(splits.train)
    context = multiprocessing.get_context("fork")
    gate, count = context.Barrier(2), context.Value("i", 0)
    pair = [context.Process(target=_fill_in_process, args=(cache, rows, gate, count)) for _ in "ab"]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
        assert process.exitcode == 0
    assert count.value == len(rows)
    alone.fill("clean", rows, maps=True)
    for one, other in zip(
        alone.read("clean", rows, maps=len(rows)), cache.read("clean", rows, maps=len(rows)),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)


def test_another_encoder_or_preprocessing_gets_another_cache(splits: Splits, tmp_path: Path):
    config, cache = _cached(splits, tmp_path)
    other = replace(config, size=64)
    samples, device = cache.samples, torch.device("cpu")
    elsewhere = EncodedPictures(tmp_path, AutoencoderClassifier(other), samples, other, device)
    assert elsewhere.folder != cache.folder
    with torch.no_grad():
        next(cache.model.encoder.parameters()).add_(1)
    changed = EncodedPictures(tmp_path, cache.model, samples, config, device)
    assert changed.folder != cache.folder


def test_a_cached_fit_can_be_resumed(splits: Splits, tmp_path: Path):
    config, cache = _cached(splits, tmp_path)
    whole = fit(config, splits, tmp_path / "whole", cache=cache)
    with pytest.raises(_Killed):
        fit(config, splits, tmp_path / "killed", cache=cache, on_epoch=_killed_after(1))
    resumed = fit(config, splits, tmp_path / "killed", cache=cache, resume=True)
    assert _comparable(resumed) == _comparable(whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_mixed_precision_fits_on_cuda(splits: Splits, tmp_path: Path):
    result = fit(replace(TINY, precision="float16"), splits, tmp_path / "run", device="cuda")
    assert result["device"] == "cuda"
