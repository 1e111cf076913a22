"""Pictures that no model here can judge are noted, and never called fake or real for sure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import BrightnessScorer, FakeBundle
from PIL import Image, ImageDraw

from scanner.domain import SMALL_SIDE, limited, with_notes
from scanner.limits import Limits
from scanner.preprocess import PreprocessSpec, resized_squares
from scanner.scan import scan
from scanner.types import FileFacts, ImageRef, Verdict
from scanner.verdict import OperatingPoint, verdict_of

SPEC = PreprocessSpec(size=224)
BAND = (0.3, 0.7)
SAMPLES = Path(__file__).parents[2] / "sample_images"


def photograph(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    low = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    return low.resize((width, height), Image.Resampling.BICUBIC)


def page() -> Image.Image:
    image = Image.new("RGB", (600, 800), "white")
    draw = ImageDraw.Draw(image)
    for y in range(60, 740, 24):
        draw.text((50, y), "all that is written on a page of text " * 2, fill="black")
    return image


def stars() -> Image.Image:
    """Few colours, and noise in all of them."""
    rng = np.random.default_rng(0)
    return Image.fromarray(np.asarray(rng.normal(4, 3, (300, 400, 3)).clip(0, 255), np.uint8))


def gradient() -> Image.Image:
    return Image.linear_gradient("L").resize((640, 480)).convert("RGB")


def notes(image: Image.Image) -> tuple[str, ...]:
    facts = FileFacts(width=image.width, height=image.height)
    return with_notes(facts, resized_squares(np.asarray(image.convert("RGB")), SPEC)).notes


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: photograph(640, 480), ()),
        (lambda: photograph(640, SMALL_SIDE), ("elongated",)),
        (lambda: photograph(40, SMALL_SIDE), ()),
        (lambda: photograph(40, SMALL_SIDE - 1), ("small",)),
        (lambda: photograph(400, 100), ()),
        (lambda: photograph(401, 100), ("elongated",)),
        (lambda: photograph(100, 401), ("elongated",)),
        (stars, ()),
        (page, ("near_uniform",)),
        (gradient, ("near_uniform",)),
        (lambda: Image.new("RGB", (300, 300), "navy"), ("near_uniform",)),
    ],
)
def test_a_limit_is_noted_from_just_beyond_it(
    make: Callable[[], Image.Image], expected: tuple[str, ...]
) -> None:
    assert notes(make()) == expected


def test_no_sample_picture_is_out_of_the_domain() -> None:
    paths = sorted(SAMPLES.glob("*/*"))
    assert len(paths) >= 12
    for path in paths:
        assert notes(Image.open(path)) == (), path.name


@pytest.mark.parametrize("p_fake", [0.0, 0.1, 0.5, 0.69999, 0.7, 1.0])
def test_out_of_the_domain_every_point_is_unsure(p_fake: float) -> None:
    kept = limited(p_fake, FileFacts(notes=("small",)), BAND)

    assert BAND[0] <= kept < BAND[1]
    for threshold in (0.05, 0.5, 0.99):
        assert verdict_of(kept, OperatingPoint("any", threshold, BAND)) == "unsure"


@pytest.mark.parametrize(
    ("band", "p_fake", "kept"),
    [
        ((0.3, 0.7), 0.4, 0.4),
        ((0.3, 0.7), 0.99, np.nextafter(0.5, 0)),
        ((0.3, 0.45), 0.99, np.nextafter(0.45, 0)),
        ((0.6, 0.7), 0.1, 0.6),  # a band above one half leaves no room below it
        ((0.6, 0.7), 0.99, np.nextafter(0.7, 0)),
    ],
)
def test_out_of_the_domain_a_threshold_of_one_half_makes_no_suspect_where_the_band_allows(
    band: tuple[float, float], p_fake: float, kept: float
) -> None:
    assert limited(p_fake, FileFacts(notes=("near_uniform",)), band) == kept


def test_other_notes_and_models_without_a_band_leave_the_score() -> None:
    assert limited(0.99, FileFacts(notes=("truncated",)), BAND) == 0.99
    assert limited(0.99, FileFacts(notes=("small",)), None) == 0.99


def test_a_scan_withholds_its_verdict_on_a_blank_picture(tmp_path: Path) -> None:
    Image.new("RGB", (300, 300), "white").save(tmp_path / "blank.png")
    photograph(300, 200).save(tmp_path / "photo.png")
    refs = [ImageRef(tmp_path / name) for name in ("blank.png", "photo.png")]
    scorer = BrightnessScorer(bundle=FakeBundle(unsure=(0.45, 0.5)))
    point = OperatingPoint("half", 0.5, (0.45, 0.5))

    blank, photo = scan(refs, scorer, point=point, batch_size=4, limits=Limits(workers=1))

    assert isinstance(blank, Verdict)
    assert isinstance(photo, Verdict)
    assert (blank.verdict, blank.facts.notes) == ("unsure", ("near_uniform",))
    assert blank.p_fake < 0.5  # its brightness is 1
    assert photo.facts.notes == ()
