"""Models of several inputs, of which one is the image: each other one is fed a number that is stated, else 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gauntlet.errors import ModelError, SettingError
from gauntlet.limits import MAX_ACTIVATION
from gauntlet.models.layout import applied

if TYPE_CHECKING:
    import keras

FORM = "NAME of the images' input, then OTHER=NUMBER for any other: pixels,mask=1"
Shape = Sequence[int | None]


@dataclass(frozen=True)
class Feeds:
    """What is stated of a model's inputs."""

    image: str | None = None
    """The input that takes the images; else the one that they fit."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What others are filled with, by name."""


NOTHING = Feeds()


def feeds(text: str | None) -> Feeds:
    """The inputs of `--input TEXT`, see `FORM`; `SettingError` for anything else.

    >>> feeds("pixels,mask=1")
    Feeds(image='pixels', numbers={'mask': 1.0})
    """
    parts = [part.rpartition("=") for part in text.split(",")] if text is not None else []
    images = [name.strip() for _, equals, name in parts if not equals]
    try:
        numbers = {name.strip(): float(number) for name, equals, number in parts if equals}
    except ValueError:
        numbers = {"": math.nan}
    if len(images) > 1 or not all(map(math.isfinite, numbers.values())) or not all([*images, *numbers]):
        raise SettingError(f"{str(text)[:80]!r} names no inputs", where="input", fix=FORM)
    return Feeds(images[0] if images else None, numbers)


def chosen_input(shapes: Mapping[str, Shape], fits: Callable[[Shape], bool], stated: Feeds = NOTHING) -> str:
    """The name of the input that takes the images, by the shapes (without the batch) of all; `ModelError` else.

    `fits` says whether the images have a shape. Of a model with one input nothing need fit here: what it takes is
    looked at later.
    """
    known = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    for name in (*stated.numbers, *filter(None, [stated.image])):
        if name not in shapes:
            raise ModelError(f"it has no input {name!r}", where="input", fix=f"one of {known}")
    if len(shapes) == 1 or stated.image is not None:
        return stated.image or next(iter(shapes))
    fitting = [name for name, shape in shapes.items() if fits(shape) and name not in stated.numbers]
    if len(fitting) != 1:
        what = f"the model has {len(shapes)} inputs, {known}; the images fit {len(fitting)} of them"
        raise ModelError(what, where="model", fix="name theirs with --input")
    return fitting[0]


def one_input(model: keras.Model, fits: Callable[[Shape], bool], stated: Feeds = NOTHING) -> tuple[keras.Model, str]:
    """The model as one of images alone, and what its other inputs are fed: `mask = 0`; `ModelError` when none fits."""
    import keras

    tensors = {tensor.name: tensor for tensor in model.inputs}
    name = chosen_input({key: tensor.shape[1:] for key, tensor in tensors.items()}, fits, stated)
    if len(tensors) == 1:
        return model, ""
    images = keras.Input(batch_shape=tensors[name].shape, dtype=tensors[name].dtype, name=name)
    numbers = {key: stated.numbers.get(key, 0.0) for key in tensors if key != name}
    given = [images if key == name else _filled(images, tensor, numbers[key]) for key, tensor in tensors.items()]
    fed = ", ".join(f"{key} = {number:g}" for key, number in numbers.items())
    return keras.Model(images, applied(model, given)), fed


def _filled(images: Any, tensor: Any, number: float) -> Any:
    """A number for every value of an input, and for every image."""
    import keras
    from keras import ops

    shape = tuple(tensor.shape[1:])
    if None in shape or math.prod(shape) > MAX_ACTIVATION:
        raise ModelError(f"its input {tensor.name} has no size that could be filled: {shape}", where="model")
    x = keras.Input(batch_shape=images.shape, dtype=images.dtype)
    zeros = ops.sum(ops.zeros_like(x), axis=tuple(range(1, len(images.shape))))
    zeros = ops.tile(ops.reshape(zeros, (-1, *[1] * len(shape))), (1, *shape))
    # a model of its own: the names of these operations may be those of the given model's layers
    return keras.Model(x, ops.cast(zeros + number, tensor.dtype), name=f"{tensor.name}_filled")(images)
