from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from cuda_fakes import CUDA, cuda_seems_there

from scanner.bundle import Bundle, read_bundle
from scanner.chain import Chain
from scanner.detector import Detector
from scanner.errors import BundleError, ImgscanError


def _flat(*values: float, size: int = 32) -> np.ndarray:
    """[B, 1, 3, S, S], each picture of one value."""
    return np.stack([np.full((1, 3, size, size), v, np.float32) for v in values])


def test_scores_are_the_sigmoid_of_the_mean_logit_over_temperature(tiny_bundle: Bundle):
    detector = Detector(replace(tiny_bundle, temperature=2.0), device="cpu")
    views = np.concatenate([_flat(0.2), _flat(1.0)], axis=1)  # one picture, two views
    logits = 10 * np.array([0.2, 1.0]) - 5  # what the tiny bundle computes
    expected = 1 / (1 + np.exp(-logits.mean() / 2.0))
    np.testing.assert_allclose(detector.score(views), [expected], atol=1e-6)


def test_a_picture_scores_the_same_alone_and_in_a_batch(tiny_bundle: Bundle):
    detector = Detector(tiny_bundle, device="cpu")
    batch = _flat(0.1, 0.45, 0.5, 0.9, 0.3)
    alone = np.concatenate([detector.score(batch[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(detector.score(batch), alone, atol=1e-7)


def test_extreme_logits_stay_probabilities(tiny_bundle: Bundle):
    detector = Detector(tiny_bundle, device="cpu")
    with np.errstate(all="raise"):
        p = detector.score(_flat(-1e6, 1e6))
    assert 0 <= p[0] < 1e-20
    assert p[1] == 1


def test_a_score_that_is_no_number_is_an_error_and_not_a_verdict(tiny_bundle: Bundle):
    with pytest.raises(ImgscanError, match="not a number"):
        Detector(tiny_bundle, device="cpu").score(_flat(np.nan))


def test_asking_for_cuda_without_one_names_the_remedy(tiny_bundle: Bundle, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ImgscanError, match=r"imgscan\[cuda\]"):
        Detector(tiny_bundle, device="cuda")


def test_auto_falls_back_to_the_cpu_when_the_provider_does_not_load(
    tiny_bundle: Bundle, monkeypatch
):
    """onnxruntime lists CUDA as available, then quietly builds the session without it."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr("scanner.detector.nvidia_driver_present", lambda: True)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    session = ort.InferenceSession
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda graph, options, providers: session(graph, options, ["CPUExecutionProvider"]),
    )
    detector = Detector(tiny_bundle, device="auto")
    assert detector.device == "cpu"
    assert detector.note is not None
    assert "could not be loaded" in detector.note
    assert detector.score(_flat(1.0))[0] > 0.99


def test_auto_falls_back_to_the_cpu_when_cuda_answers_with_no_number(
    tiny_bundle: Bundle, monkeypatch
):
    cuda_seems_there(monkeypatch)
    monkeypatch.setattr(Chain, "__call__", lambda self, pixels: np.full(len(pixels), np.nan))
    detector = Detector(tiny_bundle, device="auto")
    assert detector.device == "cpu"
    assert detector.note is not None
    assert "not a number on device cuda" in detector.note
    with pytest.raises(ImgscanError, match="--device cuda: CUDA failed on a trial batch"):
        Detector(tiny_bundle, device="cuda")


def test_loading_the_cuda_libraries_prints_nothing(tiny_bundle: Bundle, monkeypatch, capsys):
    cuda_seems_there(monkeypatch, preload=lambda: print("Failed to load libcudnn"))
    assert Detector(tiny_bundle, device="auto").device == "cuda"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\x0a\x03abc", "onnxruntime cannot load"), ("swap", "its input must be")],
)
def test_graphs_that_do_not_fit_fail_at_the_start(
    tiny_bundle: Bundle, tmp_path: Path, content: bytes | str, said: str
):
    folder = Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))
    if content == "swap":
        content = (folder / "classifier.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(content)
    path = folder / "bundle.json"
    raw = json.loads(path.read_text())
    raw["files"]["encoder.onnx"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=said):
        Detector(read_bundle(folder), device="cpu")


def test_reconstructions_are_what_the_decoder_makes_of_the_deepest_map(remaking_bundle: Bundle):
    rng = np.random.default_rng(0)
    pixels = rng.random((3, 3, 32, 32), np.float32)
    remade = Detector(remaking_bundle, device="cpu").reconstruct(pixels)
    assert remade is not None
    expected = pixels.reshape(3, 3, 4, 8, 4, 8).mean((3, 5))
    np.testing.assert_allclose(remade, expected, atol=1e-6)


def test_a_decoder_changes_no_score(tiny_bundle: Bundle, remaking_bundle: Bundle):
    batch = _flat(0.1, 0.45, 0.9)
    with_decoder = Detector(remaking_bundle, device="cpu").score(batch)
    np.testing.assert_array_equal(with_decoder, Detector(tiny_bundle, device="cpu").score(batch))


def test_a_bundle_without_a_decoder_has_no_reconstruction(tiny_bundle: Bundle):
    assert Detector(tiny_bundle, device="cpu").reconstruct(_flat(0.5)[0]) is None


def test_a_decoder_of_another_kind_scans_and_says_so_when_it_is_used(
    tiny_bundle: Bundle, remaking_bundle: Bundle, tmp_path: Path
):
    """Earlier versions exported a decoder that takes pixels, beside an encoder of one output."""
    folder = Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))
    content = (remaking_bundle.path / "encoder.onnx").read_bytes()
    (folder / "decoder.onnx").write_bytes(content)
    path = folder / "bundle.json"
    raw = json.loads(path.read_text())
    raw["files"]["decoder.onnx"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(raw))
    detector = Detector(read_bundle(folder), device="cpu")
    assert detector.score(_flat(1.0))[0] > 0.99
    with pytest.raises(BundleError, match=r"decoder\.onnx: takes pixels.*export the run again"):
        detector.reconstruct(_flat(0.5)[0])
