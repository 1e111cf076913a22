"""Scores of a set of pictures, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from trainer.batches import Batch
from trainer.models import AutoencoderClassifier

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class Scores:
    """`logits` float64 [N] (mean over views) and `labels` int64 [N] (1: fake), in data order."""

    logits: Array
    labels: Labels
    reconstruction_error: float  # mean absolute error of RGB in [0, 1]; nan without decoder
    experts: Labels | None = None  # int64 [N], who judged the middle view, where there are several


@torch.inference_mode()
def score_encoded(model: AutoencoderClassifier, batches: Iterable[Batch]) -> Scores:
    """Run what follows the encoder over batches, without learning."""
    model.eval()
    logits, labels, experts, error, count = [], [], [], 0.0, 0
    for batch in batches:
        output = model.from_encoded(batch.encoded)
        logits.append(output.logit.double().view(len(batch.label), -1).mean(1).cpu().numpy())
        labels.append(batch.label.cpu().numpy())
        if output.expert is not None:
            views = output.expert.view(len(batch.label), -1)
            experts.append(views[:, views.shape[1] // 2].cpu().numpy())
        if output.reconstruction is not None:
            difference = (output.reconstruction - batch.target).abs().mean()
            error += float(difference) * len(batch.label)
            count += len(batch.label)
    return Scores(
        np.concatenate(logits),
        np.concatenate(labels).astype(np.int64),
        error / count if count else float("nan"),
        np.concatenate(experts).astype(np.int64) if experts else None,
    )


@torch.inference_mode()
def score_batches(
    model: AutoencoderClassifier,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    device: torch.device,
) -> Scores:
    """Run the whole model over batches of [N, V, 3, S, S], without learning."""
    model.eval()

    def encoded() -> Iterator[Batch]:
        for pixels, label, _ in batches:
            flat = pixels.to(device, non_blocking=True).flatten(0, 1)  # [N * V, 3, S, S]
            yield Batch(model.encoder(flat), model.target(flat), label)

    return score_encoded(model, encoded())


def figures(p: Array, labels: Labels, threshold: float) -> dict[str, Any]:
    """Accuracy, balanced accuracy, precision, recall, specificity, F1, AUC, AP, ECE and Brier.

    `p` is P(fake), [N]. Figures that need both classes are None where one is missing.
    """
    predicted = p >= threshold
    fake = labels == 1
    tp, fp = int((predicted & fake).sum()), int((predicted & ~fake).sum())
    fn, tn = int((~predicted & fake).sum()), int((~predicted & ~fake).sum())
    recall = _ratio(tp, tp + fn)
    specificity = _ratio(tn, tn + fp)
    precision = _ratio(tp, tp + fp)
    both = 0 < fake.sum() < len(labels)
    return {
        "count": len(labels),
        "threshold": float(threshold),
        "accuracy": _ratio(tp + tn, len(labels)),
        "balanced_accuracy": (
            (recall + specificity) / 2 if recall is not None and specificity is not None else None
        ),
        "precision": precision,
        "recall": recall,
        "specificity": specificity,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "auc": float(roc_auc_score(labels, p)) if both else None,
        "ap": float(average_precision_score(labels, p)) if both else None,
        "ece": expected_calibration_error(p, labels),
        "brier": float(np.mean((p - labels) ** 2)),
        "confusion": {"tp": tp, "fp": fp, "fn": fn, "tn": tn},
    }


def figures_at_prior(p: Array, labels: Labels, threshold: float, prior: float) -> dict[str, Any]:
    """What to expect where a share `prior` of the pictures is fake, in 0..1: accuracy,
    precision, F1, AP, ECE and Brier.

    `p` is P(fake), [N]; both classes are present. Recall, specificity and AUC do not move
    with the share. Precision is None where nothing is called fake.
    """
    fake = labels == 1
    weights = np.where(fake, prior / fake.sum(), (1 - prior) / (~fake).sum())
    called = p >= threshold
    tp, fp = float(weights[called & fake].sum()), float(weights[called & ~fake].sum())
    return {
        "prior": prior,
        "accuracy": tp + 1 - prior - fp,
        "precision": tp / (tp + fp) if called.any() else None,
        "f1": 2 * tp / (tp + fp + prior),
        "ap": float(average_precision_score(labels, p, sample_weight=weights)),
        "ece": expected_calibration_error(p, labels, weights=weights),
        "brier": float(np.sum(weights * (p - labels) ** 2)),
        "mean_p_fake": float(np.sum(weights * p)),
    }


def expected_calibration_error(
    p: Array, labels: Labels, bins: int = CALIBRATION_BINS, weights: Array | None = None
) -> float:
    """Mean gap between P(fake) and the share of fakes over equal-width bins (Naeini, 2015).

    `weights` [N] count the pictures; None: all alike.
    """
    counted = np.ones(len(p)) if weights is None else weights
    index = np.minimum((p * bins).astype(int), bins - 1)
    gap = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            gap += abs(float(np.sum(counted[inside] * (p[inside] - labels[inside]))))
    return gap / float(counted.sum())


def source_figures(
    p: Array, labels: Labels, sources: Sequence[str], threshold: float
) -> list[dict[str, Any]]:
    """Accuracy of each source with a 95 % interval: real sources first, each class by name.

    A source has one class, so this is the recall of a generator or the specificity of a real
    source. `sources` names the source of each picture, [N]; a name that both classes use
    stands for two sources. `mean_p_fake` is the mean of P(fake) over the source.
    """
    correct = (p >= threshold) == (labels == 1)
    members: dict[tuple[int, str], list[int]] = {}
    for index, source in enumerate(sources):
        members.setdefault((int(labels[index]), source), []).append(index)
    rows = []
    for (label, source), indices in sorted(members.items()):
        right, count = int(correct[indices].sum()), len(indices)
        low, high = wilson_interval(right, count)
        rows.append(
            {
                "source": source,
                "label": ("real", "fake")[label],
                "count": count,
                "correct": right,
                "accuracy": right / count,
                "low": low,
                "high": high,
                "mean_p_fake": float(p[indices].mean()),
            }
        )
    return rows


def wilson_interval(part: int, whole: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a share (Wilson, 1927); `z` 1.96 is 95 %. (0, 1) for nothing."""
    if not whole:
        return 0.0, 1.0
    share, square = part / whole, z * z / whole
    centre = (share + square / 2) / (1 + square)
    half = (share * (1 - share) * square + square * square / 4) ** 0.5 / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
