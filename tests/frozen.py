"""The small model that most tests share, with weights that were trained once.

Training ends elsewhere on every kind of processor; what the tests state about single images must not.
`python -m tests.frozen` trains it again and replaces the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras

WEIGHTS = Path(__file__).parent / "weights" / "digits.npz"


def halved(images: np.ndarray) -> np.ndarray:
    """Images (n, h, w, c) of half the side: the mean of every four pixels. Networks train on them in less time."""
    n, height, width, channels = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def network() -> keras.Model:
    """A 3×3 CNN of 75,338 weights for the digits, without training."""
    import keras

    nn = keras.layers
    layers = [
        nn.Conv2D(8, 3, activation="relu"),
        nn.Conv2D(16, 3, activation="relu"),
        nn.MaxPooling2D(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Dense(32, activation="relu"),
        nn.Dropout(0.25),
        nn.Dense(10),
    ]
    return keras.Sequential([keras.Input((28, 28, 1)), *layers], name="digits")


def frozen() -> keras.Model:
    """That network with the weights of the file."""
    model = network()
    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        model.set_weights([arrays[name].astype(np.float32) for name in arrays.files])
    return model


def freeze(digits: Dataset) -> None:
    """Train the network and write its weights, as float16."""
    import keras

    keras.utils.set_random_seed(0)
    model = network()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.x_train, digits.y_train, epochs=12, batch_size=32, verbose=0)
    WEIGHTS.parent.mkdir(exist_ok=True)
    np.savez_compressed(WEIGHTS, *[weights.astype(np.float16) for weights in model.get_weights()])
    predicted = frozen().predict(digits.x_test, verbose=0).argmax(axis=1)
    print(f"{100 * np.mean(predicted == digits.y_test):.1f} % of {len(predicted)} test images are correct")


if __name__ == "__main__":
    load_tensorflow()
    freeze(read_dataset("digits"))
