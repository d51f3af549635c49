"""People's models, made comparable: images in [0, 1] of the data set's shape in, logits out.

What a model expects is detected on clean images and recorded; all of it can be stated instead of detected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import ModelError
from gauntlet.models.chance import CLEARLY, balanced_accuracy, dependence, informative
from gauntlet.models.feeds import NOTHING, Feeds, one_input
from gauntlet.models.layout import channels_last
from gauntlet.models.outputs import LOGITS, Scores, as_graph, kind_of, one_output, run, unsquashed
from gauntlet.models.pixels import AS_THEY_ARE, RANGES, Channels, ordered, plain
from gauntlet.models.scale import calibrated, temperature
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import keras

InputRange = Literal["auto", "0..1", "0..255", "-1..1"]
Layout = Literal["auto", "hwc", "chw", "flat"]
Outputs = Literal["auto", "logits", "probabilities", "labels"]

SAME = 1.02
"""Calibrated losses of up to so many times the lowest say nothing of the scale of pixels."""
INVERTED = " (inverted)"
"""Behind what a model gave, where its squashing could not be removed."""
PIXELS = 2**22
"""Numbers that images of one call hold at most; 256 images of up to 128 × 128."""
LAYOUTS = ("hwc", "chw", "flat")
"""Channels last, channels first, all pixels of an image in one row (of channels last)."""


class Expects(NamedTuple):
    """How images must come."""

    input_range: str
    layout: str
    channels: Channels = AS_THEY_ARE

    def given(self, x: Images) -> Images:
        """A fresh copy of images (n, h, w, c) in [0, 1], as they are expected."""
        scale, offset = self.channels.scaling(self.input_range)
        images = (ordered(x, self.channels) * scale + offset).astype(np.float32)
        if self.layout == "flat":
            return images.reshape(len(x), -1)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.layout == "chw" else images


class Fit(NamedTuple):
    """How a model does on clean images when they come in one way."""

    loss: float
    """Mean cross-entropy in nats; of labels the share of wrong ones."""
    accuracy: float
    predictions: Labels
    informative: bool
    """Whether the predictions, or the scores, depend on the labels."""
    each: NDArray[np.float64]
    """The loss of each image, (n,), at the temperature that suits all of them best: free of the scores' scale."""

    @property
    def calibrated(self) -> float:
        """The mean of those losses."""
        return float(self.each.mean())

    def lower(self, other: Fit) -> bool:
        """Whether the calibrated losses are lower than another's beyond chance: three standard errors of the pairs."""
        gains = other.each - self.each
        return bool(gains.mean() > 3 * gains.std() / np.sqrt(max(1, len(gains) - 1)))


class Way(NamedTuple):
    """How images are given, and the input range that fits clearly better than a stated one, if any does."""

    expects: Expects
    better_range: str | None


@dataclass(frozen=True)
class Adapted:
    """A model that takes [0, 1] images and gives logits, and what had to be done to get there."""

    model: keras.Model
    input_range: str
    outputs: str
    """What the model gave (`outputs.kind_of`); with "(inverted)" where a squashing could not be removed."""
    layout: str = "hwc"
    better_range: str | None = None
    """The input range that fits clearly better than the one stated."""
    temperature: float = 1.0
    """What the logits are to be divided by, so that no attack depends on their scale (`scale.divided`)."""
    fed: str = ""
    """What inputs beside the images' are filled with: `mask = 0`."""


def adapt(
    model: keras.Model,
    x: Images,
    y: Labels,
    n_classes: int,
    input_range: InputRange = "auto",
    outputs: Outputs = "auto",
    layout: Layout = "auto",
    channels: Channels = AS_THEY_ARE,
    output: str | None = None,
    inputs: Feeds = NOTHING,
    *,
    doubt: bool = True,
    accept_chance: bool = False,
) -> Adapted:
    """Wrap `model` for clean images `x` (n, h, w, c) in [0, 1] with labels `y`; `ModelError` when it does not fit.

    The input range is found by `find_way`. A model whose answers do not depend on the labels at any range is refused,
    unless `accept_chance`. A stated range is used; without `doubt` nobody looks whether another fits better. Of several
    outputs `output` names the one of the scores; of several `inputs` one takes the images.
    """
    channels.fit(x.shape[-1])
    model = one_output(as_graph(model, x.shape[1:]), n_classes, output)
    model, fed = one_input(model, lambda shape: any(_layouts(tuple(shape), x.shape[1:], layout)), inputs)
    model = channels_last(model)
    layouts = _check_shapes(model, x, outputs, layout)
    plainly = Expects("0..1", layouts[0])
    near, away = (_shaped(model, plainly.given(images)) for images in (x[:256], far(x[:64])))
    check_finite(run(model, near))
    logits, how, inverted = (model, LOGITS, False) if outputs == "logits" else unsquashed(model, near, away)
    ways = [Expects(name, order, channels) for name in RANGES for order in layouts]
    asked = [way for way in ways if input_range in ("auto", way.input_range)]

    def measure(way: Expects) -> Fit:
        return fit(_scores(logits, x, way), y)

    (found, better) = find_way(
        measure,
        asked,
        [way for way in ways if way not in asked],
        y,
        n_classes,
        doubt=doubt,
        accept_chance=accept_chance,
    )
    how = f"{how}{INVERTED}" if inverted else how
    # What is squashed all the same is judged as it is: a probe tells it by its bounds.
    free = kind_of([run(logits, near), run(logits, away)]) == LOGITS
    divisor = temperature(_scores(logits, x[:256], found)) if free else 1.0
    return Adapted(_wrapped(logits, x.shape[1:], found), found.input_range, how, found.layout, better, divisor, fed)


