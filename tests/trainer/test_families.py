"""Intervals of means over families: families and their groups are drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.families import Outcomes, intervals


def test_where_all_families_agree_the_interval_is_that_of_their_groups():
    """One right group and one wrong one: a draw of two groups has 0, a half or 1 of them right."""
    halves = np.array([1.0] * 10 + [0.0] * 10)
    of_groups = Outcomes(True, halves, ("a",) * 10 + ("b",) * 10)
    alone = intervals([of_groups])
    assert alone == {"fake": [0.0, 1.0]}
    low, high = intervals([Outcomes(True, halves)])["fake"]  # twenty groups of one
    assert 0.2 < low < 0.4
    assert 0.6 < high < 0.8


def test_families_that_differ_make_the_interval_wider_than_their_pictures_would():
    sure = [Outcomes(True, np.full(50, value)) for value in (0.0, 1.0, 1.0, 1.0)]
    low, high = intervals(sure)["fake"]
    assert low <= 0.25
    assert high == 1.0


def test_both_is_the_mean_of_the_classes():
    found = intervals([Outcomes(True, np.ones(5)), Outcomes(False, np.zeros(5))])
    assert found == {"fake": [1.0, 1.0], "real": [0.0, 0.0], "both": [0.5, 0.5]}


def test_a_picture_without_a_say_counts_for_nothing():
    values = np.array([1.0, np.nan, np.nan, 1.0])
    silent = Outcomes(True, np.full(4, np.nan))
    assert intervals([Outcomes(True, values, tuple("abab")), silent])["fake"] == [1.0, 1.0]
    assert np.isnan(intervals([silent])["fake"]).all()


def test_the_same_seed_draws_the_same():
    families = [Outcomes(True, np.random.default_rng(i).random(30)) for i in range(5)]
    assert intervals(families, 1) == intervals(families, 1)
    assert intervals(families, 1)["fake"] != pytest.approx(intervals(families, 2)["fake"])
