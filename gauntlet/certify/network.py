"""A Keras model as a list of simple steps through which bounds can be propagated, in float64.

Every step is affine, elementwise and monotone, or the larger of two: a layer with an activation becomes two steps, a
max pooling becomes maxima of pairs. Weights are float32 and stay exact in float64. Any other layer is refused
by its name: a bound that skips a layer is no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as nn

from gauntlet.certify.base import refused
from gauntlet.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]
Function = Callable[..., Any]

PADDING = -1e30
"""What stands beyond the edges of a pooling by maximum: below anything that a network holds there."""
SKIPPED = (nn.InputLayer, nn.Dropout, nn.SpatialDropout2D, nn.GaussianNoise, nn.GaussianDropout, nn.Identity)
"""Layers that do nothing outside of training."""
WEIGHTED = (nn.Dense, nn.Conv2D, nn.DepthwiseConv2D)
SCALING = (nn.BatchNormalization, nn.Rescaling, nn.Normalization)
MOVING = (nn.Flatten, nn.Reshape, nn.Permute, nn.ZeroPadding2D, nn.AveragePooling2D, nn.GlobalAveragePooling2D)
MERGING = (nn.Add, nn.Concatenate)
"""Linear without negative factors: what they make of a radius is the radius of what they make."""


@dataclass(frozen=True, eq=False)
class Step:
    """One step; `inputs` are the numbers of the steps before it, and number 0 is the image."""

    kind: str
    """`input`, `affine`, `max`, or the name of an elementwise function: relu, sigmoid, tanh."""
    inputs: tuple[int, ...]
    shape: Shape
    layer: str = ""
    slope: float = 0.0
    """Of a leaky ReLU below 0."""
    apply: Function | None = field(default=None, repr=False)
    """Affine: float64 tensors (n, *shape of each input) to (n, *shape)."""
    spread: Function | None = field(default=None, repr=False)
    """Affine: the same with the absolute values of all factors and without constants."""
    offset: Any = 0.0
    """Affine: the sum of the absolute values of the constants of each output, broadcast to (1, *shape)."""
    terms: int = 0
    """Affine: how many products are added up for one output, at most."""
    norms: Any = None
    """Of weights: the Euclidean norm of the factors of each output, (1, *shape)."""
    gain: float | None = None
    """What the Euclidean norm of a perturbation is multiplied by at most, where that is known."""


class Network:
    """The steps of a model from images (n, h, w, c) to logits (n, n_classes)."""

    def __init__(self, model: keras.Model) -> None:
        """Raises `ModelError` for the first layer that cannot be bounded, or where there are no layers to be seen."""
        if not isinstance(model, keras.Model):
            fix = "export it to ONNX, which is read into Keras layers, or certify with smoothing"
            raise ModelError("bounds need the layers of a Keras model", where="certify", fix=fix)
        self.steps: list[Step] = [Step("input", (), tuple(model.inputs[0].shape[1:]))]
        if None in self.steps[0].shape:
            raise ModelError("its input has no fixed size, bounds need one", where="certify")
        last = self._number(model.outputs[0], {id(model.inputs[0]): 0})
        self.steps = self.steps[: last + 1]

    @property
    def n_classes(self) -> int:
        """Of the logits."""
        return self.steps[-1].shape[0]

    def _number(self, tensor: Any, known: dict[int, int]) -> int:
        """The step that gives a tensor of a graph, of which `known` tensors have steps already."""
        if id(tensor) not in known:
            layer, node, _ = tensor._keras_history
            inputs = [self._number(one, known) for one in layer._inbound_nodes[node].input_tensors]
            known[id(tensor)] = self._layer(layer, inputs)
        return known[id(tensor)]

    def _layer(self, layer: Any, inputs: Sequence[int]) -> int:
        """Append the steps of a layer; the number of the last."""
        if isinstance(layer, keras.Model):
            return self._number(layer.outputs[0], {id(layer.inputs[0]): inputs[0]})
        if isinstance(layer, SKIPPED):
            return inputs[0]
        if getattr(layer, "compute_dtype", "float32") != "float32":
            raise refused(layer, f"it computes in {layer.compute_dtype}, float32 is what bounds hold for")
        if isinstance(layer, nn.MaxPooling2D):
            return self._pooled(layer, inputs[0])
        if isinstance(layer, nn.ReLU | nn.LeakyReLU | nn.Activation):
            return self._activated(layer, layer, inputs[0])
        if not isinstance(layer, WEIGHTED + SCALING + MOVING + MERGING):
            raise refused(layer, "no bounds are known for it")
        number = self._append(_affine(layer, tuple(inputs), [self.steps[i].shape for i in inputs]))
        return self._activated(layer, getattr(layer, "activation", None), number)

    def _append(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _activated(self, layer: Any, activation: Any, number: int) -> int:
        """Append an activation, given as a layer, a function or None."""
        kind, slope = _activation(layer, activation)
        if kind == "linear":
            return number
        return self._append(Step(kind, (number,), self.steps[number].shape, layer.name, slope))

    def _pooled(self, layer: Any, number: int) -> int:
        """Append the larger of two, until one is left of each window."""
        if layer.data_format != "channels_last":
            raise refused(layer, "no bounds are known for it with channels first")
        windows = [self._append(step) for step in _windows(layer, number, self.steps[number].shape)]
        while len(windows) > 1:
            pairs = zip(windows[::2], windows[1::2], strict=False)
            shape = self.steps[windows[0]].shape
            left = windows[len(windows) // 2 * 2 :]
            windows = [self._append(Step("max", pair, shape, layer.name)) for pair in pairs] + left
        return windows[0]


def _activation(layer: Any, activation: Any) -> tuple[str, float]:
    """The kind of an activation and its slope below 0."""
    if activation is None:
        return "linear", 0.0
    if isinstance(activation, nn.ReLU):
        plain = activation.max_value is None and not activation.threshold
        return ("relu", float(activation.negative_slope or 0)) if plain else _unknown(layer, "a bounded ReLU")
    if isinstance(activation, nn.LeakyReLU):
        return "relu", float(activation.negative_slope)
    if isinstance(activation, nn.Activation):
        return _activation(layer, activation.activation)
    name = getattr(activation, "__name__", type(activation).__name__)
    slopes = {"relu": 0.0, "leaky_relu": 0.2}
    if name in slopes:
        return "relu", slopes[name]
    return (name, 0.0) if name in ("linear", "sigmoid", "tanh") else _unknown(layer, f"the activation {name}")


def _unknown(layer: Any, what: str) -> tuple[str, float]:
    raise refused(layer, f"no bounds are known for {what}")


def _affine(layer: Any, inputs: tuple[int, ...], shapes: list[Shape]) -> Step:
    """The step of an affine layer, its activation left out."""
    apply = _double(layer, shapes)
    shape = tuple(int(n) for n in apply(*(tf.zeros((1, *one), tf.float64) for one in shapes)).shape[1:])
    plain = Step("affine", inputs, shape, layer.name, apply=apply, spread=apply, terms=len(inputs))
    if isinstance(layer, WEIGHTED):
        return replace(plain, **_weighted(layer, shapes, shape))
    if isinstance(layer, SCALING):
        zero = apply(tf.zeros((1, *shapes[0]), tf.float64))
        scale = tf.abs(apply(tf.ones((1, *shapes[0]), tf.float64)) - zero)
        facts: dict[str, Any] = {"offset": _constants(layer, shapes[0], scale.numpy()), "terms": 6}
        return replace(plain, spread=lambda radius: scale * radius, gain=float(tf.reduce_max(scale)), **facts)
    if isinstance(layer, nn.GlobalAveragePooling2D):
        return replace(plain, terms=int(np.prod(shapes[0][:-1])))
    if isinstance(layer, nn.AveragePooling2D):
        return replace(plain, terms=int(np.prod(layer.pool_size)))
    return replace(plain, gain=1.0) if len(inputs) == 1 else plain


def _weighted(layer: Any, shapes: list[Shape], shape: Shape) -> dict[str, Any]:
    """What is particular to a step with weights."""
    kernel = layer.get_weights()[0]
    fan = kernel.shape[:2] if isinstance(layer, nn.DepthwiseConv2D) else kernel.shape[:-1]
    bias = np.abs(layer.get_weights()[1]).astype(np.float64) if layer.use_bias else np.zeros(1)
    squares = _double(layer, shapes, change=np.square)(tf.ones((1, *shapes[0]), tf.float64))
    return {
        "spread": _double(layer, shapes, change=np.abs),
        "offset": np.broadcast_to(bias, shape)[None],
        "terms": int(np.prod(fan)) + 1,
        "norms": tf.sqrt(squares),
    }


def _double(layer: Any, shapes: list[Shape], *, change: Function | None = None) -> Function:
    """The layer in float64, without its activation; with a `change` of its kernel, without its bias as well."""
    config = layer.get_config() | {"dtype": "float64", "name": f"{layer.name}_double"}
    config |= {"activation": None} if "activation" in config else {}
    config |= {"use_bias": False} if change else {}
    copy = type(layer).from_config(config)
    built = [(None, *one) for one in shapes]
    copy.build(built[0] if len(built) == 1 else built)
    weights = [np.asarray(one, np.float64) for one in layer.get_weights()]
    copy.set_weights([change(weights[0])] if change else weights)
    if isinstance(copy, nn.Normalization) and weights:
        copy.finalize_state()
    single = len(shapes) == 1
    return lambda *tensors: copy(tensors[0] if single else list(tensors), training=False)


def _constants(layer: Any, shape: Shape, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """The absolute constants that a scaling layer adds: each before they cancel."""
    if isinstance(layer, nn.Rescaling):
        return np.asarray(np.broadcast_to(np.abs(np.asarray(layer.offset, np.float64)), shape))[None]
    mean = np.asarray(layer.moving_mean if isinstance(layer, nn.BatchNormalization) else layer.mean, np.float64)
    shifted = np.asarray(getattr(layer, "beta", None) if getattr(layer, "center", False) else 0.0, np.float64)
    return np.asarray(scale * np.abs(mean) + np.abs(shifted))


def _windows(layer: Any, number: int, shape: Shape) -> list[Step]:
    """One step for each place in a pooling window: the values that stand there, (rows, columns, channels)."""
    (height, width), (down, right) = layer.pool_size, layer.strides
    pads = [
        _pad(n, size, stride, layer.padding)
        for n, size, stride in zip(shape[:2], layer.pool_size, layer.strides, strict=True)
    ]
    rows, columns = (
        (n + sum(pad) - size) // stride + 1
        for n, pad, size, stride in zip(shape[:2], pads, layer.pool_size, layer.strides, strict=True)
    )
    windows = []
    for i in range(height):
        for j in range(width):

            def cut(x: Any, fill: float, i: int = i, j: int = j) -> Any:
                x = tf.pad(x, [[0, 0], pads[0], pads[1], [0, 0]], constant_values=tf.constant(fill, tf.float64))
                return x[:, i : i + down * (rows - 1) + 1 : down, j : j + right * (columns - 1) + 1 : right, :]

            apply, spread = (lambda x, c=cut: c(x, PADDING)), (lambda x, c=cut: c(x, 0.0))
            at = (rows, columns, shape[2])
            windows.append(Step("affine", (number,), at, layer.name, apply=apply, spread=spread))
    return windows


def _pad(n: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """Rows before and behind, as TensorFlow pads."""
    missing = max((-(-n // stride) - 1) * stride + size - n, 0) if padding == "same" else 0
    return missing // 2, missing - missing // 2
