from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image, features

from scanner.preprocess import PreprocessSpec, prepare
from trainer import augment as augment_module
from trainer.augment import augment, bounded, lottery_side

# Made before large pictures were bounded. Encodings of pictures of this size are kept under a
# name that does not tell how the lottery works: should this change, raise encoded._FORMAT.
DRAWS = "e16d2891bc231f86f3958d30bade6394e0b96b4a58501914d95fe038a85343ec"
DRAWS_AND_CODECS = "ee79b332a4fb0cedfba5344c5e740bc1e17230f58882439276b402644c457dd1"
CODECS = {"jpg": "6.2", "libjpeg_turbo": "3.2.0", "webp": "1.6.0"}  # they made the second


def _scene(height: int = 200, width: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    base = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    return np.clip(base + rng.normal(0, 20, base.shape), 0, 255).astype(np.uint8)


def test_none_changes_nothing():
    picture = _scene()
    assert augment(picture, "none", np.random.default_rng(0)) is picture


@pytest.mark.parametrize("kind", ["flip", "neutral", "uncropped"])
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


def test_uncropped_every_picture_goes_through_the_lottery_whole():
    # Two dark stripes at the ends of the longer side: a crop to a near-square loses them.
    picture = np.full((200, 300, 3), 200, np.uint8)
    picture[:, :30] = picture[:, -30:] = 40
    whole = 0
    for seed in range(100):
        out = augment(picture, "uncropped", np.random.default_rng(seed)).astype(float)
        edge = max(1, out.shape[1] // 20)
        ends = out[:, :edge].mean(), out[:, -edge:].mean()
        assert max(ends) + 60 < out[:, out.shape[1] // 2 - 2 : out.shape[1] // 2 + 2].mean()
        assert out.shape[1] / out.shape[0] == pytest.approx(1.5, abs=0.02)
        whole += out.shape == picture.shape and np.isin(out, (40, 200)).all()
    assert 15 <= whole <= 50  # 30 % of 100 stay as they came


@pytest.mark.parametrize("shape", [(16, 16), (17, 400), (400, 17)])
def test_the_lottery_bears_the_smallest_and_the_longest(shape):
    for seed in range(20):
        augment(_scene(*shape), "neutral", np.random.default_rng(seed))


def _drawn(count: int = 40) -> str:
    """SHA-256 of `count` draws of pictures with a short side of 256."""
    digest = hashlib.sha256()
    for height, width in ((256, 256), (256, 341), (384, 256), (256, 455)):
        y, x = np.mgrid[0:height, 0:width]
        scene = [(x * 3 + y * 5) % 256, (x * x // 64 + y) % 256, (x * y // 32) % 256]
        picture, box = bounded(np.stack(scene, axis=-1).astype(np.uint8), 224)
        assert box is None
        for seed in range(count):
            out = augment(picture, "neutral", np.random.default_rng((3, seed)))
            digest.update(repr(out.shape).encode() + np.ascontiguousarray(out).tobytes())
    return digest.hexdigest()


def test_pictures_of_256_pixels_are_drawn_as_they_always_were(monkeypatch: pytest.MonkeyPatch):
    """Whatever the codecs: what would be encoded is told by its pixels and settings."""
    asked: list[str] = []

    def not_encoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
        asked.append(f"{kind} {sorted(options.items())}")
        return image

    monkeypatch.setattr(augment_module, "_through", not_encoded)
    drawn = _drawn() + "".join(asked)
    assert hashlib.sha256(drawn.encode()).hexdigest() == DRAWS


@pytest.mark.skipif(
    any(features.version(name) != version for name, version in CODECS.items()),
    reason="another version of a codec may encode to other pixels",
)
def test_pictures_of_256_pixels_come_out_as_they_always_did():
    assert _drawn() == DRAWS_AND_CODECS


def test_a_large_picture_is_bounded_and_keeps_its_form():
    spec = PreprocessSpec(size=224)
    rgb = _scene(1500, 2000)
    small, box = bounded(rgb, spec.size)
    assert small.shape == (512, 683, 3) == (lottery_side(224), round(2000 * 512 / 1500), 3)
    assert box is None
    difference = np.abs(prepare(rgb, spec) - prepare(small, spec)) * 255
    assert difference.mean() < 1.0, "a picture that the lottery leaves alone is prepared alike"


@pytest.mark.parametrize("shape", [(512, 900), (512, 512), (300, 200)])
def test_a_picture_within_the_bound_is_left_alone(shape: tuple[int, int]):
    rgb, box = _scene(*shape), (0.0, 0.0, shape[1] - 0.5, shape[0] - 0.25)
    assert bounded(rgb, 224, box) == (rgb, box)


def test_the_box_of_a_large_picture_is_used_once():
    """A last column that stands for nothing touches no more than the kernel's edge."""
    rgb = _scene(1200, 1601)
    rgb[:, 1600] = (255, 0, 255)
    small, box = bounded(rgb, 224, (0.0, 0.0, 1600.0, 1200.0))
    plain, _ = bounded(rgb[:, :1600], 224)
    assert box is None
    np.testing.assert_array_equal(small[:, :-1], plain[:, :-1])


def test_the_lottery_costs_a_camera_picture_no_more_pixels_than_a_small_one():
    """Both classes meet blur, noise and re-encoding at one scale, whatever their size."""
    sides = {}
    for size in ((3000, 4000), (600, 800)):
        rgb, _ = bounded(np.zeros((*size, 3), np.uint8), 224)
        drawn = [augment(rgb, "neutral", np.random.default_rng(seed)) for seed in range(40)]
        sides[size] = [picture.shape for picture in drawn]
    for one, other in itertools.pairwise(sides.values()):
        assert one == other
