"""What CUDA alone goes through: bindings, and half precision. All but the provider runs here."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from cuda_fakes import cuda_seems_there

from scanner.bundle import EMBEDDED, HALF_ENCODER, Bundle, read_bundle
from scanner.chain import Chain
from scanner.detector import Detector
from scanner.errors import BundleError
from scanner.half import TOLERANCE, objection, probe_pictures
from scanner.preprocess import PreprocessSpec

on_gpu = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA device")


def _chain(bundle: Bundle) -> Chain:
    sessions = [
        ort.InferenceSession(bundle.graph(name), providers=["CPUExecutionProvider"])
        for name in ("encoder.onnx", "classifier.onnx")
    ]
    return Chain(*sessions, features="features", memory="cpu")


@pytest.mark.parametrize("which", ["tiny", "remaking", "fast"])
def test_bound_features_give_the_same_logits_to_the_bit(
    which: str, tiny_bundle: Bundle, remaking_bundle: Bundle
):
    """Also of encoders with a second output, which is neither bound nor fetched."""
    bundle = {"tiny": tiny_bundle, "remaking": remaking_bundle}.get(which)
    bundle = bundle or read_bundle(EMBEDDED[which])
    pictures = probe_pictures(bundle.spec)[:4]
    chain = _chain(bundle)
    found = [float(np.ravel(chain(picture))[0]) for picture in pictures]
    expected = Detector(bundle, "cpu").logits(pictures)
    np.testing.assert_array_equal(found, expected)
    assert np.ptp(expected) > 0.01


def test_bound_logits_stay_when_others_are_computed(tiny_bundle: Bundle):
    chain = _chain(tiny_bundle)
    pictures = probe_pictures(tiny_bundle.spec)
    first = chain(pictures[0])
    kept = first.copy()
    for picture in pictures[1:]:
        chain(picture)
    np.testing.assert_array_equal(first, kept)


def test_a_picture_that_is_a_view_of_another_array_is_bound_as_it_looks(tiny_bundle: Bundle):
    strided = np.random.default_rng(0).random((2, 32, 32, 3), np.float32).transpose(0, 3, 1, 2)
    chain = _chain(tiny_bundle)
    np.testing.assert_array_equal(chain(strided), chain(strided.copy(order="C")))


def test_on_cuda_scores_go_through_bindings_alone_in_batches_of_one_shape(
    remaking_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    expected = Detector(remaking_bundle, "cpu").score(probe_pictures(remaking_bundle.spec)[:5])
    made = cuda_seems_there(monkeypatch)
    detector = Detector(remaking_bundle, "cuda", cuda_batch=3)
    before = [session.bound_runs for session in made]
    shapes = []
    call = Chain.__call__
    monkeypatch.setattr(Chain, "__call__", lambda self, x: shapes.append(x.shape) or call(self, x))
    found = detector.score(probe_pictures(remaking_bundle.spec)[:5])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert shapes == [(3, 3, 32, 32)] * 2
    assert [s.bound_runs - b for s, b in zip(made, before, strict=True)] == [2, 2]
    assert not any(session.runs for session in made)


def test_threads_that_score_at_the_same_time_do_not_mix_their_features(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    cuda_seems_there(monkeypatch)
    detector = Detector(tiny_bundle, "cuda", cuda_batch=2)
    pictures = probe_pictures(tiny_bundle.spec)
    alone = [detector.score(picture[None])[0] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: detector.score(pictures[i % 16][None])[0], range(400)))
    assert together == alone * 25


def test_half_precision_is_used_on_cuda_and_not_on_the_cpu(
    half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    pictures = probe_pictures(half_bundle.spec)
    on_cpu = Detector(half_bundle, "cpu")
    full = on_cpu.score(pictures)
    cuda_seems_there(monkeypatch)
    on_cuda = Detector(half_bundle, "cuda")
    assert (on_cpu.half, on_cuda.half, on_cuda.note) == (False, True, None)
    found = on_cuda.score(pictures)
    assert 0 < np.abs(found - full).max() <= TOLERANCE, "0 would be float32"
    assert Detector(half_bundle, "cuda", half=False).half is False


def test_a_bundle_without_half_precision_runs_in_float32_and_has_nothing_to_say(
    remaking_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    cuda_seems_there(monkeypatch)
    detector = Detector(remaking_bundle, "cuda")
    assert (detector.device, detector.half, detector.note) == ("cuda", False, None)


def test_half_precision_that_scores_otherwise_is_refused_with_a_note(
    wrong_half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    pictures = probe_pictures(wrong_half_bundle.spec)
    cuda_seems_there(monkeypatch)
    detector = Detector(wrong_half_bundle, "cuda")
    assert (detector.device, detector.half) == ("cuda", False)
    assert detector.note is not None
    assert "half precision was refused: P(fake) differs by" in detector.note
    full = Detector(wrong_half_bundle, "cuda", half=False).score(pictures)
    np.testing.assert_array_equal(detector.score(pictures), full)


def test_half_precision_that_overflows_is_refused(
    half_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    load = Detector._load_encoder

    def overflowing(self, name, provider):
        encoder = load(self, name, provider)
        chain = encoder.chain
        if name == HALF_ENCODER:
            chain = lambda pixels: np.full(len(pixels), np.inf, np.float32)  # noqa: E731
        return encoder._replace(chain=chain)

    monkeypatch.setattr(Detector, "_load_encoder", overflowing)
    cuda_seems_there(monkeypatch)
    detector = Detector(half_bundle, "cuda")
    assert detector.note is not None
    assert "refused" in detector.note
    assert "not a number" in detector.note
    assert np.isfinite(detector.score(probe_pictures(half_bundle.spec))).all()


@pytest.mark.parametrize("content", [b"\x0a\x03abc", "classifier.onnx"])
def test_half_precision_that_cannot_run_is_refused_and_the_scan_goes_on(
    half_bundle: Bundle, tmp_path: Path, content: bytes | str
):
    if isinstance(content, str):
        content = (half_bundle.path / content).read_bytes()
    bundle = read_bundle(_with_half(half_bundle, tmp_path / "bundle", content))
    detector = Detector(bundle, "cpu", half=True)
    assert detector.half is False
    assert detector.note is not None
    assert HALF_ENCODER in detector.note
    pictures = probe_pictures(bundle.spec)
    np.testing.assert_array_equal(detector.score(pictures), Detector(bundle, "cpu").score(pictures))


def test_half_precision_changes_no_reconstruction(half_bundle: Bundle, remaking_bundle: Bundle):
    half = Detector(half_bundle, "cpu", half=True)
    assert half.half is True
    pixels = probe_pictures(half_bundle.spec)[:, 0]
    expected = Detector(remaking_bundle, "cpu").reconstruct(pixels)
    np.testing.assert_array_equal(half.reconstruct(pixels), expected)


def test_an_encoder_in_half_precision_is_guarded_as_the_others_are(
    half_bundle: Bundle, tmp_path: Path
):
    """Its hash, and no data in other files."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(half_bundle.path / HALF_ENCODER)
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "../../secret"
    folder = _with_half(half_bundle, tmp_path / "bundle", model.SerializeToString())
    with pytest.raises(BundleError, match=r"encoder\.fp16\.onnx: refers to external data"):
        read_bundle(folder)
    (folder / HALF_ENCODER).write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"encoder\.fp16\.onnx: sha256"):
        read_bundle(folder)


