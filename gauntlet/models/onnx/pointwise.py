"""Activations and other functions of single numbers: however a value is held, it stays so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gauntlet.models.onnx.values import Any_, UnknownOperatorError, Value, like


def _layer(kind: str, **settings: str) -> Callable[..., Value]:
    """A layer of Keras; `settings` maps its settings to ONNX's attributes."""

    def run(x: Value, **attributes: Any) -> Value:
        from keras import layers as nn

        given = {ours: float(attributes[theirs]) for ours, theirs in settings.items() if theirs in attributes}
        return like(x, getattr(nn, kind)(**given)(x.tensor))

    return run


def _activation(name: str) -> Callable[..., Value]:
    def run(x: Value, **_: Any) -> Value:
        from keras import layers as nn

        return like(x, nn.Activation(name)(x.tensor))

    return run


def _operation(name: str) -> Callable[..., Value]:
    def run(x: Value, **_: Any) -> Value:
        from keras import ops

        return like(x, getattr(ops, name)(x.tensor))

    return run


def leaky_relu(x: Value, **attributes: Any) -> Value:
    """ONNX's slope is 0.01 when nothing is said, Keras' 0.3."""
    from keras import layers as nn

    return like(x, nn.LeakyReLU(negative_slope=float(attributes.get("alpha", 0.01)))(x.tensor))


def clip(x: Value, low: Any_ | None = None, high: Any_ | None = None, **attributes: Any) -> Value:
    """Between two numbers, each of which may be missing."""
    from keras import layers as nn
    from keras import ops

    bounds = [attributes.get("min", low), attributes.get("max", high)]
    if any(isinstance(bound, Value) for bound in bounds):
        raise UnknownOperatorError("Clip between numbers computed from the images")
    bottom, top = (None if bound is None else float(np.asarray(bound).reshape(-1)[0]) for bound in bounds)
    if bottom == 0:
        return like(x, nn.ReLU(max_value=top)(x.tensor))
    tensor = x.tensor if bottom is None else ops.maximum(x.tensor, bottom)
    return like(x, tensor if top is None else ops.minimum(tensor, top))


def hard_sigmoid(x: Value, **attributes: Any) -> Value:
    """max(0, min(1, alpha x + beta))."""
    from keras import layers as nn

    scaled = nn.Rescaling(float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5)))(x.tensor)
    return like(x, nn.ReLU(max_value=1.0)(scaled))


def hard_swish(x: Value, **_: Any) -> Value:
    """x times a hard sigmoid of slope 1/6."""
    from keras import layers as nn

    return like(x, nn.Multiply()([x.tensor, hard_sigmoid(x, alpha=1 / 6, beta=0.5).tensor]))


def same(x: Value, *_: Any, **_attributes: Any) -> Value:
    """Unchanged, as dropout is outside of training."""
    return x


def cast(x: Value, **attributes: Any) -> Value:
    """Between types of fractions, unchanged; others lose the gradient."""
    fractions = {1, 10, 11, 16}  # TensorProto.DataType
    if int(attributes["to"]) not in fractions:
        raise UnknownOperatorError("Cast to a type that is no fraction")
    return x


POINTWISE: dict[str, Callable[..., Value]] = {
    "Relu": _layer("ReLU"),
    "LeakyRelu": leaky_relu,
    "Elu": _layer("ELU", alpha="alpha"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "Mish": _activation("mish"),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Clip": clip,
    "Abs": _operation("abs"),
    "Neg": _operation("negative"),
    "Exp": _operation("exp"),
    "Log": _operation("log"),
    "Sqrt": _operation("sqrt"),
    "Reciprocal": _operation("reciprocal"),
    "Erf": _operation("erf"),
    "Sin": _operation("sin"),
    "Cos": _operation("cos"),
    "Identity": same,
    "Dropout": same,
    "Cast": cast,
}
