"""What flows through a graph: constants, and tensors whose axes may be held in another order than ONNX has them.

ONNX has channels first, Keras' layers channels last. Maps are turned once, at the input; from there on every value says
how it is held, and is brought back to ONNX's order only where an operator needs it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.limits import MAX_ACTIVATION

if TYPE_CHECKING:
    import keras

Form = Literal["plain", "turned", "flat", "column"]
"""As in ONNX; (n, c, h, w) held as (n, h, w, c); (n, c * h * w) held as (n, h * w * c); (n, k, 1) held as (n, k)."""


class UnknownOperatorError(Exception):
    """An operator, or a way of using one, that has no counterpart here; the message names it."""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images."""

    tensor: Any
    """Keras' symbol, batch first."""
    form: Form = "plain"
    maps: tuple[int, int, int] = (0, 0, 0)
    """Height, width and channels of what was flattened."""
    affine: tuple[Value, Any] | None = None
    """For `x @ kernel` without a bias: `x` and the kernel (inputs, units)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As ONNX has it, for one image: (1, ...)."""
        dims = tuple(self.tensor.shape[1:])
        if self.form == "turned":
            return (1, dims[2], dims[0], dims[1])
        return (1, *dims, 1) if self.form == "column" else (1, *dims)

    @property
    def rank(self) -> int:
        """Number of axes, the batch's included."""
        return len(self.shape)


Any_ = Value | np.ndarray


def made(tensor: Any, form: Form = "plain", **more: Any) -> Value:
    """A value of a new tensor; `ModelError` when it is larger than a stranger's layer may be."""
    size = math.prod(n or 1 for n in tensor.shape[1:])
    if size > MAX_ACTIVATION:
        raise ModelError(f"one of its layers gives {size:,} numbers an image, at most {MAX_ACTIVATION:,} allowed")
    return Value(tensor, form, **more)


def like(value: Value, tensor: Any) -> Value:
    """A new tensor, held as another value is."""
    return made(tensor, value.form, maps=value.maps)


def plain(value: Value) -> Value:
    """In ONNX's order."""
    from keras import layers as nn

    if value.form == "plain":
        return value
    if value.form == "column":
        return made(nn.Reshape((*value.tensor.shape[1:], 1))(value.tensor))
    if value.form == "turned":
        return made(_moved(value.tensor, (3, 1, 2)))
    height, width, channels = value.maps
    hidden = nn.Reshape((height, width, channels))(value.tensor)
    return made(nn.Reshape((height * width * channels,))(_moved(hidden, (3, 1, 2))))


def turned(value: Value) -> Value:
    """Maps (n, c, h, w) with their channels last."""
    if value.form == "turned":
        return value
    value = plain(value)
    if value.rank != 4:
        raise UnknownOperatorError(f"an operator on maps of shape {value.shape}")
    return made(_moved(value.tensor, (2, 3, 1)), "turned")


def _moved(tensor: Any, order: tuple[int, int, int]) -> Any:
    """The axes in another order; where only axes of length one change places, a reshaping."""
    from keras import layers as nn

    shape = tuple(tensor.shape[axis] for axis in order)
    long = [axis for axis in order if tensor.shape[axis] != 1]
    return nn.Reshape(shape)(tensor) if long == sorted(long) else nn.Permute(order)(tensor)


def flattened(value: Value) -> Value:
    """(n, k): of maps the order is remembered, so that the next layer's weights take it in."""
    from keras import layers as nn

    if value.form in ("flat", "column"):
        return Value(value.tensor, "flat" if value.form == "flat" else "plain", value.maps)
    hidden = value.tensor if len(value.tensor.shape) == 2 else nn.Flatten()(value.tensor)
    if value.form == "turned":
        height, width, channels = value.tensor.shape[1:]
        if channels > 1 and height * width > 1:
            return made(hidden, "flat", maps=(height, width, channels))
    return made(hidden)


def dense(value: Value, kernel: np.ndarray, bias: np.ndarray | None = None) -> Value:
    """`x @ kernel + bias` of (n, k), as a layer; the rows of the kernel take the order in which `x` is held."""
    from keras import layers as nn

    if value.rank != 2 and value.form != "column":
        raise UnknownOperatorError(f"a matrix times values of shape {value.shape}")
    if value.tensor.shape[1] != len(kernel):
        raise UnknownOperatorError(f"a matrix of {len(kernel)} rows for {value.tensor.shape[1]} numbers")
    rows = kernel
    if value.form == "flat":
        height, width, channels = value.maps
        rows = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)
    layer = nn.Dense(kernel.shape[1], use_bias=bias is not None)
    tensor = layer(value.tensor)
    layer.set_weights([rows] if bias is None else [rows, np.broadcast_to(bias, (kernel.shape[1],))])
    form: Form = "column" if value.form == "column" else "plain"
    return made(tensor, form, affine=(value, kernel) if bias is None else None)


def model_of(inputs: list[Any], outputs: dict[str, Value]) -> keras.Model:
    """The functional model, its outputs in ONNX's order; several have their names."""
    import keras

    tensors = {name: plain(value).tensor for name, value in outputs.items()}
    return keras.Model(
        inputs if len(inputs) > 1 else inputs[0], tensors if len(tensors) > 1 else next(iter(tensors.values()))
    )
