"""encoder.onnx -> encoder.fp16.onnx: the same graph in half precision, for GPUs.

Convolutions and matrix products are computed in half; what loses there stays float32: means,
variances, normalisations, exponentials, depthwise convolutions, and all that is made of them up to
the next product. The 8-bit weights of export/compact.py stay the integers they are, and are
rounded to half once, when a session opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from scanner.graphs import DEEPEST

# Sums over many values, squares (65,504 is the largest half), roots of small differences, and
# exponentials.
_LOSES = {
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp"),
    *("GlobalAveragePool", "CumSum", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Softmax"),
    *("LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
    *("RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "BatchNormalization"),
    *("Div", "Range", "Min", "Max", "TopK"),
}
# What takes the time, and adds its products up in float32 whatever they are stored in.
_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Attention"}


def write_half(encoder: Path, path: Path, *, rounded: bool = False) -> None:
    """Write at `path` the graph of `encoder` in half precision, inputs and outputs float32.

    Its one output is the features: what a decoder draws from is float32's alone. `rounded`
    writes the graph of `rounding` instead, which is for measuring alone.
    """
    model = to_half(onnx.load(encoder))
    model = rounding(model) if rounded else model
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def to_half(model: Any) -> Any:
    """A ModelProto of float32 -> a new one in half precision; see the module."""
    # Imported here: it is a package of its own size, and only some exports need it.
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    for output in [o for o in graph.output if o.name == DEEPEST]:
        graph.output.remove(output)
    for index, node in enumerate(graph.node):
        node.name = f"n{index}"  # the converter takes names, and compact()'s nodes have none
    kept = _stay_float(graph)
    half = convert_float_to_float16(
        copied,
        keep_io_types=True,
        op_block_list=DEFAULT_OP_BLOCK_LIST,
        node_block_list=sorted(kept),
    )
    del half.graph.value_info[:]  # of values that are gone, some of them twice
    _tidy(half.graph)
    return half


def rounding(half: Any) -> Any:
    """What `to_half` made -> a ModelProto whose roundings the CPU cannot leave out.

    onnxruntime's CPU provider has few kernels for half. It computes the others in float32 and
    drops the casts between them, so that it would measure a precision that no GPU has. Here each
    value in half goes through a Concat of it alone, which has such a kernel.
    """
    model = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    shaped = {
        value.name
        for value in model.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
        and value.type.tensor_type.shape.dim  # a scalar cannot be joined
    }
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in shaped:
                node.output[index] = f"{name}.unrounded"
                nodes.append(onnx.helper.make_node("Concat", [node.output[index]], [name], axis=0))
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    del rounded.graph.node[:], rounded.graph.value_info[:]
    rounded.graph.node.extend(nodes)
    return rounded


def _stay_float(graph: Any) -> set[str]:
    """Names of the nodes that are computed in float32."""
    constant = {tensor.name for tensor in graph.initializer}
    floating: set[str] = set()  # values that come out of such nodes
    kept = set()
    for node in graph.node:
        inputs = [name for name in node.input if name]
        dequantised = bool(inputs) and constant.issuperset(inputs)
        if dequantised:
            constant.update(node.output)
        flows_on = node.op_type not in _PRODUCTS and not floating.isdisjoint(inputs)
        if dequantised or node.op_type in _LOSES or flows_on or _depthwise(node):
            kept.add(node.name)
            if not dequantised:
                floating.update(node.output)
    return kept


def _depthwise(node: Any) -> bool:
    """A convolution whose sums are of a few products each, too few for roundings to cancel.

    On the embedded model these make up half of what half precision costs, and they are a
    tenth of the arithmetic.
    """
    return node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)


def _tidy(graph: Any) -> None:
    """Take out what the converter leaves: casts made twice, detours through half, disorder.

    Between two float32 nodes it casts to half and back, which would lose what was to be kept.
    """
    made = {name: node for node in graph.node for name in node.output}
    renamed: dict[str, str] = {}
    nodes, seen = [], set()
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in seen:
            continue  # a cast of one value for each of its readers, all of one name
        seen.update(node.output)
        nodes.append(node)
        if _casts_to(node, TensorProto.FLOAT):
            before = made.get(node.input[0])
            if before is not None and _casts_to(before, TensorProto.FLOAT16):
                renamed[node.output[0]] = before.input[0]
    outputs = {output.name for output in graph.output}
    for node in nodes:
        if node.output[0] in outputs and node.output[0] in renamed:
            node.op_type = "Identity"  # the name of a graph's output is its contract
            node.input[0] = renamed[node.output[0]]
            del node.attribute[:]
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    del graph.node[:]
    graph.node.extend(_ordered(_used(nodes, outputs), _known(graph)))


def _casts_to(node: Any, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)


def _known(graph: Any) -> set[str]:
    return {"", *(value.name for value in graph.input), *(t.name for t in graph.initializer)}


def _used(nodes: list[Any], outputs: set[str]) -> list[Any]:
    """Those that an output needs."""
    made = {name: index for index, node in enumerate(nodes) for name in node.output}
    needed: set[int] = set()
    open_names = list(outputs)
    while open_names:
        index = made.get(open_names.pop())
        if index is not None and index not in needed:
            needed.add(index)
            open_names.extend(nodes[index].input)
    return [node for index, node in enumerate(nodes) if index in needed]


def _ordered(nodes: list[Any], known: set[str]) -> Iterator[Any]:
    """Each behind those it needs, as ONNX asks; the converter appends its own at the end."""
    known = set(known)
    waiting = nodes
    while waiting:
        left = []
        for node in waiting:
            if known.issuperset(node.input):
                known.update(node.output)
                yield node
            else:
                left.append(node)
        if len(left) == len(waiting):
            raise ValueError("the graph has a cycle")
        waiting = left
