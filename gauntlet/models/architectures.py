"""The architectures; they output logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gauntlet.errors import SettingError

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
