"""ONNX: operators by name and domain, and weights in other files; read from the bytes, without `onnx`.

The field numbers are those of onnx.proto3: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from gauntlet.assurance.scan.models.protobuf import fields
from gauntlet.assurance.scan.models.rules import Look, escapes

_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _ATTRIBUTE, _SPARSE = 1, 5, 5, 15
_OP, _DOMAIN = 4, 7
_EXTERNAL = 13
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Of operators that the standard defines."""
DEEPEST = 20
"""Graphs within graphs."""


def is_onnx(head: bytes, name: str) -> bool:
    """Whether a file begins as a model does, with the number of its format; no pickle begins so."""
    return head[:1] == b"\x08" or name.lower().endswith(".onnx")


def scan_onnx(stream: BinaryIO, file: str, where: str, look: Look) -> None:
    """Note operators that are not the standard's, and tensors that lie outside of the model's folder."""
    size = stream.seek(0, 2)
    if size > look.limits.member_bytes:
        look.error(file, f"{where}larger than {look.limits.member_bytes:,} bytes")
        return
    stream.seek(0)
    try:
        graphs = [value for number, value in fields(stream.read()) if number == _GRAPH]
        stream.seek(0)
        functions = [value for number, value in fields(stream.read()) if number == _FUNCTIONS]
        if len(graphs) != 1:
            look.error(file, f"{where}not an ONNX model: it holds {len(graphs)} graphs")
        for graph in graphs:
            _graph(graph, file, look, 0)
        for function in functions:
            look.hit("GM018", file, f"a function of its own: {_text(function, 1)}")
    except ValueError as error:
        look.error(file, f"{where}not an ONNX model that can be read: {error}")


def _graph(graph: bytes, file: str, look: Look, depth: int) -> None:
    if depth > DEEPEST:
        look.error(file, f"graphs within graphs, more than {DEEPEST} deep")
        return
    for number, value in fields(graph):
        if number == _NODE:
            _node(value, file, look, depth)
        elif number == _INITIALIZER:
            _tensor(value, file, look)
        elif number == _SPARSE:
            for _, tensor in fields(value):
                _inner(tensor, file, look)


def _node(node: bytes, file: str, look: Look, depth: int) -> None:
    domain, op = _text(node, _DOMAIN), _text(node, _OP)
    if domain not in DOMAINS:
        look.hit("GM018", file, f"{domain}.{op}")
    for number, attribute in fields(node):
        if number == _ATTRIBUTE:
            for kind, value in fields(attribute):
                if kind in (5, 10):
                    _inner(value, file, look)
                elif kind in (22, 23):
                    for _, tensor in fields(value):
                        _inner(tensor, file, look)
                elif kind in (6, 11):
                    _graph(value, file, look, depth + 1)


def _tensor(tensor: bytes, file: str, look: Look) -> None:
    for name, location in _external(tensor):
        if escapes(location):
            look.hit("GM007", file, f"{name} lies in {location!r}")


def _inner(tensor: bytes, file: str, look: Look) -> None:
    """A tensor within a node, or a sparse one: nobody keeps these elsewhere, and readers look for them elsewhere."""
    for name, location in _external(tensor):
        look.hit("GM006", file, f"{name or 'a tensor within a node'} lies in {location!r}")


def beside(model: bytes) -> set[str]:
    """The files in which a model's weights lie, as it names them; `ValueError` for what is no model."""
    graphs = [value for number, value in fields(model) if number == _GRAPH]
    tensors = [value for graph in graphs for number, value in fields(graph) if number == _INITIALIZER]
    return {location for tensor in tensors for _, location in _external(tensor)}


def _external(tensor: bytes) -> Iterator[tuple[str, str]]:
    """The files that hold a tensor."""
    name = _text(tensor, 8)
    for number, entry in fields(tensor):
        if number == _EXTERNAL and _text(entry, 1) == "location":
            yield name, _text(entry, 2)


def _text(message: bytes, field: int) -> str:
    """The last text of a field, as readers take it."""
    values = [value for number, value in fields(message) if number == field]
    return values[-1].decode("utf-8", "replace") if values else ""
