from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_runs import make_data, make_run

from export import bundle as exporting
from export import parity
from export.bundle import export_run
from export.to_onnx import write_graphs
from scanner.bundle import Bundle, read_bundle
from scanner.detector import Detector
from scanner.errors import BundleError, ImgscanError, UsageError
from trainer.checkpoint import load_run
from trainer.config import load_config
from trainer.models import AutoencoderClassifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    data = make_data(folder / "data", {("real", "a"): 4, ("fake", "b"): 4})
    figures = dict.fromkeys(
        ["balanced_accuracy", "recall", "specificity", "precision", "f1", "auc", "ece"], 0.5
    )
    result = {
        "validation": {"half": figures, "youden": figures, "best_f1": figures},
        "pictures": {"train": 4, "val": 4, "holdout": 0},
        "seconds": 60.0,
        "device": "cpu",
        "torch": torch.__version__,
    }
    return make_run(folder / "run", data, {"": "train"}, result=result, views=2)


def test_an_exported_bundle_agrees_with_torch_and_can_be_read(run: Path, tmp_path: Path):
    exported = export_run(run, tmp_path / "bundle", name="tiny")
    assert exported.parity.max_probability_difference <= parity.TOLERANCE
    assert exported.parity.max_reconstruction_difference is not None
    assert exported.parity.max_reconstruction_difference <= parity.RECONSTRUCTION_TOLERANCE
    bundle = read_bundle(tmp_path / "bundle")
    assert (bundle.name, bundle.temperature, bundle.operating_point) == ("tiny", 1.7, "youden")
    assert dict(bundle.thresholds) == {"best_f1": 0.31, "youden": 0.46}
    assert bundle.has_decoder
    assert bundle.training["config"]["preset"] == "tiny"
    assert bundle.metrics["parity"]["pictures"] == len(parity.golden_pictures())
    assert "tiny" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"], "no temporary folder is left"


def test_the_decoder_can_be_left_out_and_moves_no_score(run: Path, tmp_path: Path):
    whole = export_run(run, tmp_path / "whole", name="tiny").bundle
    without = export_run(run, tmp_path / "without", name="tiny", decoder=False)
    assert not without.bundle.has_decoder
    assert without.parity.max_reconstruction_difference is None
    batch = np.random.default_rng(0).random((3, 2, 3, 32, 32), np.float32)
    scores = [Detector(bundle, "cpu").logits(batch) for bundle in (whole, without.bundle)]
    np.testing.assert_array_equal(*scores)


def test_a_run_without_a_decoder_is_exported_without_one_unless_it_was_asked_for(tmp_path: Path):
    config = load_config("cnn", {"encoder_weights": "none", "size": 32})
    model = AutoencoderClassifier(config)
    assert [p.name for p in write_graphs(model, tmp_path, decoder=False)] == [
        "encoder.onnx",
        "classifier.onnx",
    ]
    with pytest.raises(ImgscanError, match="has no decoder"):
        write_graphs(model, tmp_path, decoder=True)


