from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from scanner.bundle import Bundle
from scanner.detector import Detector
from scanner.errors import BundleError
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


def _varint(value: int, pad: int = 0) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    if pad:  # as many bytes again that add nothing
        out[-1] |= 0x80
        out += b"\x80" * (pad - 1) + b"\0"
    return bytes(out)


def _behind(tag: bytes) -> bytes:
    """A model that runs, with the external weights of both its branches behind `tag`."""

    def branch(name: str):
        shown = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", ["w"], [name])], name, [], [shown])

    floats = onnx.TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", floats, ["N", 4])
    y = helper.make_tensor_value_info("y", floats, None)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["c"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b")),
    ]
    tensor = _external_tensor()
    tensor.external_data[0].value = "secret.bin"
    weights = tensor.SerializeToString()
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    graph = model.graph.SerializeToString() + tag + _varint(len(weights)) + weights
    model.ClearField("graph")
    return model.SerializeToString() + b"\x3a" + _varint(len(graph)) + graph


_INITIALIZER = 5 << 3 | 2


@pytest.mark.parametrize(
    "tag",
    [
        pytest.param(_varint(_INITIALIZER | 1 << 32), id="33 bits"),
        pytest.param(_varint(_INITIALIZER | 1 << 34), id="35 bits"),
        pytest.param(_varint(_INITIALIZER | 1 << 35), id="6 bytes"),
        pytest.param(_varint(_INITIALIZER | 1 << 63), id="64 bits"),
        pytest.param(_varint(_INITIALIZER | 1 << 66), id="67 bits"),
        pytest.param(_varint(_INITIALIZER, pad=1), id="padded"),
        pytest.param(_varint(_INITIALIZER, pad=4), id="padded to 5 bytes"),
        pytest.param(_varint(0 << 3 | 2), id="field 0"),
    ],
)
def test_a_tag_that_parsers_read_differently_is_refused(tag):
    with pytest.raises(ValueError, match="ONNX"):
        external_data_in(_behind(tag))


def test_the_same_weights_behind_the_usual_tag_are_found():
    assert external_data_in(_behind(_varint(_INITIALIZER)))


def test_weights_that_got_past_the_guard_would_not_be_read_either(
    tiny_bundle, tmp_path, monkeypatch
):
    """onnxruntime looks for them in the working directory when a model comes as bytes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    model = _behind(_varint(_INITIALIZER))
    x = np.ones((1, 4), np.float32)
    bare = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert bare.run(None, {"x": x})[0].tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(Bundle, "graph", lambda bundle, name: model)
    with pytest.raises(BundleError, match="cannot load"):
        Detector(tiny_bundle, device="cpu")


def test_endless_nesting_is_refused():
    node = b""
    for _ in range(200):  # Graph.node(1) > Node.attribute(5) > Attribute.g(6), again and again
        attribute = b"\x32" + _varint(len(node)) + node
        node_ = b"\x2a" + _varint(len(attribute)) + attribute
        node = b"\x0a" + _varint(len(node_)) + node_
    with pytest.raises(ValueError, match="deeply"):
        external_data_in(b"\x3a" + _varint(len(node)) + node)
