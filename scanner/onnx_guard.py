"""Refuse an ONNX file that reads other files.

ONNX tensors may live in "external data": a path relative to the model, which a hostile
bundle could point anywhere. The base install has no `onnx` package, so this walks the
protobuf wire format itself (protobuf.dev/programming-guides/encoding) along the few fields
of onnx.proto3 under which a TensorProto can stand, and looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

# Field numbers of onnx.proto3 (IR version 3 and later): message -> {field: message below it}.
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "Sparse",
        23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto
_MAX_DEPTH = 64


def external_data_in(model: bytes) -> bool:
    """Whether any tensor of a serialised ModelProto points outside the file.

    Raises ValueError if `model` is not well-formed protobuf along the fields looked at.
    """
    return _has_external(memoryview(model), "Model", 0)


def _has_external(buffer: memoryview, message: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs are nested too deeply")
    if message == "Tensor":
        return any(
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
            for number, value in _fields(buffer)
        )
    children = _CHILDREN[message]
    return any(
        isinstance(value, memoryview)
        and number in children
        and _has_external(value, children[number], depth + 1)
        for number, value in _fields(buffer)
    )


def _fields(buffer: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): an int for a varint, a view for the rest."""
    position, end = 0, len(buffer)
    while position < end:
        number, wire_type, position = _tag(buffer, position)
        if wire_type == 0:
            value, position = _varint(buffer, position)
            yield number, value
            continue
        if wire_type == 2:
            length, position = _varint(buffer, position)
        elif wire_type == 1:
            length = 8
        elif wire_type == 5:
            length = 4
        else:
            raise ValueError("not an ONNX file")
        if length > end - position:
            raise ValueError("the ONNX file is cut short")
        yield number, buffer[position : position + length]
        position += length


def _tag(buffer: memoryview, position: int) -> tuple[int, int, int]:
    """(field number, wire type, position behind them), as every parser would read them.

    protobuf's own keeps the low 32 bits of a longer tag, so such a tag is one field there and
    another here. No writer makes one, nor field 0, nor a tag with more bytes than it needs.
    """
    key, after = _varint(buffer, position)
    needed = max(1, -(-key.bit_length() // 7))
    if key >> 32 or key >> 3 == 0 or after - position != needed:
        raise ValueError("not an ONNX file")
    return key >> 3, key & 7, after


def _varint(buffer: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(buffer):
            raise ValueError("the ONNX file is cut short")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("not an ONNX file")
