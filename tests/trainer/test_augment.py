from __future__ import annotations

import numpy as np
import pytest

from trainer.augment import augment


def _scene(height: int = 200, width: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    base = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    return np.clip(base + rng.normal(0, 20, base.shape), 0, 255).astype(np.uint8)


def test_none_changes_nothing():
    picture = _scene()
    assert augment(picture, "none", np.random.default_rng(0)) is picture


@pytest.mark.parametrize("kind", ["flip", "neutral"])
def test_the_same_draws_give_the_same_picture(kind):
    one, other = (augment(_scene(), kind, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_the_lottery_keeps_the_form_of_a_picture():
    for seed in range(60):
        out = augment(_scene(), "neutral", np.random.default_rng(seed))
        assert out.dtype == np.uint8
        assert out.ndim == 3
        assert out.shape[2] == 3
        assert min(out.shape[:2]) >= 16


def test_the_lottery_leaves_some_pictures_as_they_came_and_changes_most():
    picture = _scene()
    results = [augment(picture, "neutral", np.random.default_rng(seed)) for seed in range(200)]
    untouched = sum(
        r.shape == picture.shape
        and (np.array_equal(r, picture) or np.array_equal(r, picture[:, ::-1]))
        for r in results
    )
    assert 10 <= untouched <= 60  # 15 % of 200 in expectation


@pytest.mark.parametrize("shape", [(16, 16), (17, 400), (400, 17)])
def test_the_lottery_bears_the_smallest_and_the_longest(shape):
    for seed in range(20):
        augment(_scene(*shape), "neutral", np.random.default_rng(seed))
