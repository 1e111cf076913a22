from __future__ import annotations

import numpy as np
import pytest

from scanner.onnx_guard import external_data_in

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def _external_tensor(name: str = "w"):
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return tensor


def _model(*, initializers=(), nodes=(), functions=()) -> bytes:
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    graph = helper.make_graph(list(nodes), "g", [], [out], list(initializers))
    return helper.make_model(graph, functions=list(functions)).SerializeToString()


def _constant(tensor):
    return helper.make_node("Constant", [], ["y"], value=tensor)


def _subgraph(*, initializers=(), nodes=()):
    return helper.make_graph(list(nodes), "sub", [], [], list(initializers))


def test_a_model_that_holds_its_own_weights_is_accepted():
    weights = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    model = _model(initializers=[weights], nodes=[_constant(weights)])
    assert not external_data_in(model)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: _model(initializers=[_external_tensor()]), id="initializer"),
        pytest.param(lambda: _model(nodes=[_constant(_external_tensor())]), id="constant"),
        pytest.param(
            lambda: _model(
                nodes=[
                    helper.make_node(
                        "If",
                        ["c"],
                        ["y"],
                        then_branch=_subgraph(initializers=[_external_tensor()]),
                        else_branch=_subgraph(),
                    )
                ]
            ),
            id="initializer-of-a-branch",
        ),
        pytest.param(
            lambda: _model(
                functions=[
                    helper.make_function("d", "f", [], ["y"], [_constant(_external_tensor())], [])
                ]
            ),
            id="function",
        ),
    ],
)
def test_external_data_is_found_wherever_a_tensor_can_stand(model):
    assert external_data_in(model())


def test_a_location_without_the_external_flag_is_found_too():
    tensor = _external_tensor()
    tensor.data_location = onnx.TensorProto.DEFAULT
    assert external_data_in(_model(initializers=[tensor]))


@pytest.mark.parametrize("junk", [b"\xff" * 40, b"PK\x03\x04" + b"x" * 60, b"\x3a\xff\xff\xff\x7f"])
def test_what_is_no_protobuf_is_refused(junk):
    with pytest.raises(ValueError, match="ONNX"):
        external_data_in(junk)


def test_endless_nesting_is_refused():
    node = b""
    for _ in range(200):  # Graph.node(1) > Node.attribute(5) > Attribute.g(6), again and again
        attribute = b"\x32" + _length(node) + node
        node_ = b"\x2a" + _length(attribute) + attribute
        node = b"\x0a" + _length(node_) + node_
    with pytest.raises(ValueError, match="deeply"):
        external_data_in(b"\x3a" + _length(node) + node)


def _length(payload: bytes) -> bytes:
    value, out = len(payload), bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)
