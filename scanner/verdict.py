"""From a logit to a probability, and to a verdict at a named operating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from scanner.errors import UsageError
from scanner.types import FileFacts, ImageRef, Verdict, VerdictName

CUSTOM = "custom"


class HasThresholds(Protocol):
    """The part of a bundle that decides where to draw the line."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Operating point's name -> threshold on calibrated P(fake)."""

    @property
    def operating_point(self) -> str:
        """The one to use unless another is asked for."""

    @property
    def unsure(self) -> tuple[float, float] | None:
        """Between these P(fake) too many verdicts would be wrong to give one."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on P(fake), in [0, 1], and the name it goes by in the report.

    From `unsure` (low, high) on, low included and high not, there is neither fake nor real.
    """

    name: str
    threshold: float
    unsure: tuple[float, float] | None = None


def bounds(point: OperatingPoint) -> tuple[float, float]:
    """P(fake) below which the verdict is real, and from which on it is fake."""
    low, high = point.unsure or (point.threshold, point.threshold)
    return min(point.threshold, low), max(point.threshold, high)


def probabilities(logits: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    """Calibrated P(fake) in [0, 1] of logits, any shape (Guo et al., 2017)."""
    # exp of a large positive number overflows; of a large negative one it does not.
    z = np.clip(logits / temperature, -60.0, 60.0)
    p: npt.NDArray[np.float64] = 1.0 / (1.0 + np.exp(-z))
    return p


def operating_point(
    bundle: HasThresholds, *, name: str | None = None, threshold: float | None = None
) -> OperatingPoint:
    """The point asked for by `name` or by `threshold`, or the bundle's own.

    A threshold of the user's own cuts once: to withhold a verdict is the model's advice.

    Raises UsageError if both are given, for a name the bundle does not have and for a
    threshold outside [0, 1].
    """
    if name is not None and threshold is not None:
        raise UsageError("--threshold and --operating-point exclude each other; give one of them")
    if threshold is not None:
        if not 0.0 <= threshold <= 1.0:  # also refuses NaN
            raise UsageError(f"--threshold must lie in 0..1, not {threshold:g}")
        return OperatingPoint(CUSTOM, threshold)
    name = bundle.operating_point if name is None else name
    if name not in bundle.thresholds:
        there_are = ", ".join(sorted(bundle.thresholds))
        raise UsageError(
            f"the model has no operating point {name!r}; there are {there_are} "
            "(or give a --threshold)"
        )
    return OperatingPoint(name, bundle.thresholds[name], bundle.unsure)


def verdict_of(p_fake: float, point: OperatingPoint) -> VerdictName:
    """As `judge()`, for the name alone."""
    low, high = bounds(point)
    if p_fake >= high:
        return "fake"
    return "real" if p_fake < low else "unsure"


def judge(ref: ImageRef, facts: FileFacts, p_fake: float, point: OperatingPoint) -> Verdict:
    """`p_fake`, in [0, 1], against the point's threshold; at the threshold it is fake.

    Inside the point's band of `unsure` it is neither; nor between the band and a threshold
    above it, which is that of a careful point: what was taken for fake without care is not real
    with it, nor the other way round.
    """
    verdict = verdict_of(p_fake, point)
    low, high = bounds(point)
    likelier = p_fake >= 0.5 if verdict == "unsure" else verdict == "fake"
    return Verdict(
        ref=ref,
        verdict=verdict,
        p_fake=p_fake,
        confidence=p_fake if likelier else 1.0 - p_fake,
        threshold=point.threshold,
        real_below=low,
        fake_from=high,
        operating_point=point.name,
        facts=facts,
    )
