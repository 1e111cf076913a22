from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanner.bundle import Bundle, write_bundle
from scanner.preprocess import PreprocessSpec


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle whose P(fake) grows with brightness: black near 0, white near 1."""
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    out.mkdir()
    pixels = helper.make_tensor_value_info("pixels", floats, ["N", 3, 32, 32])
    features = helper.make_tensor_value_info("features", floats, ["N", 3])
    logit = helper.make_tensor_value_info("logit", floats, ["N"])
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    _save(onnx, helper.make_graph(nodes, "encoder", [pixels], [features]), out / "encoder.onnx")
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
