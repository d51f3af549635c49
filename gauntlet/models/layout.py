"""Layers that take channels first, made to run on any processor: many have no such kernels, or none for gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

FIRST, LAST = "channels_first", "channels_last"


def channels_last(model: keras.Model) -> keras.Model:
    """The same function with every channels-first convolution and pooling between two transpositions.

    Other layers are shared with the given model; of those that change, the weights are copied. A model without such
    layers is returned as it is.
    """
    import keras

    if not any(_is_first(layer) for layer in model._flatten_layers()):
        return model
    images = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
    return keras.Model(images, applied(model, images, _operation))


def applied(model: keras.Model, inputs: Any, operation: Callable[[Any], Any] = lambda each: each) -> Any:
    """The model's graph run again on symbols, each operation of it as what `operation` makes of it."""
    graph = getattr(model, "_functional", None) or model
    return graph._run_through_graph(inputs, operation_fn=operation)


def _operation(operation: Any) -> Any:
    """An operation of the graph, or what stands in for it."""
    import keras

    if isinstance(operation, keras.Model):
        return lambda images, **_: applied(operation, images, _operation)
    return _turned(operation) if _is_first(operation) else operation


def _is_first(layer: Any) -> bool:
    return getattr(layer, "data_format", None) == FIRST and type(layer).__name__ != "Flatten"


def _turned(layer: Any) -> Any:
    """A channels-first layer as one of channels last, its input and its output turned round."""
    from keras import ops

    made = type(layer).from_config(layer.get_config() | {"data_format": LAST})

    def call(images: Any, **_: Any) -> Any:
        answer = made(ops.moveaxis(images, 1, -1))
        made.set_weights(layer.get_weights())
        return ops.moveaxis(answer, -1, 1) if len(answer.shape) == len(images.shape) else answer

    return call
