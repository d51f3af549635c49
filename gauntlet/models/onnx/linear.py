"""Gemm, MatMul, Conv, normalisation, arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gauntlet.models.onnx.shaping import padded, pads_of
from gauntlet.models.onnx.values import Any_, UnknownOperatorError, Value, dense, flattened, like, made, plain, turned

Attributes = dict[str, Any]


def constant(value: Any_ | None, what: str) -> np.ndarray:
    """A constant; weights that are computed from the images are unknown."""
    if not isinstance(value, np.ndarray):
        raise UnknownOperatorError(f"{what} computed from the images")
    return value


def gemm(x: Value, b: Any_, c: Any_ | None = None, **attributes: Any) -> Value:
    """alpha * x @ B + beta * C."""
    if attributes.get("transA"):
        raise UnknownOperatorError("Gemm with transA")
    kernel = constant(b, "a Gemm's matrix")
    kernel = kernel.T if attributes.get("transB") else kernel
    bias = np.zeros(1, np.float32) if c is None else constant(c, "a Gemm's bias").reshape(-1)
    alpha, beta = np.float32(attributes.get("alpha", 1.0)), np.float32(attributes.get("beta", 1.0))
    return dense(x, alpha * kernel, beta * bias)


def matmul(a: Any_, b: Any_, **_: Any) -> Value:
    """x @ W, or W @ x of columns (n, k, 1)."""
    if isinstance(a, Value) and isinstance(b, np.ndarray) and b.ndim == 2 and a.rank == 2:
        return dense(a, b)
    if isinstance(a, np.ndarray) and a.ndim == 2 and isinstance(b, Value) and b.rank == 3 and b.shape[2] == 1:
        column = b if b.form == "column" else Value(flattened(b).tensor, "column")
        return dense(column, a.T)
    if isinstance(a, Value) and isinstance(b, Value):
        from keras import ops

        return made(ops.matmul(plain(a).tensor, plain(b).tensor))
    raise UnknownOperatorError("MatMul of these shapes")


def conv(x: Value, w: Any_, b: Any_ | None = None, **attributes: Any) -> Value:
    """A convolution over two axes, in groups or not."""
    from keras import layers as nn

    kernel = constant(w, "a convolution's kernel")
    if kernel.ndim != 4:
        raise UnknownOperatorError(f"Conv over {kernel.ndim - 2} axes")
    bias = np.zeros(len(kernel), np.float32) if b is None else constant(b, "a convolution's bias")
    x, groups = turned(x), int(attributes.get("group", 1))
    sizes, strides = kernel.shape[2:], tuple(attributes.get("strides", (1, 1)))
    dilations = tuple(attributes.get("dilations", (1, 1)))
    reach = tuple((size - 1) * rate + 1 for size, rate in zip(sizes, dilations, strict=True))
    pads = pads_of(x, reach, strides, attributes)
    same = strides == (1, 1) and pads == ((reach[0] // 2,) * 2, (reach[1] // 2,) * 2) and all(n % 2 for n in reach)
    images = x.tensor if same else padded(x.tensor, pads, 0.0)
    shared = {"strides": strides, "padding": "same" if same and any(map(any, pads)) else "valid"}

    def part(images: Any, kernel: np.ndarray, bias: np.ndarray) -> Any:
        layer = nn.Conv2D(len(kernel), sizes, dilation_rate=dilations, **shared)
        tensor = layer(images)
        layer.set_weights([kernel.transpose(2, 3, 1, 0), bias])
        return tensor

    if groups == 1:
        return made(part(images, kernel, bias), "turned")
    if groups == images.shape[-1] and dilations == (1, 1) and strides[0] == strides[1]:
        many = len(kernel) // groups
        layer = nn.DepthwiseConv2D(sizes, depth_multiplier=many, **shared)
        tensor = layer(images)
        layer.set_weights([kernel.reshape(groups, many, *sizes).transpose(2, 3, 0, 1), bias])
        return made(tensor, "turned")
    width = images.shape[-1] // groups
    slices = [images[..., g * width : (g + 1) * width] for g in range(groups)]
    parts = zip(slices, np.split(kernel, groups), np.split(bias, groups), strict=True)
    return made(nn.Concatenate()([part(*each) for each in parts]), "turned")


def batch_normalization(x: Value, scale: Any_, shift: Any_, mean: Any_, variance: Any_, **attributes: Any) -> Value:
    """With the statistics of training."""
    from keras import layers as nn

    if attributes.get("training_mode"):
        raise UnknownOperatorError("BatchNormalization in training mode")
    x = turned(x) if x.rank == 4 else plain(x)
    if x.rank not in (2, 4):
        raise UnknownOperatorError(f"BatchNormalization of shape {x.shape}")
    layer = nn.BatchNormalization(epsilon=float(attributes.get("epsilon", 1e-5)))
    tensor = layer(x.tensor)
    layer.set_weights([constant(each, "statistics") for each in (scale, shift, mean, variance)])
    return like(x, tensor)


# --- arithmetic -----------------------------------------------------------------------------------------------


def arithmetic(op: str) -> Callable[..., Value]:
    """Add, Sub, Mul, Div, Pow, Max, Min of two values, or of a value and a constant."""

    def run(*operands: Any_, **_: Any) -> Value:
        value = operands[0]
        for other in operands[1:]:
            value = _both(op, value, other)
        if not isinstance(value, Value):
            raise UnknownOperatorError(f"{op} of constants")
        return value

    return run


def _both(op: str, a: Any_, b: Any_) -> Value:
    from keras import layers as nn

    if isinstance(a, Value) and isinstance(b, Value):
        a, b = _alike(a, b)
        if op == "Add" and a.tensor.shape == b.tensor.shape:
            return like(a, nn.Add()([a.tensor, b.tensor]))
        return like(a, _function(op)(a.tensor, b.tensor))
    if isinstance(a, Value) and isinstance(b, np.ndarray):
        return _with_constant(op, a, b)
    if isinstance(a, np.ndarray) and isinstance(b, Value):
        if op in ("Add", "Mul", "Max", "Min"):
            return _with_constant(op, b, a)
        constant, value = _held(a, b)
        return like(value, _function(op)(constant, value.tensor))
    raise UnknownOperatorError(f"{op} of constants")


def _alike(a: Value, b: Value) -> tuple[Value, Value]:
    """Two values held in the same way, with as many axes."""
    if a.form != b.form or a.maps != b.maps:
        a, b = (turned(a), turned(b)) if a.rank == b.rank == 4 else (plain(a), plain(b))
    if a.rank != b.rank:
        raise UnknownOperatorError(f"arithmetic of shapes {a.shape} and {b.shape}")
    return a, b


def _with_constant(op: str, x: Value, c: np.ndarray) -> Value:
    """Where it is one number, or one a channel, a layer; a bias behind a matrix becomes that layer's own."""
    from keras import layers as nn

    if op == "Add" and x.affine is not None and c.size in (1, x.affine[1].shape[1]):
        return dense(x.affine[0], x.affine[1], c.reshape(-1))
    constant, x = _held(c, x)
    if constant.size in (1, x.tensor.shape[-1]) and constant.shape[-1:] in ((constant.size,), ()) and op in _SCALINGS:
        numbers = constant.astype(np.float64).reshape(-1)
        scale, offset = _SCALINGS[op](numbers)
        return like(x, nn.Rescaling(_listed(scale), _listed(offset))(x.tensor))
    return like(x, _function(op)(x.tensor, constant))


