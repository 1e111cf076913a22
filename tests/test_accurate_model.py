"""The accurate embedded model is the one that was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanner.bundle import EMBEDDED, bundle_path, read_bundle
from scanner.detector import Detector
from scanner.images import decode
from scanner.preprocess import prepare
from scanner.types import ImageRef, Pixels

SAMPLES = Path(__file__).parents[1] / "sample_images"

# P(fake) as exported; held to 0.01, for decoders and processors differ by roundings.
GOLDEN = {
    "fake/flux2-diner.webp": 0.6509,
    "fake/hidream-red-tree.webp": 0.9766,
    "fake/lens-flowers.webp": 0.7741,
    "fake/qwen-neon-street.webp": 0.8717,
    "fake/sd35-portrait.webp": 0.9972,
    "fake/sdxl-painting.webp": 0.9899,
    "real/astronaut.webp": 0.2494,
    "real/cameraman.png": 0.249,
    "real/cat.png": 0.0866,
    "real/coffee.png": 0.1071,
    "real/hubble.jpg": 0.9059,
    "real/rocket.jpg": 0.0053,
}


def test_the_samples_score_as_they_did_when_the_model_was_embedded():
    bundle = read_bundle(EMBEDDED["accurate"])
    detector = Detector(bundle, device="cpu")
    for name, expected in GOLDEN.items():
        pixels = decode(ImageRef(SAMPLES / name), bundle.spec)
        assert isinstance(pixels, Pixels), name
        (p,) = detector.score(prepare(pixels.rgb, bundle.spec, pixels.box)[None])
        assert p == pytest.approx(expected, abs=0.01), name


def test_its_card_states_what_each_operating_point_does_to_left_out_sources():
    bundle = read_bundle(EMBEDDED["accurate"])
    card = (bundle.path / "MODEL_CARD.md").read_text("utf-8")
    assert {"youden", "best_f1", "fpr_1pct", "fpr_0.1pct"} == set(bundle.thresholds)
    assert bundle.unsure is not None
    low, high = bundle.unsure
    assert low < bundle.thresholds["youden"] < high
    for tier, content in bundle.metrics["left_out_points"].items():
        assert f"| {tier} | `youden`" in card
        rates = content["points"]["fpr_1pct"]
        assert rates["left_out_sources_called_real"] >= 0.965
        assert (
            content["unsure"]["balanced_accuracy_outside"]
            > (content["points"]["youden"]["balanced_accuracy"])
        )


def test_its_left_out_scores_rank_better_than_the_fast_models():
    fast, accurate = (
        read_bundle(EMBEDDED[name]).metrics["left_out"] for name in ("fast", "accurate")
    )
    for tier in ("clean", "web", "hard"):
        assert accurate["summary"][tier]["auc"] > fast["summary"][tier]["auc"] + 0.02


def test_an_embedded_model_goes_by_its_name_and_a_folder_by_its_path():
    assert bundle_path(Path("accurate")) == EMBEDDED["accurate"]
    assert bundle_path(None) == EMBEDDED["cascade"]
    assert bundle_path(Path("bundles/accurate")) == Path("bundles/accurate")


def test_weights_are_stored_as_the_integers_they_came_as():
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(EMBEDDED["accurate"] / "encoder.onnx").graph
    kinds = {
        kind: sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == kind)
        for kind in (onnx.TensorProto.INT8, onnx.TensorProto.FLOAT)
    }
    assert kinds[onnx.TensorProto.INT8] > 50e6
    assert kinds[onnx.TensorProto.FLOAT] < 2e6
