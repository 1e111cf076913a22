"""Judge runs on pictures: thresholds and temperature as the fit left them, nothing is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import classification_report
from torch import Tensor

from scanner.errors import UsageError
from scanner.verdict import probabilities
from trainer.checkpoint import load_run
from trainer.config import FitConfig
from trainer.data import FAKE, LABELS, Sample
from trainer.decoded import DecodedPictures
from trainer.loader import Pictures, eval_batches
from trainer.models import AutoencoderClassifier
from trainer.processes import ALONE
from trainer.scores import Array, Labels, Scores, figures, score_batches, source_figures
from trainer.selection import Seen, Selection, read_seen
from trainer.tiers import Tier

RGB = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Run:
    """A finished fit. `thresholds` apply to P(fake) after `temperature` has divided the logit."""

    name: str
    path: Path
    model: AutoencoderClassifier
    config: FitConfig
    seen: Seen
    epoch: int
    temperature: float
    thresholds: Mapping[str, float]  # "half", "best_f1", "youden"
    operating_point: str  # the one of them that a scan would use


@dataclass(frozen=True, slots=True)
class Error:
    """A picture on the wrong side of the operating point.

    `confidence` is the probability of the wrong verdict. `original` and `reconstruction` are
    RGB as the model saw and remade it, uint8 [R, R, 3]; without a decoder there is no latter.
    """

    sample: Sample
    p_fake: float
    confidence: float
    original: RGB
    reconstruction: RGB | None

    @property
    def actual(self) -> str:
        """The class it is of."""
        return LABELS[self.sample.label]

    @property
    def predicted(self) -> str:
        """The class it was taken for."""
        return LABELS[1 - self.sample.label]


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


def open_runs(paths: Sequence[Path]) -> list[Run]:
    """Load runs; folders of the same name are told apart by a number. Raises UsageError."""
    runs: list[Run] = []
    for path in paths:
        base = path.resolve().name or "run"
        taken = {run.name for run in runs}
        numbered = (f"{base}-{i}" for i in range(2, len(paths) + 2))
        name = base if base not in taken else next(n for n in numbered if n not in taken)
        runs.append(_open_run(path, name))
    return runs


def _open_run(path: Path, name: str) -> Run:
    model, config, result = load_run(path)
    try:
        thresholds = {k: float(result["thresholds"][k]) for k in ("best_f1", "youden")}
        run = Run(
            name=name,
            path=path,
            model=model,
            config=config,
            seen=read_seen(path),
            epoch=int(result["epoch"]),
            temperature=float(result["temperature"]),
            thresholds={"half": 0.5, **thresholds},
            operating_point=str(result.get("operating_point", "youden")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path / 'result.json'}: no usable {error}; fit the run anew or restore the file"
        ) from None
    if run.operating_point not in run.thresholds or not run.temperature > 0:
        raise UsageError(f"{path / 'result.json'}: unknown operating point, or no temperature")
    return run


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
) -> Evaluation:
    """Score each run on its pictures under each tier.

    `grey` replaces the pictures by their luma, after the tier's JPEG: what a colour model
    makes of them. `workers` and `batch_size` default to the run's own. Every picture must be
    readable (`trainer.data.check_readable`); `decoded` saves decoding what it holds.
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
        results.append(RunResult(run, selection, judged))
    return Evaluation(data, grey, tuple(results), tuple(said))


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
    scores: Scores = score_batches(model, counted, device)
    p, labels = probabilities(scores.logits, run.temperature), scores.labels
    sources = [sample.source for sample in samples]
    threshold = run.thresholds[run.operating_point]
    worst = most_confident_errors(p, labels, threshold, max_errors)
    shown = pictures([samples[i] for i in worst])
    sure = confidence(p, threshold)
    views = _views(model, shown, replace(config, workers=0), device)
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


def judged_pictures(
    run: Run,
    samples: Sequence[Sample],
    tier: Tier,
    *,
    grey: bool = False,
    decoded: DecodedPictures | None = None,
) -> Pictures:
    """`samples` as `run` is shown them under `tier`."""
    spec = replace(run.model.spec, grey=grey or run.model.spec.grey)
    return Pictures(samples, spec, change=tier, decode_side=tier.longest, decoded=decoded)


def most_confident_errors(p: Array, labels: Labels, threshold: float, limit: int) -> list[int]:
    """At most `limit` indices of pictures on the wrong side of `threshold`, surest first.

    Half the places go to each kind of error while it has that many: a threshold far from the
    middle makes one kind look surer than the other, and would fill the sheet with it.
    """
    sure = confidence(p, threshold)
    called_fake = p >= threshold
    wrong = np.flatnonzero(called_fake != (labels == FAKE))
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    alarms, misses = wrong[called_fake[wrong]], wrong[~called_fake[wrong]]
    half = limit // 2
    alarms_kept = min(len(alarms), max(limit - half, limit - len(misses)))
    kept = {*alarms[:alarms_kept], *misses[: limit - alarms_kept]}
    return [int(i) for i in wrong if i in kept]


def confidence(p: Array, threshold: float) -> Array:
    """Probability of the verdict that `threshold` gives, [N]: P(fake) of those called fake.

    Below one half where the threshold itself lies on that side of the middle.
    """
    result: Array = np.where(p >= threshold, p, 1 - p)
    return result


def _counted(
    batches: Iterable[tuple[Tensor, Tensor, Tensor]], what: str, total: int, report: Progress
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for done, batch in enumerate(batches, start=1):
        yield batch
        report(what, done, total)


@torch.inference_mode()
def _views(
    model: AutoencoderClassifier, pictures: Pictures, config: FitConfig, device: torch.device
) -> list[tuple[RGB, RGB | None]]:
    """(original, reconstruction) of each picture's middle view, at the reconstruction's size."""
    views: list[tuple[RGB, RGB | None]] = []
    for pixels, _, _ in eval_batches(pictures, config) if len(pictures) else ():
        x = pixels[:, pixels.shape[1] // 2].to(device)  # [N, 3, S, S]
        remade = model(x).reconstruction
        originals = _bytes(model.target(x))
        if remade is None:
            views += [(original, None) for original in originals]
        else:
            views += zip(originals, _bytes(remade), strict=True)
    return views


def _bytes(rgb: Tensor) -> list[RGB]:
    """RGB in [0, 1], [N, 3, R, R] -> N arrays uint8 [R, R, 3]."""
    scaled = (rgb.float() * 255).round().clamp(0, 255).byte()
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())
