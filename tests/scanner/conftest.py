from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanner.bundle import Bundle
from scanner.bundle_writing import write_bundle
from scanner.preprocess import PreprocessSpec


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle whose P(fake) grows with brightness: black near 0, white near 1."""
    return _write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", decoder=False)


@pytest.fixture(scope="session")
def remaking_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """`tiny_bundle` with a decoder: what it remakes is 4 x 4 pixels, means of 8 x 8 each."""
    return _write_bundle(tmp_path_factory.mktemp("bundle") / "remaking", decoder=True)


@pytest.fixture(scope="session")
def half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """`remaking_bundle` with an encoder in half precision too."""
    return _write_bundle(tmp_path_factory.mktemp("bundle") / "half", decoder=True, half=1.0)


@pytest.fixture(scope="session")
def wrong_half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, whose features in half precision are a tenth too large."""
    return _write_bundle(tmp_path_factory.mktemp("bundle") / "wrong", decoder=True, half=1.1)


def _write_bundle(out: Path, *, decoder: bool, half: float | None = None) -> Bundle:
    """`half`: what the features are multiplied by in encoder.fp16.onnx; None writes none."""
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    out.mkdir()
    pixels = helper.make_tensor_value_info("pixels", floats, ["N", 3, 32, 32])
    features = helper.make_tensor_value_info("features", floats, ["N", 3])
    logit = helper.make_tensor_value_info("logit", floats, ["N"])
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    outputs = [features]
    if decoder:
        outputs.append(helper.make_tensor_value_info("deepest", floats, ["N", 3, 4, 4]))
        size = {"kernel_shape": [8, 8], "strides": [8, 8]}
        nodes.append(helper.make_node("AveragePool", ["pixels"], ["deepest"], **size))
        rgb = helper.make_tensor_value_info("reconstruction", floats, ["N", 3, 4, 4])
        remake = helper.make_node("Identity", ["deepest"], ["reconstruction"])
        graph = helper.make_graph([remake], "decoder", [outputs[1]], [rgb])
        _save(onnx, graph, out / "decoder.onnx")
    _save(onnx, helper.make_graph(nodes, "encoder", [pixels], outputs), out / "encoder.onnx")
    if half is not None:
        nodes = [
            helper.make_node("Cast", ["pixels"], ["small"], to=onnx.TensorProto.FLOAT16),
            helper.make_node("GlobalAveragePool", ["small"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Mul", ["flat", "factor"], ["product"]),
            helper.make_node("Cast", ["product"], ["features"], to=floats),
        ]
        factor = onnx.numpy_helper.from_array(np.float16(half), "factor")
        graph = helper.make_graph(nodes, "half", [pixels], [features], [factor])
        _save(onnx, graph, out / "encoder.fp16.onnx")
    constants = {
        "weight": np.full((3, 1), 10 / 3, np.float32),
        "bias": np.full(1, -5, np.float32),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["features", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Squeeze", ["sum", "axis"], ["logit"]),
    ]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "classifier", [features], [logit], weights)
    _save(onnx, graph, out / "classifier.onnx")
    (out / "MODEL_CARD.md").write_text("# Tiny\n", encoding="utf-8")
    return write_bundle(
        out,
        name="tiny",
        spec=PreprocessSpec(size=32),
        thresholds={"youden": 0.5, "best_f1": 0.25},
        operating_point="youden",
        temperature=1.0,
        metrics={},
        training={},
    )


def _save(onnx: object, graph: object, path: Path) -> None:
    model = onnx.helper.make_model(  # type: ignore[attr-defined]
        graph,
        opset_imports=[onnx.helper.make_opsetid("", 17)],  # type: ignore[attr-defined]
        ir_version=9,
    )
    onnx.save(model, path)  # type: ignore[attr-defined]