def test_a_decoder_that_differs_from_torch_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest = Detector.reconstruct
    monkeypatch.setattr(Detector, "reconstruct", lambda self, x: honest(self, x) + np.float32(0.01))
    with pytest.raises(ImgscanError, match="decoder's reconstructions differ"):
        export_run(run, tmp_path / "bundle", name="tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_calibration_on_left_out_families_travels_whole(run: Path, tmp_path: Path):
    """Thresholds, the band of unsure, the shift of the logit, and the figures with the card."""
    calibrated = tmp_path / "run"
    shutil.copytree(run, calibrated)
    result = json.loads((run / "result.json").read_text())
    points = {"youden": 0.4, "best_f1": 0.5, "fpr_1pct": 0.9}
    rates = {
        "balanced_accuracy": 0.8, "left_out_generators_called_fake": 0.7,
        "left_out_sources_called_real": 0.9, "worst_source_called_real": 0.625,
        "intervals": {"balanced_accuracy": [0.7, 0.9]},
    }  # fmt: skip
    sure = {
        "coverage": 0.75, "balanced_accuracy_outside": 0.875, "real_called_fake": 0.03,
        "fake_called_fake": 0.6, "worst_real_called_fake": 0.375,
        "intervals": {"real_called_fake": [0.01, 0.05]},
    }  # fmt: skip
    stretch = {"low": 0.0, "high": 1.0, "share": 1.0, "fake": 0.5, "interval": [0.4, 0.6]}
    measured = {
        "clean": {
            "points": dict.fromkeys(points, rates), "auc": 0.906, "ece": 0.0625, "unsure": sure,
            "reliability": [stretch],
        },
    }  # fmt: skip
    left_out = {"shift": 1.5, "measured": measured}
    result |= {"thresholds": points, "unsure": [0.3, 0.6], "left_out": left_out}
    (calibrated / "result.json").write_text(json.dumps(result))

    export_run(calibrated, tmp_path / "bundle", name="tiny")

    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.unsure == (0.3, 0.6)
    assert dict(bundle.thresholds) == points
    assert bundle.metrics["left_out_points"] == measured
    x = np.random.default_rng(0).random((3, 2, 3, 32, 32), np.float32)
    export_run(run, tmp_path / "before", name="tiny")
    before = Detector(read_bundle(tmp_path / "before"), "cpu").logits(x)
    assert Detector(bundle, "cpu").logits(x) - before == pytest.approx(np.full(3, 1.5), abs=1e-4)
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    for figure in (
        "`fpr_1pct` (0.9000)", "0.800 (0.700-0.900)", "0.625", "75.0%", "0.875", "0.300 to 0.600",
        "0.030 (0.010-0.050)", "0.375 of the worst", "0.906", "0.50 (0.40-0.60)",
    ):  # fmt: skip
        assert figure in card
    del measured["clean"]["auc"]
    (calibrated / "result.json").write_text(json.dumps(result))
    with pytest.raises(UsageError, match="by an earlier version; run `trainer calibrate` again"):
        export_run(calibrated, tmp_path / "other", name="tiny")


def test_a_bundle_says_nothing_of_the_machine_it_was_made_on(run: Path, tmp_path: Path):
    export_run(run, tmp_path / "bundle", name="tiny", decoder=True)
    package = str(Path(exporting.__file__).parent.parent)
    for path in (tmp_path / "bundle").iterdir():
        content = path.read_bytes()
        for trace in (b"site-packages", b"stack_trace", b".py", package.encode(), b"/home/"):
            assert trace not in content, f"{path.name}: {trace!r}"


def test_golden_scores_depend_on_the_picture(run: Path, tmp_path: Path):
    """A parity check on pictures that all score alike would pass for any graph."""
    exported = export_run(run, tmp_path / "bundle", name="tiny")
    assert exported.parity.probability_range > 100 * parity.TOLERANCE
    assert not exported.parity.degenerate
    assert exported.bundle.metrics["parity"]["probability_range"] == pytest.approx(
        exported.parity.probability_range
    )


class _Answers:
    """A Detector that answers with torch's logits, changed; of a bundle without a decoder."""

    def __init__(self, bundle: Bundle, model: AutoencoderClassifier, change: Any) -> None:
        self.bundle, self.model, self.change = bundle, model, change

    def logits(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            flat = torch.from_numpy(batch).flatten(0, 1)
            logit = self.model(flat).logit.double().view(len(batch), -1).mean(1).numpy()
        return self.change(logit)


def test_a_difference_that_the_sigmoid_hides_is_seen(run: Path, tmp_path: Path):
    """Above a logit of 20 or so P(fake) is 1, whatever the graph makes of the picture."""
    bundle = export_run(run, tmp_path / "bundle", name="tiny", decoder=False).bundle
    model = load_run(run)[0]
    model.shift_logit(100.0)
    assert parity.measure(model, _Answers(bundle, model, lambda z: z)).agrees
    spoilt = parity.measure(model, _Answers(bundle, model, lambda z: z + 3))
    assert spoilt.max_probability_difference < parity.TOLERANCE
    assert not spoilt.agrees
    assert spoilt.degenerate


def test_a_graph_that_errs_on_single_pictures_is_seen(run: Path, tmp_path: Path):
    bundle = export_run(run, tmp_path / "bundle", name="tiny", decoder=False).bundle
    model = load_run(run)[0]
    spoilt = _Answers(bundle, model, lambda z: z + (1.0 if len(z) == 1 else 0.0))
    assert not parity.measure(model, spoilt).agrees


def test_a_mismatch_is_refused_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def spoilt(model: AutoencoderClassifier, folder: Path, *, decoder: bool) -> list[Path]:
        with torch.no_grad():
            list(model.classifier.parameters())[-1].add_(0.05)
        written = write_graphs(model, folder, decoder=decoder)
        with torch.no_grad():
            list(model.classifier.parameters())[-1].sub_(0.05)
        return written

    export_run(run, tmp_path / "bundle", name="before")
    monkeypatch.setattr(exporting, "write_graphs", spoilt)
    with pytest.raises(ImgscanError, match="differ from the torch model"):
        export_run(run, tmp_path / "bundle", name="after")
    assert read_bundle(tmp_path / "bundle").name == "before", "the older bundle stays"
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_measured_figures_and_notes_travel_with_the_bundle(run: Path, tmp_path: Path):
    figures, notes = tmp_path / "figures.json", tmp_path / "notes.md"
    figures.write_text(json.dumps({"balanced_accuracy": 0.91}))
    notes.write_text("Fitted on *nothing*.")
    out = tmp_path / "bundle"
    export_run(run, out, name="tiny", measured={"holdout": figures}, notes=notes)
    assert read_bundle(out).metrics["holdout"] == {"balanced_accuracy": 0.91}
    assert "Fitted on *nothing*." in (out / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("name", ["validation", "pictures", "parity", ""])
def test_names_of_the_exports_own_figures_are_refused(run: Path, tmp_path: Path, name: str):
    (tmp_path / "figures.json").write_text("{}")
    with pytest.raises(UsageError, match="name another"):
        export_run(
            run, tmp_path / "bundle", name="x", measured={name: tmp_path / "figures.json"}
        )  # fmt: skip


def test_figures_and_notes_that_cannot_be_read_say_so(run: Path, tmp_path: Path):
    bad, out = tmp_path / "bad", tmp_path / "bundle"
    bad.write_text('{"auc": NaN}')
    with pytest.raises(UsageError, match="bad: not valid JSON: NaN"):
        export_run(run, out, name="x", measured={"known": bad})
    bad.write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match="bad: is no UTF-8"):
        export_run(run, out, name="x", notes=bad)


def test_an_export_into_a_folder_that_is_no_bundle_is_refused(run: Path, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"precious")
    with pytest.raises(BundleError, match="no part of a bundle"):
        export_run(run, tmp_path / "photos", name="tiny")
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"precious"


def test_an_unfinished_run_says_how_to_go_on(run: Path, tmp_path: Path):
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    (unfinished / "best.pt").write_bytes((run / "best.pt").read_bytes())
    with pytest.raises(UsageError, match="--resume"):
        export_run(unfinished, tmp_path / "bundle", name="tiny")
    with pytest.raises(UsageError, match="no such checkpoint"):
        export_run(tmp_path / "nowhere", tmp_path / "bundle", name="tiny")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["conv-ae", "transfer-hybrid", "default"])
def test_every_encoder_exports_with_a_dynamic_batch(preset: str, tmp_path: Path):
    config = replace(load_config(preset), encoder_weights="none")
    if preset == "default":
        pytest.importorskip("timm")
    model = AutoencoderClassifier(replace(config, size=64, reconstruction_size=0)).eval()
    with torch.no_grad():
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.mul_(1.5)  # statistics that are not the identity
    parts = {
        "encoder.onnx": lambda x: tuple(reversed(model.encoder(x))),  # features, deepest
        "classifier.onnx": lambda x: (model.classifier(x),),
        "decoder.onnx": lambda x: (model.decoder(x),),
    }
    for path in write_graphs(model, tmp_path, decoder=True):
        graph = onnx.load(path).graph
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param, path.name
        session = parity_session(path)
        for count in (1, 3):
            shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:]]
            x = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)
            answers = session.run(None, {graph.input[0].name: x})
            with torch.inference_mode():
                expected = parts[path.name](torch.from_numpy(x))
            assert len(answers) == len(expected)
            for answer, wanted in zip(answers, expected, strict=True):
                np.testing.assert_allclose(answer, wanted.numpy(), rtol=1e-3, atol=1e-4)


def parity_session(path: Path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_loading_a_run_does_not_need_the_weights_it_began_with(run: Path, tmp_path: Path):
    """A bundle can be exported on a machine that never had the pretrained file."""
    assert load_run(run)[0].encoder is not None
