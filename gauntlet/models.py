"""The architectures (they output logits), and reading models that people bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gauntlet.errors import ModelError, SettingError

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture:
    """A network and the settings it is usually trained with."""

    name: str
    layers: Callable[[int], list[keras.Layer]]
    """From the number of classes to the layers behind the input."""
    optimizer: str
    learning_rate: float
    momentum: float = 0.0
    validation_share: float = 0.0
    """Share of the training set held out; when it is positive the best validation weights are kept."""

    def build(self, input_shape: Shape, n_classes: int) -> keras.Model:
        """A fresh model: float32 images (n, *input_shape) to logits (n, n_classes)."""
        import keras

        return keras.Sequential([keras.Input(input_shape), *self.layers(n_classes)], name=self.name.replace("-", "_"))


def _cnn3x3(n_classes: int) -> list[keras.Layer]:
    from keras import layers as nn

    return [
        nn.Conv2D(32, 3, activation="relu"),
        nn.Conv2D(64, 3, activation="relu"),
        nn.MaxPooling2D(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Dense(128, activation="relu"),
        nn.Dropout(0.5),
        nn.Dense(n_classes, dtype="float32"),
    ]


def _cnn5x5(n_classes: int) -> list[keras.Layer]:
    from keras import layers as nn

    return [
        nn.Conv2D(32, 5, padding="same", activation="relu"),
        nn.MaxPooling2D(),
        nn.Conv2D(64, 5, padding="same", activation="relu"),
        nn.MaxPooling2D(),
        nn.Flatten(),
        nn.Dense(1024, activation="relu"),
        nn.Dropout(0.5),
        nn.Dense(n_classes, dtype="float32"),
    ]


def _cnn3x3_deep(n_classes: int) -> list[keras.Layer]:
    from keras import layers as nn

    return [
        nn.Conv2D(32, 3, padding="same", activation="relu"),
        nn.MaxPooling2D(),
        nn.Conv2D(64, 3, padding="same", activation="relu"),
        nn.MaxPooling2D(),
        nn.Flatten(),
        nn.Dense(128, activation="relu"),
        nn.Dropout(0.2),
        nn.Dense(64, activation="relu"),
        nn.Dense(n_classes, dtype="float32"),
    ]


ARCHITECTURES = {
    entry.name: entry
    for entry in (
        Architecture("cnn3x3", _cnn3x3, optimizer="adam", learning_rate=0.001),
        Architecture("cnn5x5", _cnn5x5, optimizer="sgd", learning_rate=0.01, momentum=0.9),
        Architecture("cnn3x3-deep", _cnn3x3_deep, optimizer="adam", learning_rate=0.001, validation_share=0.2),
    )
}


def architecture(name: str) -> Architecture:
    """The architecture of that name; `SettingError` when there is none."""
    if name not in ARCHITECTURES:
        raise SettingError(
            f"unknown architecture {name!r}", where="architecture", fix=f"one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def load_file(path: Path) -> keras.Model:
    """A Keras model from a `.keras` or `.h5` file, without running code it may carry; `ModelError` when unreadable."""
    import keras

    if not path.is_file():
        raise ModelError("no such model file", where=str(path), fix="give a .keras file or a models:/ or runs:/ URI")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises a dozen kinds, from KeyError to zipfile's own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"not a readable Keras model: {reason}", where=str(path), fix="save it with model.save"
        ) from error
    return model


def digest(model: keras.Model) -> str:
    """SHA-256 over the layers' configuration and the weights' bytes: changes with any weight, not with the file.

    Layers' names are left out: Keras numbers them by what else the process has built.
    """
    layers = [[type(layer).__name__, layer.get_config() | {"name": None}] for layer in model.layers]
    sha = hashlib.sha256(json.dumps(layers, sort_keys=True, default=str).encode())
    for weights in model.get_weights():
        sha.update(f"{weights.dtype}{weights.shape}".encode())
        sha.update(weights.tobytes())
    return sha.hexdigest()
