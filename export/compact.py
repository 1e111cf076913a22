"""Weights that lie on an 8-bit grid, stored as the 8-bit integers they are.

CLIP's weights come to us as integers with a scale for each output (trainer/clip.py). In a graph
they would take four times the room as float32. Here they become int8 constants that the graph
casts and multiplies by their scales: the same float32 numbers to the bit, made once when
a session opens (constant folding), and all arithmetic stays float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
_LEAST = 65_536  # values below which a tensor is not worth two more nodes


class Grid(NamedTuple):
    """`q * scale` is the tensor; q is int8 [A, B], scale float32 [A, 1] or [1, B]."""

    q: npt.NDArray[np.int8]
    scale: Floats


def compact(path: Path) -> int:
    """Rewrite the graph at `path`; returns how many tensors became 8-bit."""
    model = onnx.load(path)
    graph = model.graph
    nodes, tensors, found = [], [], 0
    for tensor in graph.initializer:
        large = len(tensor.dims) == 2 and tensor.dims[0] * tensor.dims[1] >= _LEAST
        grid = None
        if large and tensor.data_type == TensorProto.FLOAT:
            grid = grid_of(numpy_helper.to_array(tensor))
        if grid is None:
            tensors.append(tensor)
            continue
        found += 1
        name = tensor.name
        tensors.append(numpy_helper.from_array(grid.q, f"{name}.q"))
        tensors.append(numpy_helper.from_array(grid.scale, f"{name}.scale"))
        nodes.append(helper.make_node("Cast", [f"{name}.q"], [f"{name}.f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.f", f"{name}.scale"], [name]))
    if found:
        nodes += graph.node
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensors)
        onnx.save(model, path)
    return found


def grid_of(values: Floats) -> Grid | None:
    """The 8-bit grid on which all of `values`, [A, B], lie to the bit, one scale a row or column.

    None where there is none, as with weights that were trained in floating point.
    """
    by_row = _rows_on_grid(values)
    if by_row is not None:
        return by_row
    by_column = _rows_on_grid(np.ascontiguousarray(values.T))
    if by_column is None:
        return None
    return Grid(np.ascontiguousarray(by_column.q.T), np.ascontiguousarray(by_column.scale.T))


def _rows_on_grid(values: Floats) -> Grid | None:
    q = np.empty(values.shape, np.int8)
    scales = np.empty((len(values), 1), np.float32)
    for index, row in enumerate(values):
        found = _row_on_grid(row)
        if found is None:
            return None
        q[index], scales[index] = found
    return Grid(q, scales)


def _row_on_grid(row: Floats) -> tuple[npt.NDArray[np.int8], np.float32] | None:
    largest = np.abs(row).max()
    if largest == 0:
        return np.zeros(row.shape, np.int8), np.float32(1)
    # The largest value stands on a whole number of steps; which one is tried, finest last.
    for steps in range(127, 0, -1):
        near = np.float32(largest / np.float32(steps))
        q = np.rint(row / near)
        if np.abs(q * near - row).max() > near * 1e-3:
            continue
        # The division rounds: the scale itself may be a neighbour.
        for scale in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, largest)):
            if np.array_equal((q * scale).astype(np.float32), row):
                return q.astype(np.int8), np.float32(scale)
    return None
