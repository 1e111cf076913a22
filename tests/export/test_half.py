"""encoder.fp16.onnx: what stays float32 in it, and when it is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from tiny_runs import make_data, make_run

from export import bundle as exporting
from export.bundle import export_run
from export.cli import command
from export.compact import compact
from export.half import rounding, to_half, write_half
from export.parity import golden_pictures, measure_half
from scanner.bundle import EMBEDDED, HALF_ENCODER, Bundle, read_bundle
from scanner.bundle_writing import write_bundle
from scanner.detector import Detector
from scanner.half import TOLERANCE
from scanner.preprocess import prepare


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The embedded bundle with half precision, in which the CPU rounds as a GPU would."""
    return _with_half(EMBEDDED["fast"], tmp_path_factory.mktemp("fast") / "bundle", rounded=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half")
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


def _model(nodes: list, weights: dict[str, np.ndarray], width: int, out: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", out])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _answer(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _deviation(width: int) -> onnx.ModelProto:
    """The deviation of `x` times ones, [n, width]; its squares are beyond what half can hold."""
    node = helper.make_node
    return _model(
        [
            node("MatMul", ["x", "ones"], ["y"]),
            node("ReduceMean", ["y", "axis"], ["mean"], keepdims=1),
            node("Sub", ["y", "mean"], ["centred"]),
            node("Pow", ["centred", "two"], ["squares"]),
            node("ReduceMean", ["squares", "axis"], ["variance"], keepdims=1),
            node("Sqrt", ["variance"], ["features"]),
        ],
        {
            "ones": np.eye(width, dtype=np.float32),
            "axis": np.array([1]),
            "two": np.float32(2).reshape(()),
        },
        width,
        1,
    )


def test_a_deviation_is_computed_in_float32_without_a_detour_through_half() -> None:
    model = _deviation(64)
    x = np.random.default_rng(0).normal(0, 2000, (4, 64)).astype(np.float32)
    assert (x**2).max() > np.finfo(np.float16).max

    found = _answer(rounding(to_half(model)), x)

    # The half that goes into the first product is all that is lost.
    expected = _answer(model, x.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_products_are_computed_in_half() -> None:
    half = to_half(_deviation(64))
    kinds = {t.name: t.data_type for t in half.graph.initializer}
    assert kinds["ones"] == TensorProto.FLOAT16
    x = np.full((1, 64), 1e6, np.float32)
    x[0, 0] = 0
    assert not np.isfinite(_answer(rounding(half), x)).all(), "1e6 is more than half can hold"


def test_roundings_are_seen_on_the_cpu_though_its_kernels_leave_them_out() -> None:
    """A sum in half of 2048 and 1 is 2048; in float32 it is 2049."""
    node = helper.make_node
    nodes = [node("MatMul", ["x", "ones"], ["y"]), node("Add", ["y", "one"], ["z"])]
    nodes.append(node("MatMul", ["z", "ones"], ["features"]))
    weights = {"ones": np.eye(1, dtype=np.float32), "one": np.ones(1, np.float32)}
    half = to_half(_model(nodes, weights, 1, 1))
    assert _answer(rounding(half), np.full((1, 1), 2048, np.float32)) == 2048


def test_what_goes_in_and_out_stays_float32_and_the_given_graph_as_it_was() -> None:
    model = _deviation(64)
    before = model.SerializeToString()
    half = to_half(model)
    assert model.SerializeToString() == before
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [v.name for v in (*half.graph.input, *half.graph.output)] == ["x", "features"]


def test_eight_bit_weights_stay_integers_and_are_rounded_to_half_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale = rng.uniform(1e-6, 1e-2, (1, 512)).astype(np.float32)  # the least is no normal half
    weight = rng.integers(-127, 128, (512, 512)).astype(np.int8) * scale
    path, out = tmp_path / "encoder.onnx", tmp_path / HALF_ENCODER
    product = helper.make_node("MatMul", ["x", "w"], ["features"])
    onnx.save(_model([product], {"w": weight}, 512, 512), path)
    assert compact(path) == 1

    write_half(path, out)

    assert out.stat().st_size < 1.1 * path.stat().st_size
    half = onnx.load(out)
    integers = [t for t in half.graph.initializer if t.data_type == TensorProto.INT8]
    assert [list(t.dims) for t in integers] == [[512, 512]]
    found = _answer(rounding(half), np.eye(512, dtype=np.float32))
    np.testing.assert_array_equal(found, weight.astype(np.float16).astype(np.float32))


def test_the_embedded_encoder_holds_in_half_the_room(fast: Bundle, tmp_path: Path) -> None:
    write_half(fast.path / "encoder.onnx", tmp_path / HALF_ENCODER)
    size = (fast.path / "encoder.onnx").stat().st_size
    assert (tmp_path / HALF_ENCODER).stat().st_size < 0.55 * size
    parity = measure_half(fast)
    assert parity.problem is None
    assert 0.001 < parity.max_probability_difference <= TOLERANCE


@pytest.mark.slow
def test_the_accurate_embedded_encoder_holds_too_and_stays_in_eight_bits(tmp_path: Path) -> None:
    bundle = _with_half(EMBEDDED["accurate"], tmp_path / "bundle", rounded=True)
    sizes = [(bundle.path / n).stat().st_size for n in (HALF_ENCODER, "encoder.onnx")]
    assert sizes[0] <= sizes[1]
    assert measure_half(bundle).problem is None


def test_a_picture_that_changes_sides_of_the_threshold_is_a_problem(fast: Bundle) -> None:
    batch = np.stack([prepare(rgb, fast.spec) for rgb in golden_pictures()])
    full, half = (Detector(fast, "cpu", half=h).score(batch) for h in (False, True))
    widest = int(np.abs(half - full).argmax())
    between = float(half[widest] + full[widest]) / 2
    moved = replace(fast, thresholds={**fast.thresholds, fast.operating_point: between})
    problem = measure_half(moved).problem
    assert problem is not None
    assert "of 16 golden pictures change sides of the threshold" in problem


def test_half_precision_is_written_only_when_it_is_asked_for(run: Path, tmp_path: Path) -> None:
    without = export_run(run, tmp_path / "without", name="tiny")
    assert without.half is None
    assert not without.bundle.has_half

    out = tmp_path / "bundle"
    asked = ["onnx", str(run), "--out", str(out), "--name", "tiny", "--half"]
    done = CliRunner().invoke(command, asked)

    assert done.exit_code == 0, done.output
    bundle = read_bundle(out)
    assert bundle.has_half
    difference = bundle.metrics["parity"]["half_max_probability_difference"]
    assert 0 < difference <= TOLERANCE
    assert f"P(fake) differs from float32 by at most {difference:.1e}" in done.output
    for name in ("encoder.onnx", "classifier.onnx", "decoder.onnx"):
        assert bundle.files[name] == without.bundle.files[name]
    assert [o.name for o in onnx.load(out / HALF_ENCODER).graph.output] == ["features"]
    kinds = {node.op_type for node in onnx.load(out / HALF_ENCODER).graph.node}
    assert "Concat" not in kinds, "the graph for measuring is not the one that stays"
    detector = Detector(bundle, "cpu", half=True)
    assert (detector.half, detector.note) == (True, None)


def test_half_precision_that_differs_is_left_out_and_a_line_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(encoder: Path, path: Path, *, rounded: bool) -> None:
        write_half(encoder, path, rounded=rounded)
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16 and len(tensor.dims) == 4:
                values = numpy_helper.to_array(tensor) * np.float16(1.5)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(model, path)

    monkeypatch.setattr(exporting, "write_half", spoilt)
    out = tmp_path / "bundle"
    done = CliRunner().invoke(command, ["onnx", str(run), "--out", str(out), "--half"])
    assert done.exit_code == 0, done.output
    assert f"{HALF_ENCODER} is left out: " in done.output
    assert "P(fake) differs by" in done.output
    bundle = read_bundle(out)
    assert not bundle.has_half
    assert not (out / HALF_ENCODER).exists()
    assert "half_max_probability_difference" not in bundle.metrics["parity"]


def _with_half(embedded: Path, folder: Path, *, rounded: bool) -> Bundle:
    """A copy of an embedded bundle, with half precision."""
    shutil.copytree(embedded, folder)
    write_half(folder / "encoder.onnx", folder / HALF_ENCODER, rounded=rounded)
    raw = json.loads((folder / "bundle.json").read_text("utf-8"))
    kept = ("name", "thresholds", "operating_point", "temperature", "metrics", "training")
    return write_bundle(folder, spec=read_bundle(embedded).spec, **{key: raw[key] for key in kept})
