from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import gradient
from PIL import Image

from benchmarks.draft_decode import CONTENTS, Content, difference, jpeg, picture
from scanner.preprocess import PreprocessSpec, draft_side, prepare, resized_squares

REAL = {"smooth", "edges", "foliage", "noise"}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_reduced_decode_stays_within_the_documented_tolerance(
    content: Content, subsampling: str, beyond: int
) -> None:
    """At the switch of scale, where it is widest; with sides that the scale divides and not."""
    spec = PreprocessSpec(size=64, views=3)
    short = 4 * draft_side(spec) + beyond
    scene = picture(content, (short * 4 // 3 + beyond, short))
    apart = difference(jpeg(scene, quality=90, subsampling=subsampling), spec)
    assert apart.most <= (4 if content in REAL else 24)
    assert apart.mean <= (0.4 if content in REAL else 0.8)


def test_views_lie_at_equal_distances_along_the_longer_side() -> None:
    spec = PreprocessSpec(size=32, views=3)
    wide = resized_squares(pixels(gradient((320, 64))), spec)
    assert wide.shape == (3, 32, 32, 3)
    red = wide[..., 0].mean(axis=(1, 2))
    assert red == pytest.approx([255 * 0.1, 255 * 0.5, 255 * 0.9], abs=3)
    tall = resized_squares(pixels(gradient((64, 320))), spec)
    green = tall[..., 1].mean(axis=(1, 2))
    assert green == pytest.approx([255 * 0.1, 255 * 0.5, 255 * 0.9], abs=3)


def test_one_view_is_the_centre() -> None:
    (square,) = resized_squares(pixels(gradient((320, 64))), PreprocessSpec(size=32))
    assert square[..., 0].mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize("size", [(16, 16), (17, 4000), (5000, 16), (33, 32), (31, 33)])
def test_any_shape_gives_squares_of_the_asked_size(size: tuple[int, int]) -> None:
    spec = PreprocessSpec(size=32, views=2)
    prepared = prepare(pixels(gradient(size)), spec)
    assert prepared.shape == (2, 3, 32, 32)
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous


def test_normalisation_depends_on_the_spec_and_not_on_the_picture() -> None:
    spec = PreprocessSpec(size=16, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    even = np.full((16, 16, 3), 51, np.uint8)  # 0.2
    assert prepare(even, spec)[0, :, 0, 0] == pytest.approx([-0.6, -0.2, 0.1])


def test_a_box_is_the_whole_picture_to_prepare() -> None:
    """What lies outside has no influence but through the filter at its edge."""
    spec = PreprocessSpec(size=16)
    inner = pixels(gradient((64, 64)))
    framed = np.zeros((70, 80, 3), np.uint8)
    framed[2:66, 5:69] = inner
    apart = resized_squares(framed, spec, (5, 2, 69, 66)).astype(int) - resized_squares(inner, spec)
    assert np.abs(apart[:, 2:-2, 2:-2]).max() <= 1


def test_grey_replaces_the_picture_by_its_luma() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    square = resized_squares(red, PreprocessSpec(size=16, grey=True))
    assert np.unique(square).tolist() == [76]  # ITU-R BT.601: 0.299 of 255


def test_a_spec_survives_the_way_into_json_and_back() -> None:
    spec = PreprocessSpec(size=224, mean=(0.1, 0.2, 0.3), views=3, resampling="lanczos", grey=True)
    assert PreprocessSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "raw",
    [
        {"size": 8},
        {"size": 64.0},
        {"size": True},
        {"size": 64, "views": 0},
        {"size": 64, "resampling": "nearest"},
        {"size": 64, "std": [1.0, 1.0, 0.0]},
        {"size": 64, "mean": [0.0, float("nan"), 0.0]},
        {"size": 64, "mean": [0.0]},
        {"size": 64, "grey": 1},
        {"size": 64, "divide_by": 255},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        PreprocessSpec.from_dict(raw)