@pytest.mark.parametrize("size", [16, 32, 224])
def test_probe_pictures_are_the_same_each_time_and_none_like_another(size: int):
    spec = PreprocessSpec(size=size, views=2)
    pictures = probe_pictures(spec)
    assert pictures.shape == (16, 2, 3, size, size)
    np.testing.assert_array_equal(pictures, probe_pictures(spec))
    deviations = pictures.std(axis=(3, 4))
    assert deviations.min() < 1e-6
    assert deviations.max() > 0.25
    assert len({picture.tobytes() for picture in pictures}) == 16


@pytest.mark.parametrize(
    ("half", "refused"), [(0.5 + TOLERANCE * 0.99, False), (0.506, True), (np.nan, True)]
)
def test_half_precision_may_differ_by_its_tolerance(half: float, refused: bool):
    full = np.array([0.1, 0.5])
    assert (objection(np.array([0.1, half]), full) is not None) == refused


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("which", ["tiny", "fast"])
def test_cuda_agrees_with_the_cpu(which: str, tiny_bundle: Bundle):
    bundle = tiny_bundle if which == "tiny" else read_bundle(EMBEDDED[which])
    pictures = probe_pictures(bundle.spec)
    on_cuda = Detector(bundle, device="cuda", half=False)
    assert on_cuda.device == "cuda"
    # TF32, which onnxruntime lets convolutions and products use, keeps ten bits of each factor.
    expected = Detector(bundle, device="cpu").score(pictures)
    np.testing.assert_allclose(on_cuda.score(pictures), expected, atol=TOLERANCE)


@pytest.mark.gpu
@on_gpu
def test_half_precision_on_cuda_agrees_with_the_cpu(half_bundle: Bundle):
    pictures = probe_pictures(half_bundle.spec)
    on_cuda = Detector(half_bundle, device="cuda")
    assert on_cuda.half, on_cuda.note
    expected = Detector(half_bundle, device="cpu").score(pictures)
    np.testing.assert_allclose(on_cuda.score(pictures), expected, atol=2 * TOLERANCE)


def _with_half(bundle: Bundle, folder: Path, content: bytes) -> Path:
    """A copy of `bundle` whose encoder in half precision is `content`."""
    shutil.copytree(bundle.path, folder)
    (folder / HALF_ENCODER).write_bytes(content)
    path = folder / "bundle.json"
    raw = json.loads(path.read_text())
    raw["files"][HALF_ENCODER] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(raw))
    return folder
