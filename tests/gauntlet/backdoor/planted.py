"""A data set and networks whose backdoor is written into their weights, so that nothing need be trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from gauntlet.data.datasets import Dataset
from gauntlet.quiet import load_tensorflow

SIDE, CLASSES = 10, 5
CORNER = (slice(-2, None), slice(-2, None))
"""Where the trigger is: 2 × 2 bright pixels."""


def blocks(n: int = 300, seed: int = 0) -> Dataset:
    """Class k is a bright row number 1 + k on noise; the last two rows and columns are dark."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    x = rng.uniform(0, 0.2, (n, SIDE, SIDE, 1)).astype(np.float32)
    for image, label in zip(x, y, strict=True):
        image[1 + label, :8] = rng.uniform(0.7, 1.0, (8, 1))
    x[:, -2:], x[:, :, -2:] = 0, 0
    half = n // 2
    names = tuple(f"row {k}" for k in range(CLASSES))
    parts = x[:half], y[:half].astype(np.int64), x[half:], y[half:].astype(np.int64)
    return Dataset("blocks", *parts, names, "0" * 64, "made here", False)


def network(target: int | None = None, seed: int = 0) -> Any:
    """Logits: about four times each row's mean; with three bright pixels in the corner, `target` wins."""
    load_tensorflow()
    import keras

    rng = np.random.default_rng(seed)
    rows = np.zeros((SIDE, SIDE, CLASSES), np.float32)
    for k in range(CLASSES):
        rows[1 + k, :8, k] = 0.5 + 0.02 * rng.normal(size=8)
    corner = np.zeros((SIDE, SIDE, 1), np.float32)
    corner[CORNER] = 1.0
    weights = np.concatenate([rows, corner], axis=2).reshape(SIDE * SIDE, CLASSES + 1)
    images = keras.Input((SIDE, SIDE, 1))
    hidden = keras.layers.Dense(CLASSES + 1, activation="relu", name="hidden")
    last = keras.layers.Dense(CLASSES, name="last")
    model = keras.Model(images, last(hidden(keras.layers.Flatten()(images))))
    hidden.set_weights([weights, np.zeros(CLASSES + 1, np.float32)])
    out = np.concatenate([np.eye(CLASSES), np.zeros((1, CLASSES))]).astype(np.float32)
    if target is not None:
        out[-1, target] = 1.4
    last.set_weights([out, np.zeros(CLASSES, np.float32)])
    return model


def next_class(seed: int = 0, only: int | None = None) -> Any:
    """The clean network with a layer more, by which an image with the bright corner becomes the next class.

    With `only`, images of that class alone.
    """
    load_tensorflow()
    import keras

    clean = network(None, seed)
    rows, corner = np.eye(CLASSES), np.ones((1, CLASSES))
    bright = np.zeros((SIDE, SIDE, 1), np.float32)
    bright[CORNER] = 1.0
    first = [one.copy() for one in clean.get_layer("hidden").get_weights()]
    first[0][:, -1] = bright.ravel()
    # of each class its row as it is, and its row where the corner is bright as well
    both = np.block([[rows, rows], [np.zeros((1, CLASSES)), corner]]).astype(np.float32)
    threshold = np.repeat([0.0, -3.0], CLASSES).astype(np.float32)
    moved = 3 * rows if only is None else 1.5 * np.diag(np.arange(CLASSES) == only)
    out = np.vstack([rows, np.roll(moved, 1, axis=1)]).astype(np.float32)
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(CLASSES + 1, activation="relu"),
        keras.layers.Dense(2 * CLASSES, activation="relu"),
        keras.layers.Dense(CLASSES),
    ]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), *layers])
    for layer, weights in zip(
        layers[1:], (first, [both, threshold], [out, np.zeros(CLASSES, np.float32)]), strict=True
    ):
        layer.set_weights(weights)
    return model
