"""What a Keras network computes before its last layer, layer by layer wherever it is nested."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import ModelError
from gauntlet.threat import Images

if TYPE_CHECKING:
    import keras

BATCH = 512


def layers(model: keras.Model) -> list[keras.Layer]:
    """All layers in order, those of nested models in their place."""
    found = []
    for layer in model.layers:
        found += layers(layer) if hasattr(layer, "layers") else [layer]
    return found


def hidden(model: keras.Model, x: Images) -> NDArray[np.float32]:
    """What the last layer with weights is given for images (n, h, w, c): (n, d); `ModelError` where it has none."""
    import keras

    weighted = [layer for layer in layers(model) if layer.weights]
    if len(weighted) < 2:
        raise ModelError("no hidden layer was found", where="model", fix="give a Keras model of layers")
    inner = _holding(model, weighted[-1])
    before = keras.Model(inner.inputs, weighted[-1].input)
    given = x if inner is model else keras.Model(model.inputs, inner.input).predict(x, batch_size=BATCH, verbose=0)
    features: NDArray[np.float32] = before.predict(given, batch_size=BATCH, verbose=0).reshape(len(x), -1)
    return features


def _holding(model: keras.Model, layer: keras.Layer) -> keras.Model:
    """The innermost model that has the layer."""
    for one in model.layers:
        if hasattr(one, "layers") and layer in layers(one):
            return _holding(one, layer)
    return model
