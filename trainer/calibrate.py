"""Temperature and thresholds, fitted on validation scores alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import ndtr
from sklearn.metrics import precision_recall_curve, roc_auc_score

from scanner.verdict import probabilities
from trainer.config import FitConfig

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
TEMPERATURES = (0.05, 20.0)  # the least and the highest that is tried


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(fake) = sigmoid((logit + shift) / temperature); `thresholds` apply to it.

    `warnings`: why the scores should not be relied on.
    """

    temperature: float
    thresholds: dict[str, float]
    shift: float = 0.0
    warnings: tuple[str, ...] = ()


def even_cut(config: FitConfig) -> float:
    """Where to cut the uncalibrated P(fake) so that both classes count alike.

    0.5, but for losses that saw the classes as rare as `real_per_fake` has them: its prior.
    """
    return 0.5 if config.prior is None or config.class_balance_loss else config.prior


def calibrate(logits: Array, labels: Labels, prior: float | None = None) -> Calibration:
    """Fit temperature (Guo et al., 2017), Youden's J (Youden, 1950) and best F1.

    `logits` and `labels` (1: fake) are [N] of the validation set, both classes present. With
    a `prior`, the share of fakes to be expected in 0..1, the shift is fitted, too, and F1 is
    that of such a share. J does not depend on it.
    """
    shift, weights = 0.0, None
    if prior is None:
        temperature = fit_temperature(logits, labels)
    else:
        temperature, shift = fit_to_prior(logits, labels, prior)
        weights = prior_weights(labels, prior)
    p = probabilities(logits + shift, temperature)
    youden = youden_threshold(p, labels)
    return Calibration(
        temperature,
        {"youden": youden, "best_f1": best_f1_threshold(p, labels, weights)},
        shift,
        tuple(_doubts(p, labels, temperature, youden)),
    )


def _doubts(p: Array, labels: Labels, temperature: float, youden: float) -> Iterator[str]:
    low, high = TEMPERATURES
    if not 1.01 * low < temperature < 0.99 * high:
        yield (
            f"temperature {temperature:.3g} is at the end of what is tried, {low:g}..{high:g}: "
            "P(fake) is not calibrated"
        )
    j = float((p[labels == 1] >= youden).mean() - (p[labels == 0] >= youden).mean())
    auc = float(roc_auc_score(labels, p))
    if j <= 0 or auc <= 0.5:
        yield (
            f"on the validation pictures the model is no better than chance (AUC {auc:.3f}, "
            f"Youden's J {j:.3f})"
        )


def prior_weights(labels: Labels, prior: float) -> Array:
    """Weights [N], summing to 1, under which a share `prior` of the pictures is fake."""
    fake = labels == 1
    weights: Array = np.where(fake, prior / fake.sum(), (1 - prior) / (~fake).sum())
    return weights


def fit_to_prior(logits: Array, labels: Labels, prior: float) -> tuple[float, float]:
    """(temperature in 0.05..20, shift) of least negative log-likelihood where fakes are rare.

    Platt's scaling (1999), each class weighed by its share under `prior`. Where the logits
    are those of a logistic model, this is the shift by the ratio of priors of Saerens et al.
    (2002); where they are not (another loss, weighed classes, draws of another ratio), the
    mean of P(fake) still is the prior.
    """
    weights = prior_weights(labels, prior)
    signs = np.where(labels == 1, 1.0, -1.0)
    scale = max(float(np.abs(logits).max()), 1e-6)

    def loss(at: Array) -> tuple[float, Array]:
        margin = signs * (at[0] * logits + at[1])
        slope = -weights * signs * np.exp(-np.logaddexp(0.0, margin))
        gradient = np.array([np.sum(slope * logits), np.sum(slope)])
        return float(np.sum(weights * np.logaddexp(0.0, -margin))), gradient

    start = np.array([1.0, np.log(prior / (1 - prior))])
    bounds = [(1 / TEMPERATURES[1], 1 / TEMPERATURES[0]), (-20 * scale - 20, 20 * scale + 20)]
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500}
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(1 / best.x[0]), float(best.x[1] / best.x[0])


def fit_temperature(logits: Array, labels: Labels) -> float:
    """The temperature in 0.05..20 of least negative log-likelihood; classes count alike."""
    weights = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())
    signs = np.where(labels == 1, 1.0, -1.0)

    def loss(log_t: float) -> float:
        return float(np.sum(weights * np.logaddexp(0.0, -signs * logits / np.exp(log_t))))

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(best.x))


def youden_threshold(p: Array, labels: Labels) -> float:
    """The threshold that maximises sensitivity + specificity - 1, both kernel-smoothed.

    The best threshold on the sample itself follows single pictures wherever the curve is flat
    at its top. Smoothing the two distributions of logits first (Gaussian kernels, Silverman's
    bandwidth; Fluss, Faraggi & Reiser, 2005) makes it steadier from sample to sample.
    """
    logits = np.log(np.clip(p, 1e-12, 1 - 1e-12) / np.clip(1 - p, 1e-12, 1 - 1e-12))
    grid = np.linspace(logits.min(), logits.max(), 1001)
    j = _smoothed_cdf(logits[labels == 0], grid) - _smoothed_cdf(logits[labels == 1], grid)
    best = grid[int(np.argmax(j))]
    return float(np.clip(1 / (1 + np.exp(-best)), 0.0, 1.0))


def _smoothed_cdf(values: Array, at: Array) -> Array:
    """Share of `values` below each of `at`, [G], under a Gaussian kernel."""
    quartiles = np.percentile(values, [25, 75])
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.34)
    bandwidth = max(0.9 * (spread or float(values.std())) * len(values) ** -0.2, 1e-6)
    smoothed: Array = np.mean(ndtr((at[:, None] - values[None, :]) / bandwidth), axis=1)
    return smoothed


def best_f1_threshold(p: Array, labels: Labels, weights: Array | None = None) -> float:
    """The threshold that maximises F1 of the fake class; `weights` [N] count the pictures."""
    precision, recall, thresholds = precision_recall_curve(labels, p, sample_weight=weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return _between(p, float(thresholds[int(np.argmax(f1[:-1]))]))


def _between(p: Array, threshold: float) -> float:
    """Halfway to the next lower score: the verdicts stay, and rounding cannot flip them."""
    lower = p[p < threshold]
    middle = (threshold + float(lower.max())) / 2 if len(lower) else threshold
    return float(np.clip(middle, 0.0, 1.0))
