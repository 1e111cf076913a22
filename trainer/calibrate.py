"""Temperature and thresholds, fitted on validation scores alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve, roc_curve

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """`temperature` divides the logit; `thresholds` apply to the calibrated P(fake)."""

    temperature: float
    thresholds: dict[str, float]


def probabilities(logits: Array, temperature: float) -> Array:
    """Calibrated P(fake) of logits, any shape."""
    result: Array = 1.0 / (1.0 + np.exp(-np.clip(logits / temperature, -60.0, 60.0)))
    return result


def calibrate(logits: Array, labels: Labels) -> Calibration:
    """Fit temperature (Guo et al., 2017), Youden's J (Youden, 1950) and best F1.

    `logits` and `labels` (1: fake) are [N] of the validation set, both classes present.
    """
    temperature = fit_temperature(logits, labels)
    p = probabilities(logits, temperature)
    return Calibration(
        temperature,
        {"youden": youden_threshold(p, labels), "best_f1": best_f1_threshold(p, labels)},
    )


def fit_temperature(logits: Array, labels: Labels) -> float:
    """The temperature in 0.05..20 of least negative log-likelihood; classes count alike."""
    weights = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())
    signs = np.where(labels == 1, 1.0, -1.0)

    def loss(log_t: float) -> float:
        return float(np.sum(weights * np.logaddexp(0.0, -signs * logits / np.exp(log_t))))

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def youden_threshold(p: Array, labels: Labels) -> float:
    """The threshold that maximises sensitivity + specificity - 1."""
    fpr, tpr, thresholds = roc_curve(labels, p, drop_intermediate=False)
    return _between(p, float(thresholds[int(np.argmax(tpr - fpr))]))


def best_f1_threshold(p: Array, labels: Labels) -> float:
    """The threshold that maximises F1 of the fake class."""
    precision, recall, thresholds = precision_recall_curve(labels, p)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return _between(p, float(thresholds[int(np.argmax(f1[:-1]))]))


def _between(p: Array, threshold: float) -> float:
    """Halfway to the next lower score: the verdicts stay, and rounding cannot flip them."""
    lower = p[p < threshold]
    middle = (threshold + float(lower.max())) / 2 if len(lower) else threshold
    return float(np.clip(middle, 0.0, 1.0))
