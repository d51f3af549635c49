"""People's models, made comparable: images in [0, 1] of the data set's shape in, logits out.

What a model expects is detected on clean images and recorded; both can be stated instead of detected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import keras

InputRange = Literal["auto", "0..1", "0..255", "-1..1"]
Outputs = Literal["auto", "logits", "probabilities"]

RANGES: dict[str, tuple[float, float]] = {"0..1": (1.0, 0.0), "0..255": (255.0, 0.0), "-1..1": (2.0, -1.0)}
"""Scale and offset that bring pixels from [0, 1] to what the model expects."""


@dataclass(frozen=True)
class Adapted:
    """A model that takes [0, 1] images and gives logits, and what had to be done to get there."""

    model: keras.Model
    input_range: str
    outputs: str
    """`logits`, `probabilities` (the softmax was removed) or `probabilities (log)` (it could not be)."""


def adapt(
    model: keras.Model,
    x: Images,
    y: Labels,
    n_classes: int,
    input_range: InputRange = "auto",
    outputs: Outputs = "auto",
) -> Adapted:
    """Wrap `model` for clean images `x` (n, h, w, c) in [0, 1] with labels `y`; `ModelError` when it does not fit.

    The input range is the one with the lowest cross-entropy on `x`: accuracy alone cannot tell, since a ReLU network
    fed 255 times too much often still ranks the classes right. A model no better than chance at any range is refused.
    """
    _check_shapes(model, x, n_classes)
    if outputs == "auto":
        outputs = "probabilities" if _sums_to_one(_scores(model, x[:256])) else "logits"
    logits, how = (model, "logits") if outputs == "logits" else _without_softmax(model, x[:32])
    asked = RANGES if input_range == "auto" else [input_range]
    tried = {name: _fit(_rescaled(logits, x.shape[1:], name), x, y) for name in asked}
    best = min(tried, key=lambda name: tried[name][0])
    if tried[best][1] <= _chance(n_classes, y):
        every = tried | {name: _fit(_rescaled(logits, x.shape[1:], name), x, y) for name in RANGES if name not in tried}
        raise _at_chance(every, len(y))
    return Adapted(_rescaled(logits, x.shape[1:], best), best, how)


def _check_shapes(model: keras.Model, x: Images, n_classes: int) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        found = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise ModelError(f"the model has {found}, expected one of each", where="model")
    expected, got = tuple(model.input_shape[1:]), x.shape[1:]
    if not _fits(expected, got):
        raise ModelError(f"the model takes images of shape {expected}, the data set has {got}", where="model")
    if model.output_shape[-1] != n_classes:
        raise ModelError(
            f"the model has {model.output_shape[-1]} outputs, the data set {n_classes} classes", where="model"
        )


def _fits(expected: tuple[int | None, ...], got: tuple[int, ...]) -> bool:
    """Whether images of one shape can be given as the other; a model of any size says None."""
    if None not in expected:
        return bool(np.prod([n or 1 for n in expected]) == np.prod(got))
    return len(expected) == len(got) and all(e in (None, g) for e, g in zip(expected, got, strict=True))


def _scores(model: keras.Model, x: Images) -> np.ndarray:
    """What the model gives for images, brought into its own shape."""
    expected = tuple(model.input_shape[1:])
    return np.asarray(model(x if None in expected else x.reshape(-1, *expected), training=False))


def _sums_to_one(scores: np.ndarray) -> bool:
    return bool(scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=1e-3))


def _without_softmax(model: keras.Model, x: Images) -> tuple[keras.Model, str]:
    """The same network with logits out: saturated probabilities give zero gradients that look like robustness."""
    import keras

    last, before = model.layers[-1], _scores(model, x)
    if isinstance(last, keras.layers.Softmax) or _is_softmax(last, keras.layers.Activation):
        logits = keras.Model(model.inputs[0], last.input)
    elif _is_softmax(last, keras.layers.Layer):
        logits = keras.Model(model.inputs[0], _without_activation(last))
    else:
        return _log(model), "probabilities (log)"
    after = np.asarray(keras.ops.softmax(_scores(logits, x)))
    return (logits, "probabilities") if np.allclose(before, after, atol=1e-4) else (_log(model), "probabilities (log)")


def _without_activation(layer: keras.Layer) -> keras.KerasTensor:
    """What `layer` computes before its activation, from a copy of it: the given model stays as it is."""
    copy = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    scores = copy(layer.input)
    copy.set_weights(layer.get_weights())
    return scores


def _is_softmax(layer: keras.Layer, kind: type) -> bool:
    import keras

    return isinstance(layer, kind) and getattr(layer, "activation", None) is keras.activations.softmax


def _log(model: keras.Model) -> keras.Model:
    import keras

    scores = model(model.inputs[0])
    return keras.Model(model.inputs[0], keras.ops.log(keras.ops.maximum(scores, 1e-30)))


def _rescaled(model: keras.Model, shape: tuple[int, ...], name: str) -> keras.Model:
    """`model` behind a rescaling and, where it takes other shapes than (h, w, c), a reshaping of its input."""
    import keras

    scale, offset = RANGES[name]
    expected = tuple(model.input_shape[1:])
    reshape = None not in expected and expected != tuple(shape)
    if (scale, offset) == (1.0, 0.0) and not reshape:
        return model
    images = keras.Input(shape)
    hidden = keras.layers.Rescaling(scale, offset)(images)
    return keras.Model(images, model(keras.layers.Reshape(expected)(hidden) if reshape else hidden))


def _fit(model: keras.Model, x: Images, y: Labels) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on `x`, `y`."""
    from scipy.special import log_softmax

    logits = model.predict(x, batch_size=256, verbose=0)
    finite = np.nan_to_num(log_softmax(logits.astype(np.float64), axis=1), nan=-1e9)
    return float(-finite[np.arange(len(y)), y].mean()), float((logits.argmax(axis=1) == y).mean())


def _chance(n_classes: int, y: Labels) -> float:
    """Three standard errors above what always guessing the most frequent class gets."""
    majority = float(np.bincount(y, minlength=n_classes).max() / len(y))
    return majority + 3 * float(np.sqrt(majority * (1 - majority) / len(y)))


def _at_chance(tried: dict[str, tuple[float, float]], n: int) -> ModelError:
    seen = ", ".join(f"{100 * accuracy:.1f} % at {name}" for name, (_, accuracy) in tried.items())
    fix = "check the input range, the label order and that the model was trained on this data set"
    return ModelError(f"the model is at chance level on {n} clean images: {seen}", where="model", fix=fix)
