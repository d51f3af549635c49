"""The architectures; they output logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gauntlet.errors import SettingError

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture:
    """A network and the settings it is usually trained with."""

    name: str
    make: Callable[[Shape, int, str], keras.Model]
    """From the shape of an image, the number of classes and a name to a fresh network."""
    optimizer: str
    learning_rate: float
    momentum: float = 0.0
    validation_share: float = 0.0
    """Share of the training set held out; when it is positive the best validation weights are kept."""
    schedule: str = "constant"
    augment: str = "none"

    def build(self, input_shape: Shape, n_classes: int) -> keras.Model:
        """A fresh model: float32 images (n, *input_shape) to logits (n, n_classes)."""
        return self.make(input_shape, n_classes, self.name.replace("-", "_"))


def _sequence(layers: Callable[[int], list[keras.Layer]]) -> Callable[[Shape, int, str], keras.Model]:
    """A network of layers one behind the other; `layers` makes them from the number of classes."""

    def make(input_shape: Shape, n_classes: int, name: str) -> keras.Model:
        import keras

        return keras.Sequential([keras.Input(input_shape), *layers(n_classes)], name=name)

    return make


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


WIDTHS = (32, 64, 96)
"""Channels of the residual blocks of `resnet-small`; each halves height and width."""


def _resnet_small(input_shape: Shape, n_classes: int, name: str) -> keras.Model:
    """A residual network (He et al. 2016) for 32 × 32 pixels: a stem and three blocks, about 220,000 weights."""
    import keras
    from keras import layers as nn

    images = keras.Input(input_shape)
    hidden = _normed(nn.Conv2D(WIDTHS[0], 3, padding="same", use_bias=False)(images), relu=True)
    for width in WIDTHS:
        hidden = _block(hidden, width)
    pooled = nn.GlobalAveragePooling2D()(hidden)
    return keras.Model(images, nn.Dense(n_classes, dtype="float32")(pooled), name=name)


def _block(x: Any, width: int) -> Any:
    """Two convolutions, the first of stride 2, beside a 1 × 1 convolution of the same stride."""
    from keras import layers as nn

    inner = _normed(nn.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x), relu=True)
    inner = _normed(nn.Conv2D(width, 3, padding="same", use_bias=False)(inner))
    beside = _normed(nn.Conv2D(width, 1, strides=2, use_bias=False)(x))
    return nn.ReLU()(nn.Add()([inner, beside]))


def _normed(x: Any, *, relu: bool = False) -> Any:
    from keras import layers as nn

    x = nn.BatchNormalization(momentum=0.9)(x)
    return nn.ReLU()(x) if relu else x


ARCHITECTURES = {
    entry.name: entry
    for entry in (
        Architecture("cnn3x3", _sequence(_cnn3x3), optimizer="adam", learning_rate=0.001),
        Architecture("cnn5x5", _sequence(_cnn5x5), optimizer="sgd", learning_rate=0.01, momentum=0.9),
        Architecture(
            "cnn3x3-deep", _sequence(_cnn3x3_deep), optimizer="adam", learning_rate=0.001, validation_share=0.2
        ),
        Architecture(
            "resnet-small", _resnet_small, "adam", learning_rate=0.002, schedule="cosine", augment="flip-shift"
        ),
    )
}


def architecture(name: str) -> Architecture:
    """The architecture of that name; `SettingError` when there is none."""
    if name not in ARCHITECTURES:
        raise SettingError(
            f"unknown architecture {name!r}", where="architecture", fix=f"one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