_SCALINGS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "Add": lambda c: (np.ones_like(c), c),
    "Sub": lambda c: (np.ones_like(c), -c),
    "Mul": lambda c: (c, np.zeros_like(c)),
    "Div": lambda c: (1 / c, np.zeros_like(c)),
}
"""Scale and offset."""


def _listed(numbers: np.ndarray) -> Any:
    return float(numbers[0]) if (numbers == numbers[0]).all() else numbers.tolist()


def _held(c: np.ndarray, x: Value) -> tuple[np.ndarray, Value]:
    """A constant with the axes in the order of a value, and that value."""
    if c.size == 1:
        return c.reshape(()).astype(np.float32), x
    if c.ndim > x.rank:
        raise UnknownOperatorError(f"a constant of shape {c.shape} for a value of shape {x.shape}")
    whole = c.reshape(*[1] * (x.rank - c.ndim), *c.shape)
    if any(n not in (1, m) for n, m in zip(whole.shape, x.shape, strict=True)):
        raise UnknownOperatorError(f"a constant of shape {c.shape} for a value of shape {x.shape}")
    if x.form == "turned":
        return whole.transpose(0, 2, 3, 1).astype(np.float32), x
    if x.form == "column":
        return whole.reshape(whole.shape[:2]).astype(np.float32), x
    if x.form == "flat":
        height, width, channels = x.maps
        moved = whole.reshape(1, channels, height, width).transpose(0, 2, 3, 1)
        return moved.reshape(1, -1).astype(np.float32), x
    return whole.astype(np.float32), x


def _function(op: str) -> Callable[[Any, Any], Any]:
    from keras import ops

    functions: dict[str, Callable[[Any, Any], Any]] = {
        "Add": ops.add,
        "Sub": ops.subtract,
        "Mul": ops.multiply,
        "Div": ops.divide,
        "Pow": ops.power,
        "Max": ops.maximum,
        "Min": ops.minimum,
    }
    return functions[op]


LINEAR: dict[str, Callable[..., Value]] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "Conv": conv,
    "BatchNormalization": batch_normalization,
    **{op: arithmetic(op) for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum")},
}
LINEAR["Sum"] = arithmetic("Add")
