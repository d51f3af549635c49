"""An ONNX graph as a functional Keras model, node by node, for batches of any size.

The size of the batch counts as 1 while shapes are computed: what is computed from shapes is constant, and folded.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.limits import MAX_ACTIVATION, MAX_WEIGHTS
from gauntlet.models.onnx.linear import LINEAR
from gauntlet.models.onnx.pointwise import POINTWISE
from gauntlet.models.onnx.shaping import SHAPING
from gauntlet.models.onnx.values import Any_, Form, UnknownOperatorError, Value, model_of

if TYPE_CHECKING:
    import keras

OPERATORS = LINEAR | SHAPING | POINTWISE
FOLDED = {
    "Add", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Floor", "Gather",
    "Identity", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Range", "Reciprocal", "ReduceProd", "Reshape", "Shape",
    "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
"""Operators that are computed where all they take is constant."""
GROWING = ("ConstantOfShape", "Expand", "Range")
"""Of those the ones that a few numbers tell to make many."""
MAX_NODES = 20_000
COLOURS = (1, 3, 4)
"""Channels that images have: they tell which axis is the channels'."""


@dataclass(frozen=True)
class Converted:
    """A model, and every value on the way to its outputs."""

    model: keras.Model
    inputs: dict[str, Value]
    values: dict[str, Value]
    made_by: dict[str, str]
    """The operator behind each value."""


def convert(proto: Any) -> Converted:
    """The Keras model of an `onnx.ModelProto`; `UnknownOperatorError` where an operator has no counterpart."""
    from onnx import numpy_helper

    graph = proto.graph
    if len(graph.node) > MAX_NODES:
        raise ModelError(f"has {len(graph.node):,} nodes, at most {MAX_NODES:,} allowed")
    weights = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    if weights > MAX_WEIGHTS:
        raise ModelError(f"declares {weights:,} weights, at most {MAX_WEIGHTS:,} allowed")
    known: dict[str, Any_] = {tensor.name: _constant(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    inputs = _inputs(inputs_of(proto))
    known |= inputs
    made_by: dict[str, str] = {}
    for node in graph.node:
        for name, value in zip(node.output, _run(node, known, proto), strict=False):
            known[name] = value
            made_by[name] = node.op_type
    outputs = {out.name: _of_images(known, out.name) for out in graph.output}
    values = {name: value for name, value in known.items() if isinstance(value, Value)}
    return Converted(model_of([value.tensor for value in inputs.values()], outputs), inputs, values, made_by)


def _of_images(known: dict[str, Any_], name: str) -> Value:
    value = known.get(name)
    if not isinstance(value, Value):
        raise UnknownOperatorError(f"an output ({name}) that does not depend on the images")
    return value


def _constant(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


# --- the input ------------------------------------------------------------------------------------------------


def inputs_of(proto: Any) -> list[Any]:
    """The inputs that are no weights; `ModelError` where there is none."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [one for one in proto.graph.input if one.name not in weights]
    if not inputs:
        raise ModelError("the model has no input, expected one of images", where="model")
    return inputs


def dims_of(given: Any) -> list[int]:
    """The axes of an input as it declares them; 0 for any length."""
    return [int(dim.dim_value) if dim.HasField("dim_value") else 0 for dim in given.type.tensor_type.shape.dim]


def _inputs(declared: list[Any]) -> dict[str, Value]:
    """Keras' inputs by name; several are called as ONNX calls them, as far as Keras lets them."""
    several = len(declared) > 1
    return {one.name: _input(one, re.sub(r"\W", "_", one.name) if several else None) for one in declared}


def _input(given: Any, name: str | None) -> Value:
    """Keras' input: of maps channels last, whichever way ONNX has them."""
    import keras

    dims = dims_of(given)
    if len(dims) < 2 or any(n < 1 for n in dims[1:]):
        raise UnknownOperatorError(f"an input of shape {dims}, with axes of any length or no batch,")
    first = len(dims) == 4 and not (dims[3] in COLOURS and dims[1] not in COLOURS)
    form: Form = "turned" if first else "plain"
    return Value(keras.Input((dims[2], dims[3], dims[1]) if first else tuple(dims[1:]), name=name), form)


# --- nodes ----------------------------------------------------------------------------------------------------


def _run(node: Any, known: dict[str, Any_], proto: Any) -> list[Any_]:
    """What a node gives."""
    from onnx import helper

    inputs = [known[name] if name else None for name in node.input]
    attributes = {one.name: _plain(helper.get_attribute_value(one)) for one in node.attribute}
    if node.domain not in ("", "ai.onnx"):
        raise UnknownOperatorError(f"{node.domain}.{node.op_type}")
    if node.op_type == "Constant":
        return [_literal(attributes)]
    if node.op_type == "Shape" and isinstance(inputs[0], Value):
        whole = np.array(inputs[0].shape, np.int64)
        return [whole[attributes.get("start", 0) : attributes.get("end")]]
    if not any(isinstance(value, Value) for value in inputs):
        return _folded(node, inputs, proto)
    operator = OPERATORS.get(node.op_type)
    if operator is None:
        raise UnknownOperatorError(node.op_type)
    try:
        return [operator(*inputs, **attributes)]
    except UnknownOperatorError as error:
        raise UnknownOperatorError(f"{node.op_type}: {error}") from error


def _plain(value: Any) -> Any:
    """An attribute without bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _literal(attributes: dict[str, Any]) -> np.ndarray:
    """The value of a Constant."""
    from onnx import numpy_helper

    (kind, value), *_ = attributes.items()
    return _constant(numpy_helper.to_array(value) if kind == "value" else np.asarray(value))


def _folded(node: Any, inputs: list[Any_ | None], proto: Any) -> list[Any_]:
    """What a node of constants gives, by ONNX's own reference."""
    from onnx.reference import ReferenceEvaluator

    if node.op_type not in FOLDED:
        raise UnknownOperatorError(f"{node.op_type} of constants")
    if node.op_type in GROWING:
        _check_growth(node.op_type, inputs)
    opsets = {one.domain: one.version for one in proto.opset_import}
    outputs = ReferenceEvaluator(node, opsets=opsets).run(None, dict(zip(node.input, inputs, strict=True)))
    return [_constant(np.asarray(value)) for value in outputs]


def _check_growth(op: str, inputs: list[Any_ | None]) -> None:
    """Refuse constants of a size that a stranger chose."""
    numbers = [np.asarray(value).reshape(-1) for value in inputs if value is not None]
    if op == "Range":
        start, end, step = (float(value[0]) for value in numbers)
        size = abs((end - start) / step) if step else math.inf
    else:
        size = math.prod(int(n) for n in numbers[-1])
    if size > MAX_ACTIVATION:
        raise ModelError(f"makes a constant of {size:,.0f} numbers, at most {MAX_ACTIVATION:,} allowed")
