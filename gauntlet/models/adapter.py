"""People's models, made comparable: images in [0, 1] of the data set's shape in, logits out.

What a model expects is detected on clean images and recorded; all of it can be stated instead of detected.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from gauntlet.errors import ModelError
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import keras

InputRange = Literal["auto", "0..1", "0..255", "-1..1"]
Layout = Literal["auto", "hwc", "chw", "flat"]
Outputs = Literal["auto", "logits", "probabilities", "labels"]

RANGES: dict[str, tuple[float, float]] = {"0..1": (1.0, 0.0), "0..255": (255.0, 0.0), "-1..1": (2.0, -1.0)}
"""Scale and offset that bring pixels from [0, 1] to what the model expects."""
LAYOUTS = ("hwc", "chw", "flat")
"""Channels last, channels first, all pixels of an image in one row (of channels last)."""


class Expects(NamedTuple):
    """How images must come."""

    input_range: str
    layout: str


class Fit(NamedTuple):
    """How a model does on clean images when they come in one way."""

    loss: float
    """Mean cross-entropy in nats; of labels the share of wrong ones."""
    accuracy: float
    predictions: Labels


class Settled(NamedTuple):
    """How images are given, and the input range that fits clearly better than a stated one, if any does."""

    expects: Expects
    better_range: str | None


@dataclass(frozen=True)
class Adapted:
    """A model that takes [0, 1] images and gives logits, and what had to be done to get there."""

    model: keras.Model
    input_range: str
    outputs: str
    """`logits`, `probabilities` (the softmax was removed) or `probabilities (log)` (it could not be)."""
    layout: str = "hwc"
    better_range: str | None = None
    """The input range that fits clearly better than the one stated."""


def adapt(
    model: keras.Model,
    x: Images,
    y: Labels,
    n_classes: int,
    input_range: InputRange = "auto",
    outputs: Outputs = "auto",
    layout: Layout = "auto",
    *,
    doubt: bool = True,
) -> Adapted:
    """Wrap `model` for clean images `x` (n, h, w, c) in [0, 1] with labels `y`; `ModelError` when it does not fit.

    The input range is, of the most accurate, the one with the lowest cross-entropy on `x`: accuracy alone cannot tell,
    since a ReLU network fed 255 times too much often still ranks the classes right. A model no better than chance at
    any range is refused. A stated range is used; without `doubt` nobody looks whether another fits better.
    """
    layouts = _check_shapes(model, x, n_classes, outputs, layout)
    first = _scores(model, x[:256], layouts[0])
    check_finite(first)
    if outputs == "auto":
        outputs = "probabilities" if sums_to_one(first) else "logits"
    logits, how = (model, "logits") if outputs == "logits" else _without_softmax(model, x[:32], layouts[0])
    ways = [Expects(name, order) for name in RANGES for order in layouts]
    asked = [way for way in ways if input_range in ("auto", way.input_range)]

    def measure(way: Expects) -> Fit:
        return fit(_wrapped(logits, x.shape[1:], way).predict(x, batch_size=256, verbose=0), y)

    (found, better) = settle(measure, asked, [way for way in ways if way not in asked], y, n_classes, doubt=doubt)
    return Adapted(_wrapped(logits, x.shape[1:], found), found.input_range, how, found.layout, better)


# --- what fits ----------------------------------------------------------------------------------------------


def fit(scores: np.ndarray, y: Labels) -> Fit:
    """The fit of logits (n, n_classes) to labels (n,)."""
    from scipy.special import log_softmax

    finite = np.nan_to_num(log_softmax(scores.astype(np.float64), axis=1), nan=-1e9)
    predictions = scores.argmax(axis=1).astype(np.int64)
    return Fit(float(-finite[np.arange(len(y)), y].mean()), float((predictions == y).mean()), predictions)


def settle(
    measure: Callable[[Expects], Fit],
    asked: Sequence[Expects],
    others: Sequence[Expects],
    y: Labels,
    n_classes: int,
    tie: float = 0.0,
    *,
    doubt: bool = True,
) -> Settled:
    """Of the ways asked for and as accurate as any, the first within `tie` of the lowest loss.

    Accuracy comes first, as an overconfident model can have the lower cross-entropy where it is less often right.
    Raises `ModelError` when all are at chance; the `others` then tell the likely cause, else whether to doubt.
    """
    tried = {way: measure(way) for way in asked}
    highest, limit = max(found.accuracy for found in tried.values()), chance(n_classes, y)
    if highest <= limit:
        raise _at_chance(tried, {way: measure(way) for way in others}, y, n_classes)
    least = highest - _noise(highest, len(y))
    able = {way: found for way, found in tried.items() if found.accuracy > limit and found.accuracy >= least}
    lowest = min(found.loss for found in able.values())
    best = next(way for way, found in able.items() if found.loss <= lowest + tie)
    rivals = {way: measure(way) for way in others if doubt and way.layout == best.layout}
    clearly = [way for way, found in rivals.items() if _is_better(found, tried[best], len(y))]
    return Settled(best, max(clearly, key=lambda way: rivals[way].accuracy).input_range if clearly else None)


def _is_better(rival: Fit, stated: Fit, n: int) -> bool:
    """Whether more images are right beyond noise, or no fewer at a loss clearly lower."""
    more_right = rival.accuracy > stated.accuracy + _noise(rival.accuracy, n)
    lower_loss = rival.loss < min(0.8 * stated.loss, stated.loss - 0.05)
    return more_right or (rival.accuracy >= stated.accuracy and lower_loss)


def _noise(accuracy: float, n: int) -> float:
    """Three standard errors of a share of n."""
    return 3 * float(np.sqrt(accuracy * (1 - accuracy) / n))


def chance(n_classes: int, y: Labels) -> float:
    """Three standard errors above what always guessing the most frequent class gets."""
    majority = float(np.bincount(y, minlength=n_classes).max() / len(y))
    return majority + _noise(majority, len(y))


def _at_chance(tried: dict[Expects, Fit], others: dict[Expects, Fit], y: Labels, n_classes: int) -> ModelError:
    """What was seen and the likely cause: another way to give images works, or the classes are in another order."""
    what, every = f"the model is at chance level on {len(y)} clean images", tried | others
    best = max(tried, key=lambda way: tried[way].accuracy)
    cause = max(others, key=lambda way: others[way].accuracy, default=best)
    if every[cause].accuracy > chance(n_classes, y):
        differing = [i for i in range(2) if best[i] != cause[i]]
        looks = " ".join(cause[i] for i in differing)
        flags = " ".join(f"--{('input-range', 'layout')[i]} {cause[i]}" for i in differing)
        seen = ", ".join(_seen(way, every[way], differing) for way in (best, cause))
        return ModelError(f"{what}, input looks like {looks}: {seen}", where="model", fix=f"give {flags}")
    varied = [0, 1] if len({way.layout for way in every}) > 1 else [0]
    seen = ", ".join(_seen(way, found, varied) for way, found in every.items())
    renamed = max(_renamed(found.predictions, y, n_classes) for found in every.values())
    if renamed >= (1 + chance(n_classes, y)) / 2:
        fix = f"the classes look reordered: {100 * renamed:.1f} % are right in another order"
    else:
        fix = "check the input range, the label order and that the model was trained on this data set"
    return ModelError(f"{what}: {seen}", where="model", fix=fix)


def _seen(way: Expects, found: Fit, named: Sequence[int]) -> str:
    """`98.9 % at [0, 255] as chw`, with what of it is named."""
    scale, offset = RANGES[way.input_range]
    parts = f"at [{offset:g}, {scale + offset:g}]", f"as {way.layout}"
    return " ".join([f"{100 * found.accuracy:.1f} %", *(parts[i] for i in named)])


def _renamed(predictions: Labels, y: Labels, n_classes: int) -> float:
    """The accuracy if every predicted class could be given the name that suits it best."""
    from scipy.optimize import linear_sum_assignment

    pairs = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(pairs, (predictions, y), 1)
    return float(pairs[linear_sum_assignment(pairs, maximize=True)].sum() / len(y))


# --- Keras --------------------------------------------------------------------------------------------------


def _check_shapes(model: keras.Model, x: Images, n_classes: int, outputs: Outputs, layout: Layout) -> list[str]:
    """The layouts that the model can take."""
    if outputs == "labels":
        fix = "logits or probabilities; to hide them, give module:function instead"
        raise ModelError("a Keras model is attacked through its scores, not its labels", where="outputs", fix=fix)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        found = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise ModelError(f"the model has {found}, expected one of each", where="model")
    expected, got = tuple(model.input_shape[1:]), x.shape[1:]
    layouts = list(_layouts(expected, got, layout))
    if not layouts:
        as_stated = "" if layout == "auto" else f" in layout {layout}"
        raise ModelError(
            f"the model takes images of shape {expected}, the data set has {got}{as_stated}", where="model"
        )
    if model.output_shape[-1] != n_classes:
        raise ModelError(
            f"the model has {model.output_shape[-1]} outputs, the data set {n_classes} classes", where="model"
        )
    return layouts


def _layouts(expected: tuple[int | None, ...], got: tuple[int, ...], layout: Layout) -> Iterator[str]:
    """The layouts by which images (h, w, c) fit; a model of any size says None. `flat` stands in where none does."""
    height, width, channels = got
    grey = [(height, width)] if channels == 1 and None not in expected else []
    shapes: dict[str, list[tuple[int, ...]]] = {"hwc": [got, *grey], "chw": [(channels, height, width)]}
    ordered = [name for name, ways in shapes.items() if any(_fits(expected, way) for way in ways)]
    yield from (name for name in ordered if layout in ("auto", name))
    same_size = None not in expected and np.prod([n or 1 for n in expected]) == np.prod(got)
    if same_size and (layout == "flat" or (layout == "auto" and not ordered)):
        yield "flat"


def _fits(expected: tuple[int | None, ...], got: tuple[int, ...]) -> bool:
    return len(expected) == len(got) and all(e in (None, g) for e, g in zip(expected, got, strict=True))


def _scores(model: keras.Model, x: Images, layout: str) -> np.ndarray:
    """What the model gives for images, brought into its own shape."""
    expected = tuple(model.input_shape[1:])
    x = x.transpose(0, 3, 1, 2) if layout == "chw" else x
    given = x if None in expected else x.reshape(-1, *expected)
    with warnings.catch_warnings():  # made with a list of one input, a model warns unless it is given a list
        warnings.filterwarnings("ignore", "The structure of `inputs`")
        return np.asarray(model(given, training=False))


def check_finite(scores: np.ndarray) -> None:
    """Raise `ModelError` when scores (n, n_classes) are NaN or infinite: no attack means anything on those."""
    bad = int((~np.isfinite(scores)).any(axis=-1).sum())
    if bad:
        raise ModelError(f"the model gives NaN or infinite scores for {bad} of {len(scores)} images", where="model")


def sums_to_one(scores: np.ndarray) -> bool:
    """Whether every row is of probabilities."""
    return bool(scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=1e-3))


def _without_softmax(model: keras.Model, x: Images, layout: str) -> tuple[keras.Model, str]:
    """The same network with logits out: saturated probabilities give zero gradients that look like robustness."""
    import keras

    last, before = model.layers[-1], _scores(model, x, layout)
    if isinstance(last, keras.layers.Softmax) or _is_softmax(last, keras.layers.Activation):
        logits = keras.Model(model.inputs[0], last.input)
    elif _is_softmax(last, keras.layers.Layer):
        logits = keras.Model(model.inputs[0], _without_activation(last))
    else:
        return _log(model), "probabilities (log)"
    after = np.asarray(keras.ops.softmax(_scores(logits, x, layout)))
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


def _wrapped(model: keras.Model, shape: tuple[int, ...], way: Expects) -> keras.Model:
    """`model` behind a rescaling and, where it takes other shapes than (h, w, c), a reordering of its input."""
    import keras

    scale, offset = RANGES[way.input_range]
    expected = tuple(model.input_shape[1:])
    reshape = None not in expected and expected != tuple(shape)
    if (scale, offset) == (1.0, 0.0) and way.layout != "chw" and not reshape:
        return model
    images = keras.Input(shape)
    hidden = keras.layers.Rescaling(scale, offset)(images)
    hidden = keras.layers.Permute((3, 1, 2))(hidden) if way.layout == "chw" else hidden
    return keras.Model(images, model(keras.layers.Reshape(expected)(hidden) if reshape else hidden))
