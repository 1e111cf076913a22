"""The fast and the default model hold what is stated of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scanner.bundle import EMBEDDED, default_bundle_path, read_bundle
from scanner.cascade import open_model
from scanner.detector import Detector
from scanner.images import decode
from scanner.preprocess import prepare
from scanner.types import ImageRef, Pixels

SAMPLES = Path(__file__).parents[1] / "sample_images"
DATA = os.environ.get("IMGSCAN_DATA", "")


# P(fake) as exported; held to 0.01, for decoders and processors differ by roundings.
GOLDEN = {
    "fake/flux2-diner.webp": 0.7094,
    "fake/hidream-red-tree.webp": 0.8826,
    "fake/lens-flowers.webp": 0.0832,
    "fake/qwen-neon-street.webp": 0.7741,
    "fake/sd35-portrait.webp": 0.9613,
    "fake/sdxl-painting.webp": 0.9581,
    "real/astronaut.webp": 0.6147,
    "real/cameraman.png": 0.2243,
    "real/cat.png": 0.0881,
    "real/coffee.png": 0.2247,
    "real/hubble.jpg": 0.1874,
    "real/rocket.jpg": 0.0526,
}


def test_the_samples_score_as_they_did_when_the_model_was_embedded():
    bundle = read_bundle(EMBEDDED["fast"])
    detector = Detector(bundle, device="cpu")
    for name, expected in GOLDEN.items():
        pixels = decode(ImageRef(SAMPLES / name), bundle.spec)
        assert isinstance(pixels, Pixels), name
        (p,) = detector.score(prepare(pixels.rgb, bundle.spec, pixels.box)[None])
        assert p == pytest.approx(expected, abs=0.01), name


def test_every_sample_has_a_golden_score():
    shipped = {p.relative_to(SAMPLES).as_posix() for p in SAMPLES.glob("*/*") if p.is_file()}
    assert shipped == set(GOLDEN)


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="IMGSCAN_DATA does not name the labelled pictures")
def test_the_held_out_split_keeps_its_balanced_accuracy():
    pytest.importorskip("sklearn")
    from trainer.data import load_samples

    bundle = read_bundle(default_bundle_path())
    model, fast = open_model(bundle, "cpu"), Detector(read_bundle(EMBEDDED["fast"]), "cpu")
    samples = [s for s in load_samples(Path(DATA)) if s.split == "val"]
    labels = np.array([s.label for s in samples])
    scores: dict[str, list[float]] = {"default": [], "fast": []}
    for sample in samples:
        pixels = sample.decode(bundle.spec)
        assert isinstance(pixels, Pixels)
        batch = prepare(pixels.rgb, bundle.spec, pixels.box)[None]
        for name, scorer in (("default", model), ("fast", fast)):
            scores[name].append(float(scorer.score(batch)[0]))

    def balanced(name: str, threshold: float) -> float:
        called = np.array(scores[name]) >= threshold
        return float((called[labels == 1].mean() + 1 - called[labels == 0].mean()) / 2)

    assert balanced("default", bundle.thresholds[bundle.operating_point]) >= 0.90
    tier = fast.bundle.metrics["holdout"]["tiers"]["clean"]
    stated = tier["thresholds"][fast.bundle.operating_point]
    found = balanced("fast", fast.bundle.thresholds[fast.bundle.operating_point])
    assert found == pytest.approx(stated["balanced_accuracy"], abs=0.005)
