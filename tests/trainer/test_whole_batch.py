"""Logistic regression by L-BFGS: the head that scikit-learn would fit, within a run like any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from trainer import checkpoint
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.encoded import EncodedPictures
from trainer.fit import EpochReport, fit
from trainer.loader import sample_weights
from trainer.models import AutoencoderClassifier, Head
from trainer.whole_batch import WholeBatch

pytest.importorskip("timm")

TINY = FitConfig(
    **{
        **CONFIG, "encoder": "efficientnet-lite0", "unfrozen": 0, "decoder": "none",
        "reconstruction": "none", "augment": "neutral", "cached_draws": 2, "head_norm": True,
        "balance": "source", "optimizer": "lbfgs", "weight_decay": 0.05, "epochs": 2,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data = make_data(
        tmp_path_factory.mktemp("data"), {("real", "a"): 20, ("fake", "b"): 14, ("fake", "c"): 7}
    )
    return split_samples(load_samples(data), val_fraction=0.25, seed=0)


def test_the_head_is_the_one_that_scikit_learn_fits(splits: Splits, tmp_path: Path) -> None:
    fit(TINY, splits, tmp_path / "run", cache=tmp_path / "cache", device="cpu")

    model, _, _ = checkpoint.load_run(tmp_path / "run")
    samples = sorted((*splits.train, *splits.val), key=lambda s: s.key)
    cache = EncodedPictures(tmp_path / "cache", model, samples, TINY, torch.device("cpu"))
    rows = cache.rows(splits.train)
    x = torch.cat([cache.read(f"lottery-{d}", rows, maps=0)[0].features for d in (0, 1)]).numpy()
    standard = (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + 1e-5)
    labels = [s.label for s in splits.train] * 2
    weight = np.tile(sample_weights(splits.train, "source"), 2) / 2
    # Its objective is the sum of the losses plus |w|^2 / 2C.
    theirs = LogisticRegression(C=1 / (2 * TINY.weight_decay), tol=1e-8, max_iter=1000)
    theirs.fit(standard, labels, sample_weight=weight)
    with torch.inference_mode():
        ours = model.eval().classifier(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, theirs.decision_function(standard), rtol=5e-3, atol=5e-3)


class _Killed(Exception):  # noqa: N818 - stands for a signal
    pass


def test_a_run_that_was_killed_goes_on_to_the_same_weights(splits: Splits, tmp_path: Path) -> None:
    def kill(report: EpochReport) -> None:
        raise _Killed

    cache = tmp_path / "cache"
    fit(TINY, splits, tmp_path / "whole", cache=cache, device="cpu")
    with pytest.raises(_Killed):
        fit(TINY, splits, tmp_path / "run", cache=cache, device="cpu", on_epoch=kill)
    fit(TINY, splits, tmp_path / "run", cache=cache, device="cpu", resume=True)

    a, b = (checkpoint.load(tmp_path / run / checkpoint.LAST)["model"] for run in ("whole", "run"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_that_an_epoch_states_falls_with_the_next(splits: Splits, tmp_path: Path) -> None:
    reports: list[EpochReport] = []
    config = replace(TINY, weight_decay=1e-4)
    fit(config, splits, tmp_path / "run", device="cpu", on_epoch=reports.append)

    assert 0 < reports[1].classification_loss <= reports[0].classification_loss < np.log(2)


@pytest.mark.parametrize(
    "setting",
    [{"head": (8,)}, {"cached_draws": 0}, {"ema": 0.9}, {"experts": 2}, {"c_off": 0.5}],
    ids=lambda setting: next(iter(setting)),
)
def test_what_it_cannot_fit_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="'lbfgs' fits one layer"):
        replace(TINY, **setting)  # type: ignore[arg-type]


def test_several_processes_are_refused(splits: Splits) -> None:
    class Two:
        count = 2

    model = AutoencoderClassifier(TINY)
    assert isinstance(model.classifier, Head)
    with pytest.raises(UsageError, match="one process"):
        WholeBatch(model, None, TINY, None, Two())  # type: ignore[arg-type]