# --- what fits ----------------------------------------------------------------------------------------------


def fit(scores: np.ndarray, y: Labels) -> Fit:
    """The fit of logits (n, n_classes) to labels (n,)."""
    from scipy.special import log_softmax

    finite = np.nan_to_num(log_softmax(scores.astype(np.float64), axis=1), nan=-1e9)
    predictions = scores.argmax(axis=1).astype(np.int64)
    depends = informative(predictions, y, scores.shape[1]) or dependence(finite, y) > CLEARLY
    loss, accuracy = float(-finite[np.arange(len(y)), y].mean()), float((predictions == y).mean())
    return Fit(loss, accuracy, predictions, depends, calibrated(scores, y))


def find_way(
    measure: Callable[[Expects], Fit],
    asked: Sequence[Expects],
    others: Sequence[Expects],
    y: Labels,
    n_classes: int,
    tie: float = 0.0,
    *,
    doubt: bool = True,
    accept_chance: bool = False,
) -> Way:
    """The way of the lowest calibrated loss, of those asked for that are as often right as any.

    Where calibrated losses are the same, as of linear models, the loss itself decides; of labels, which have neither,
    the first within `tie` of the fewest wrong ones.

    The loss alone does not decide: an overconfident model can have the lower cross-entropy where it is less often
    right. It does where it contradicts (`_contradicts`): a network fed pixels 255 times too large has a loss far beyond
    guessing, even where more images are right. Nor does a much larger range win by chance over one that the model is
    sure at: fed pixels 255 times too large, a network is right on nearly as many images, and sure of all of them.

    Raises `ModelError` when no way's answers depend on the labels, unless `accept_chance`; the `others` then tell the
    likely cause, else whether to doubt.
    """
    tried = {way: measure(way) for way in asked}
    able = tried if accept_chance else {way: found for way, found in tried.items() if found.informative}
    if not able:
        raise _at_chance(tried, {way: measure(way) for way in others}, y, n_classes)
    able = {way: f for way, f in able.items() if not any(_contradicts(o, f, n_classes) for o in able.values())}
    highest = max(found.accuracy for found in able.values())
    able = {way: found for way, found in able.items() if found.accuracy >= highest - _noise(highest, len(y))}
    best = _best(able, tie)
    sure = {way: found for way, found in able.items() if found.loss <= np.log(n_classes) / 2}
    milder = {way: found for way, found in sure.items() if _much_milder(way, best) and not able[best].lower(found)}
    best = _best(milder, tie) if milder else best
    rivals = {way: measure(way) for way in others if doubt and way.layout == best.layout}
    clearly = [way for way, found in rivals.items() if _is_better(found, tried[best], len(y), n_classes)]
    return Way(best, max(clearly, key=lambda way: rivals[way].accuracy).input_range if clearly else None)


def _best(able: Mapping[Expects, Fit], tie: float) -> Expects:
    lowest = min(found.calibrated for found in able.values())
    able = {way: found for way, found in able.items() if tie or found.calibrated <= SAME * lowest}
    lowest = min(found.loss for found in able.values())
    return next(way for way, found in able.items() if found.loss <= lowest + tie)


def _much_milder(one: Expects, other: Expects) -> bool:
    """Whether pixels are over ten times smaller."""
    return 10 * RANGES[one.input_range][0] < RANGES[other.input_range][0]


def _contradicts(one: Fit, other: Fit, n_classes: int) -> bool:
    """Whether the other's loss is beyond that of guessing and far beyond the first's, which is not."""
    guessing = float(np.log(n_classes))
    return one.loss <= 1.5 * guessing < other.loss and other.loss > 2 * one.loss


def _is_better(rival: Fit, stated: Fit, n: int, n_classes: int) -> bool:
    """Whether more images are right beyond noise, or no fewer at a loss clearly lower."""
    more_right = rival.accuracy > stated.accuracy + _noise(rival.accuracy, n)
    lower_loss = rival.calibrated < min(0.8 * stated.calibrated, stated.calibrated - 0.05)
    better = more_right or (rival.accuracy >= stated.accuracy and lower_loss and rival.lower(stated))
    return better and rival.informative and not _contradicts(stated, rival, n_classes)


def _noise(accuracy: float, n: int) -> float:
    """Three standard errors of a share of n, which is not 0 where all are right (Agresti & Coull 1998)."""
    share = (accuracy * n + 2) / (n + 4)
    return 3 * float(np.sqrt(share * (1 - share) / n))


