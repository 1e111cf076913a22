"""Judge runs on pictures: thresholds and temperature as the fit left them, nothing is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.metrics import classification_report
from torch import Tensor

from scanner.verdict import probabilities
from trainer.config import FitConfig
from trainer.data import LABELS, Sample
from trainer.decoded import DecodedPictures
from trainer.loader import Pictures, eval_batches
from trainer.mistakes import Error, confidence, most_confident_errors, seen_and_remade
from trainer.processes import ALONE
from trainer.runs import Run, judged_pictures
from trainer.scores import Array, Labels, Scores, figures, score_batches, source_figures
from trainer.selection import Selection
from trainer.shipped import Shipped
from trainer.tiers import Tier
from trainer.uncertainty import Uncertainty, uncertainty

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TierResult:
    """One run under one tier; arrays are [N] in the order of `samples`."""

    tier: Tier
    samples: tuple[Sample, ...]
    logits: Array
    p_fake: Array
    labels: Labels
    reconstruction_error: float | None  # mean absolute error of RGB in [0, 1]
    figures: Mapping[str, dict[str, Any]]  # by threshold
    sources: Mapping[str, list[dict[str, Any]]]  # by threshold
    report: str  # scikit-learn's classification report at the operating point
    errors: tuple[Error, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run under every tier that was asked for."""

    run: Run
    selection: Selection
    tiers: tuple[TierResult, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that the outputs say. `warnings` concern every run; each run has its own besides."""

    data: str
    grey: bool
    runs: tuple[RunResult, ...]
    warnings: tuple[str, ...]
    uncertainty: Uncertainty | None = None


def choose_device(name: str) -> torch.device:
    """ "auto", "cuda" or "cpu"; raises UsageError for CUDA where there is none."""
    return ALONE.device(None if name == "auto" else name)


def evaluate(
    runs: Sequence[tuple[Run, Selection]],
    tiers: Sequence[Tier],
    *,
    data: str,
    grey: bool = False,
    device: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    max_errors: int = 24,
    warnings: Sequence[str] = (),
    on_progress: Progress = lambda what, done, total: None,
    decoded: DecodedPictures | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Score each run on its pictures under each tier.

    `grey` replaces the pictures by their luma, after the tier's JPEG: what a colour model
    makes of them. `workers` and `batch_size` default to the run's own. Every picture must be
    readable (`trainer.data.check_readable`); `decoded` saves decoding what it holds.
    `bootstrap` draws by `seed` give 95 % intervals, and those of the differences between runs.
    """
    target = choose_device(device)
    said = list(warnings)
    if len({tuple(s.key for s in selection.samples) for _, selection in runs}) > 1:
        said.append("the runs are judged on different pictures: their rows do not compare")
    results = []
    for run, selection in runs:
        config = replace(
            run.config,
            workers=run.config.workers if workers is None else workers,
            batch_size=run.config.batch_size if batch_size is None else batch_size,
        )
        if grey and run.config.grey:
            said.append(f"{run.name}: sees pictures in grey anyway; --grey changes nothing")
        judged = tuple(
            _judge(
                run, selection.samples, tier, grey, config, target, max_errors, on_progress, decoded
            )
            for tier in tiers
        )
        if isinstance(run.model, Shipped) and run.model.note:
            said.append(f"{run.name}: {run.model.note}")
        results.append(RunResult(run, selection, judged))
    unsure = uncertainty(results, draws=bootstrap, seed=seed)
    return Evaluation(data, grey, tuple(results), tuple(said), unsure)


def _judge(
    run: Run,
    samples: tuple[Sample, ...],
    tier: Tier,
    grey: bool,
    config: FitConfig,
    device: torch.device,
    max_errors: int,
    on_progress: Progress,
    decoded: DecodedPictures | None,
) -> TierResult:
    def pictures(of: Sequence[Sample]) -> Pictures:
        return judged_pictures(run, of, tier, grey=grey, decoded=decoded)

    model = run.model.to(device)
    batches = eval_batches(pictures(samples), config, pin=device.type == "cuda")
    counted = _counted(batches, f"{run.name}, {tier.name}", len(batches), on_progress)
    scores: Scores = (
        model.scores(counted)
        if isinstance(model, Shipped)
        else score_batches(model, counted, device)
    )
    p, labels = probabilities(scores.logits, run.temperature), scores.labels
    sources = [sample.source for sample in samples]
    threshold = run.thresholds[run.operating_point]
    worst = most_confident_errors(p, labels, threshold, max_errors)
    shown = pictures([samples[i] for i in worst])
    sure = confidence(p, threshold)
    here = replace(config, workers=0)
    views = (
        model.views(eval_batches(shown, here) if len(shown) else ())
        if isinstance(model, Shipped)
        else seen_and_remade(model, shown, here, device)
    )
    return TierResult(
        tier=tier,
        samples=samples,
        logits=scores.logits,
        p_fake=p,
        labels=labels,
        reconstruction_error=(
            scores.reconstruction_error if np.isfinite(scores.reconstruction_error) else None
        ),
        figures={name: figures(p, labels, value) for name, value in run.thresholds.items()},
        sources={
            name: source_figures(p, labels, sources, value)
            for name, value in run.thresholds.items()
        },
        report=classification_report(
            labels, p >= threshold, labels=[0, 1], target_names=LABELS, digits=4, zero_division=0
        ),
        errors=tuple(
            Error(samples[i], float(p[i]), float(sure[i]), original, remade)
            for i, (original, remade) in zip(worst, views, strict=True)
        ),
    )


def _counted(
    batches: Iterable[tuple[Tensor, Tensor, Tensor]], what: str, total: int, report: Progress
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for done, batch in enumerate(batches, start=1):
        yield batch
        report(what, done, total)
