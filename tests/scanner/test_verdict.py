from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeBundle

from scanner.errors import UsageError
from scanner.types import FileFacts, ImageRef
from scanner.verdict import OperatingPoint, judge, operating_point

REF = ImageRef(Path("a.jpg"))


@pytest.mark.parametrize(
    ("p_fake", "verdict", "confidence"),
    [(0.0, "real", 1.0), (0.39, "real", 0.61), (0.4, "fake", 0.4), (1.0, "fake", 1.0)],
)
def test_confidence_is_the_probability_of_the_verdict_given(
    p_fake: float, verdict: str, confidence: float
) -> None:
    given = judge(REF, FileFacts(), p_fake, OperatingPoint("low", 0.4))
    assert (given.verdict, given.p_fake) == (verdict, p_fake)
    assert given.confidence == pytest.approx(confidence)
    assert (given.threshold, given.operating_point) == (0.4, "low")


def test_the_bundles_own_point_is_used_unless_another_is_named() -> None:
    assert operating_point(FakeBundle()) == OperatingPoint("youden", 0.5)
    assert operating_point(FakeBundle(), name="best_f1") == OperatingPoint("best_f1", 0.25)
    assert operating_point(FakeBundle(), threshold=0.7) == OperatingPoint("custom", 0.7)


@pytest.mark.parametrize(
    ("p_fake", "threshold", "verdict"),
    [
        (0.29, 0.5, "real"), (0.3, 0.5, "unsure"), (0.69, 0.5, "unsure"), (0.7, 0.5, "fake"),
        # A careful point: what is above the band and below the threshold is not called real.
        (0.8, 0.9, "unsure"), (0.9, 0.9, "fake"), (0.29, 0.9, "real"),
        # A bold one: what is below the band and above the threshold is not called fake.
        (0.2, 0.1, "unsure"), (0.05, 0.1, "real"), (0.7, 0.1, "fake"),
    ],
)  # fmt: skip
def test_where_the_model_errs_too_often_there_is_no_verdict(
    p_fake: float, threshold: float, verdict: str
) -> None:
    given = judge(REF, FileFacts(), p_fake, OperatingPoint("some", threshold, (0.3, 0.7)))
    assert given.verdict == verdict
    if verdict == "unsure":
        assert given.confidence == max(p_fake, 1 - p_fake)


def test_the_bundles_band_goes_with_its_points_and_not_with_a_threshold_of_the_users() -> None:
    bundle = FakeBundle(unsure=(0.3, 0.7))
    assert operating_point(bundle).unsure == (0.3, 0.7)
    assert operating_point(bundle, name="best_f1").unsure == (0.3, 0.7)
    assert operating_point(bundle, threshold=0.7).unsure is None


def test_an_unknown_point_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"'fpr1'; there are best_f1, youden"):
        operating_point(FakeBundle(), name="fpr1")


def test_point_and_threshold_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        operating_point(FakeBundle(), name="youden", threshold=0.5)


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"0\.\.1"):
        operating_point(FakeBundle(), threshold=threshold)