def _at_chance(tried: dict[Expects, Fit], others: dict[Expects, Fit], y: Labels, n_classes: int) -> ModelError:
    """What was seen and the likely cause: another way to give images works, or the classes are in another order."""
    every, best = tried | others, max(tried, key=lambda way: tried[way].accuracy)
    balanced = balanced_accuracy(tried[best].predictions, y)
    what = f"the model is at chance level on {len(y)} clean images (balanced accuracy {100 * balanced:.1f} %)"
    cause = max(others, key=lambda way: others[way].accuracy, default=best)
    if every[cause].informative:
        differing = [i for i in range(2) if best[i] != cause[i]]
        looks = " ".join(str(cause[i]) for i in differing)
        flags = " ".join(f"--{('input-range', 'layout')[i]} {cause[i]}" for i in differing)
        seen = ", ".join(_seen(way, every[way], differing) for way in (best, cause))
        return ModelError(f"{what}, input looks like {looks}: {seen}", where="model", fix=f"give {flags}")
    varied = [0, 1] if len({way.layout for way in every}) > 1 else [0]
    seen = ", ".join(_seen(way, found, varied) for way, found in every.items())
    renamed = max(_renamed(found.predictions, y, n_classes) for found in every.values())
    if not informative(y, y, n_classes):
        fix = "so few images, or those of one class, would tell nothing at their best: give more, or --accept-chance"
    elif renamed >= (1 + np.bincount(y).max() / len(y)) / 2:
        seen_so = f"the classes look reordered: {100 * renamed:.1f} % are right in another order"
        fix = f"{seen_so}; number the labels as the model does"
    else:
        fix = "check the label order and that it was trained on this data set, or --accept-chance"
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


def _check_shapes(model: keras.Model, x: Images, outputs: Outputs, layout: Layout) -> list[str]:
    """The layouts that the model can take."""
    if outputs == "labels":
        fix = "logits or probabilities; to hide them, give module:function instead"
        raise ModelError("a Keras model is attacked through its scores, not its labels", where="outputs", fix=fix)
    expected, got = tuple(model.input_shape[1:]), x.shape[1:]
    layouts = list(_layouts(expected, got, layout))
    if not layouts:
        as_stated = "" if layout == "auto" else f" in layout {layout}"
        what = f"the model takes images of shape {expected}, the data set has {got}{as_stated}"
        raise ModelError(what, where="model", fix=_preparation(expected, got))
    return layouts


def _preparation(expected: tuple[int | None, ...], got: tuple[int, ...]) -> str:
    """The flags that would make images (h, w, c) fit, if there are any."""
    if len(expected) not in (2, 3):
        return ""
    height, width, channels = (*expected, 1)[:3]
    if channels not in (1, 3):  # first, then
        channels, height, width = (*expected, 1)[:3]
    other = f"--channels {'rgb' if channels == 3 else 'grey'}" if channels != got[2] and channels in (1, 3) else ""
    size = f"--image-size {height}x{width}" if None not in (height, width) and (height, width) != got[:2] else ""
    return " ".join(filter(None, (size, other)))


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


def _shaped(model: keras.Model, x: Images) -> Images:
    """Images brought into the model's own shape."""
    expected = tuple(model.input_shape[1:])
    return x if None in expected else x.reshape(-1, *expected)


def _scores(model: keras.Model, x: Images, way: Expects) -> Scores:
    """Scores (n, n_classes) for images (n, h, w, c) in [0, 1] that come in one way.

    Not compiled: each way would be a graph of its own, which takes longer than the few calls.
    """
    size = max(1, min(256, PIXELS // x[0].size))
    return np.concatenate([run(model, _shaped(model, way.given(x[i : i + size]))) for i in range(0, len(x), size)])


def far(x: Images) -> Images:
    """Points far from any image, on both sides."""
    noise = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    return np.concatenate([300 * x, -300 * x, 100 * noise])


def check_finite(scores: np.ndarray) -> None:
    """Raise `ModelError` when scores (n, n_classes) are NaN or infinite: no attack means anything on those."""
    bad = int((~np.isfinite(scores)).any(axis=-1).sum())
    if bad:
        raise ModelError(f"the model gives NaN or infinite scores for {bad} of {len(scores)} images", where="model")


def _wrapped(model: keras.Model, shape: tuple[int, ...], way: Expects) -> keras.Model:
    """`model` behind a rescaling and, where it takes other shapes than (h, w, c), a reordering of its input."""
    import keras

    scale, offset = way.channels.scaling(way.input_range)
    expected = tuple(model.input_shape[1:])
    reshape = None not in expected and expected != tuple(shape)
    as_they_are = (scale == 1).all() and (offset == 0).all() and not way.channels.bgr
    if as_they_are and way.layout != "chw" and not reshape:
        return model
    images = keras.Input(shape)
    hidden = keras.ops.flip(images, axis=-1) if way.channels.bgr else images
    hidden = keras.layers.Rescaling(plain(scale), plain(offset))(hidden)
    hidden = keras.layers.Permute((3, 1, 2))(hidden) if way.layout == "chw" else hidden
    return keras.Model(images, model(keras.layers.Reshape(expected)(hidden) if reshape else hidden))
