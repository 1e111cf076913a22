"""A graph with dynamically quantised products, made one with the products in float32.

As `onnxruntime.quantization.quantize_dynamic` writes it, a product of x and a constant matrix is

    DynamicQuantizeLinear(x), MatMulInteger, Cast, Mul by both scales

On processors without VNNI the 8-bit products saturate, and the answers are wrong; with float32
they are the same on all. The weights stay those of the 8-bit graph: (q - zero_point) * scale.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper, numpy_helper

from trainer.clip import dequantised


def exact_graph(quantised: bytes) -> bytes:
    """The same graph without integer products; ValueError where they are laid out otherwise."""
    model = onnx.load_from_string(quantised)
    graph = model.graph
    constants = {item.name: item for item in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    instead: dict[str, Any] = {}  # by what the last of the four nodes gave
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        source = maker.get(node.input[0])
        cast = _only(users, node, "Cast")
        scaled = _only(users, cast, "Mul")
        stem = node.input[1].removesuffix("_quantized")
        parts = [constants.get(stem + end) for end in ("_quantized", "_scale", "_zero_point")]
        if source is None or source.op_type != "DynamicQuantizeLinear" or None in parts:
            raise ValueError(f"{node.name}: not a product as quantize_dynamic writes it")
        weight = dequantised(*(numpy_helper.to_array(part) for part in parts))
        graph.initializer.append(numpy_helper.from_array(weight, f"{stem}_exact"))
        instead[scaled.output[0]] = helper.make_node(
            "MatMul", [source.input[0], f"{stem}_exact"], [scaled.output[0]]
        )
    _keep(graph, [instead.get(node.output[0], node) for node in graph.node])
    exact: bytes = model.SerializeToString()
    return exact


def _only(users: dict[str, list[Any]], node: Any, kind: str) -> Any:
    """The one node that takes what `node` gives, of the kind that is expected there."""
    found = users.get(node.output[0], [])
    if len(found) != 1 or found[0].op_type != kind:
        raise ValueError(f"{node.name}: not a product as quantize_dynamic writes it")
    return found[0]


def _keep(graph: Any, nodes: list[Any]) -> None:
    """Leave in `graph` those of `nodes` that its outputs need, and their constants."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(nodes):  # they are sorted: what a node takes stands before it
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [item for item in graph.initializer if item.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
