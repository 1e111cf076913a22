from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scanner.preprocess import PreprocessSpec
from trainer.data import Sample
from trainer.loader import Pictures
from trainer.tiers import CLEAN, HARD, TIERS, WEB, Tier


def texture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("tier", "height", "width", "expected"),
    [
        (WEB, 1000, 1536, (500, 768)),
        (WEB, 1536, 1000, (768, 500)),
        (HARD, 1000, 1536, (333, 512)),
        (HARD, 2, 5000, (1, 512)),  # a strip keeps a row
    ],
)
def test_longest_side_shrinks_to_the_limit_and_the_aspect_stays(tier, height, width, expected):
    assert tier(texture(height, width)).shape == (*expected, 3)


@pytest.mark.parametrize("tier", [WEB, HARD])
@pytest.mark.parametrize("below", [0, 1, 300])
def test_a_picture_within_the_limit_is_only_reencoded(tier: Tier, below: int):
    rgb = texture(40, tier.longest - below)
    changed = tier(rgb)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=tier.quality, subsampling=2)
    with Image.open(buffer) as expected:
        np.testing.assert_array_equal(changed, np.asarray(expected))
    assert not np.array_equal(changed, rgb)


def test_clean_hands_back_the_very_picture():
    """So that the loader still knows the decoded picture's box to be true of it."""
    rgb = texture(3000, 20)
    assert CLEAN(rgb) is rgb


def test_hard_loses_more_than_web():
    rgb = np.asarray(Image.fromarray(texture(50, 50)).resize((400, 400)))

    def loss(tier: Tier) -> float:
        return float(np.abs(tier(rgb).astype(int) - rgb).mean())

    assert 0 < loss(WEB) < loss(HARD)


def test_tiers_are_the_three_published_conditions():
    assert {name: (t.longest, t.quality) for name, t in TIERS.items()} == {
        "clean": (0, 0),
        "web": (768, 60),
        "hard": (512, 40),
    }


def test_a_mirrored_view_is_accepted():
    rgb = texture(30, 900)[:, ::-1]
    np.testing.assert_array_equal(WEB(rgb), WEB(np.ascontiguousarray(rgb)))


@pytest.mark.parametrize("tier", [WEB, HARD])
def test_a_tier_never_starts_from_fewer_pixels_than_it_leaves(tier: Tier, tmp_path: Path):
    """A JPEG decoded at an eighth of its size would pass a limit that the whole one does not."""
    path = tmp_path / "large.jpg"
    Image.fromarray(texture(60, 80)).resize((4000, 3000)).save(path, quality=80)
    seen: list[tuple[int, ...]] = []

    def change(rgb: np.ndarray) -> np.ndarray:
        seen.append(rgb.shape)
        return tier(rgb)

    sample = Sample("large.jpg", 0, "real", "large.jpg", None, path)
    spec = PreprocessSpec(size=32)
    pictures = Pictures([sample], spec, change=change, decode_side=tier.longest)
    pixels, _, _ = pictures[0]
    assert min(seen[0][:2]) >= tier.longest
    assert pixels.shape == (1, 3, 32, 32)
