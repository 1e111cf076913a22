"""Weights on an 8-bit grid become 8-bit constants, and the graph answers the same to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from export.compact import compact, grid_of


def _on_grid(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    q = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
    scale = rng.uniform(1e-4, 1e-2, (1, columns)).astype(np.float32)
    return q * scale


def _graph(path: Path, weight: np.ndarray) -> None:
    rows, columns = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)


def _answers(path: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_weights_on_a_grid_of_their_columns_are_found_to_the_bit() -> None:
    weight = _on_grid(300, 200)

    grid = grid_of(weight)

    assert grid is not None
    assert grid.scale.shape == (1, 200)
    assert np.array_equal(grid.q * grid.scale, weight)


def test_weights_on_a_grid_of_their_rows_are_found_too() -> None:
    weight = np.ascontiguousarray(_on_grid(200, 300).T)

    grid = grid_of(weight)

    assert grid is not None
    assert np.array_equal(grid.q * grid.scale, weight)


def test_trained_weights_have_no_grid_and_stay_as_they_are(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((300, 300), np.float32)
    _graph(tmp_path / "g.onnx", weight)
    before = (tmp_path / "g.onnx").read_bytes()

    assert grid_of(weight) is None
    assert compact(tmp_path / "g.onnx") == 0
    assert (tmp_path / "g.onnx").read_bytes() == before


def test_a_column_that_is_off_by_one_bit_is_not_rounded_onto_the_grid() -> None:
    weight = _on_grid(300, 200)
    row = int(np.abs(weight[:, 7]).argmin())
    weight[row, 7] = np.nextafter(weight[row, 7], np.float32(1)) + np.float32(1e-9)

    assert grid_of(weight) is None


def test_a_column_of_zeros_is_on_any_grid() -> None:
    weight = _on_grid(300, 200)
    weight[:, 3] = 0

    grid = grid_of(weight)

    assert grid is not None
    assert np.array_equal(grid.q * grid.scale, weight)


def test_a_compact_graph_takes_a_quarter_and_answers_the_same(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    _graph(path, _on_grid(512, 512))
    x = np.random.default_rng(1).standard_normal((4, 512), np.float32)
    size, answers = path.stat().st_size, _answers(path, x)

    assert compact(path) == 1

    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert path.stat().st_size < 0.3 * size
    assert np.array_equal(_answers(path, x), answers)
