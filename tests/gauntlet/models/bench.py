"""Models that know their digits, and what an adapter makes of them."""

from __future__ import annotations

import keras
import numpy as np

from gauntlet.data.datasets import Dataset
from gauntlet.models.adapter import RANGES, adapt

Layers = list[keras.Layer]


class Bench:
    """Makes models that know their digits, and adapts them to the first 200 test images."""

    def __init__(self, digits: Dataset, weights: np.ndarray, bias: np.ndarray) -> None:
        self.x, self.y, self.weights, self.bias = digits.x_test[:200], digits.y_test[:200], weights, bias
        self.logits = self.x.reshape(200, -1) @ weights + bias

    def network(
        self,
        behind: Layers | None = None,
        activation: str | None = None,
        pixels: str = "0..1",
        shape: tuple[int, ...] = (28, 28, 1),
    ) -> keras.Model:
        """A linear model on images of `shape` whose pixels are in the given range, with layers behind it."""
        dense = keras.layers.Dense(10, activation=activation)
        network = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), dense, *(behind or [])])
        scale, offset = RANGES[pixels]
        dense.set_weights([self.weights / scale, self.bias - (self.weights * offset / scale).sum(axis=0)])
        return network

    def adapt(
        self, network: keras.Model, input_range: str = "auto", outputs: str = "auto"
    ) -> tuple[str, str, np.ndarray]:
        """The range and outputs found, and the logits of the first 200 images."""
        adapted = adapt(network, self.x, self.y, 10, input_range, outputs)  # type: ignore[arg-type]
        return adapted.input_range, adapted.outputs, adapted.model(self.x, training=False).numpy()
