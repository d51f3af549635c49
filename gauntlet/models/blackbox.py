"""Models of which only the answers are seen: scikit-learn, ONNX, PyTorch, a service, any function of images.

What the function takes and gives is detected on clean images and recorded; all of it can be stated instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gauntlet import limits
from gauntlet.errors import LimitError, ModelError
from gauntlet.models.access import Access
from gauntlet.models.adapter import LAYOUTS, Expects, Fit, InputRange, Layout, Outputs, find_way, fit
from gauntlet.models.outputs import LABELS, PROBABILITIES, SIGMOID, inverted, kind_of, other_classes
from gauntlet.models.pixels import AS_THEY_ARE, RANGES, Channels
from gauntlet.quiet import load_art
from gauntlet.threat import Images, Labels

load_art()

from art.estimators.classification import BlackBoxClassifier  # noqa: E402

Function = Callable[[Images], Any]
"""From float32 images to scores (n, n_classes) or labels (n,): an array, a tensor, a frame, a list."""

PLAIN = Expects("0..1", "hwc")
"""Images as they are."""
CHUNK = 128
"""Images a call."""
PROBE = 64
"""Images on which every layout and input range is tried; the rest see only those that run and differ."""
TIE = 0.01
"""Accuracies of labels that differ by no more do not tell input ranges apart: the first of `RANGES` is taken."""


class BlackBox(BlackBoxClassifier):
    """A function of images as an attacker sees it: scores or labels, never a gradient."""

    access: Access

    def __init__(
        self,
        function: Function,
        input_shape: tuple[int, ...],
        nb_classes: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        expects: Expects = PLAIN,
        outputs: str = "logits",
    ) -> None:
        """`function` takes images of `input_shape` (h, w, c) as it `expects` them, and gives `outputs`."""
        super().__init__(self.predict, tuple(input_shape), nb_classes, clip_values=bounds)
        self.access = "labels" if outputs == LABELS else "scores"
        self.expects = expects
        self._function, self._outputs = function, outputs

    def predict(self, x: Images, batch_size: int = CHUNK, **_: Any) -> Images:
        """Scores, float32 (n, nb_classes), of images (n, h, w, c): probabilities as logarithms, labels as one-hot."""
        answer = ask(self._function, x, self.nb_classes, self.expects, batch_size)
        return as_scores(answer, self._outputs, self.nb_classes)

    def labels(self, x: Images) -> Labels:
        """Predicted classes, int64 (n,)."""
        return self.predict(x).argmax(axis=1).astype(np.int64)


@dataclass(frozen=True)
class Opened:
    """A function that can be attacked, and what was found out about it."""

    classifier: BlackBox
    input_range: str
    outputs: str
    """`labels`, or what the scores are (`outputs.kind_of`)."""
    layout: str
    better_range: str | None = None
    """The input range that fits clearly better than the one stated."""


def open_blackbox(
    function: Function,
    x: Images,
    y: Labels,
    n_classes: int,
    input_range: InputRange = "auto",
    layout: Layout = "auto",
    outputs: Outputs = "auto",
    bounds: tuple[float, float] = (0.0, 1.0),
    channels: Channels = AS_THEY_ARE,
    output: str | None = None,
    *,
    accept_chance: bool = False,
) -> Opened:
    """Make `function` attackable, by clean images `x` (n, h, w, c) in [0, 1] with labels `y` (n,).

    Of the layouts and input ranges that it runs with, the most accurate are compared by their cross-entropy; labels
    have none, and the first within `TIE` is taken. `ModelError` when there is none, when it gives no scores or labels
    of these classes, or when it is no better than chance.
    """
    channels.fit(x.shape[-1])
    function = function if output is None else _named(function, output)
    ways = [Expects(pixels, order, channels) for pixels in RANGES for order in LAYOUTS]
    asked = [way for way in ways if input_range in ("auto", way.input_range) and layout in ("auto", way.layout)]
    first = [*asked, *(way for way in ways if way not in asked)]
    probed = _distinct(_tried(function, x[:PROBE], n_classes, first, asked))
    kind = _kind(list(probed.values())) if outputs == "auto" else outputs
    answers = _tried(function, x, n_classes, list(probed), asked)
    fits = {way: _fit(answer, kind, y, n_classes) for way, answer in answers.items()}
    usable, others = ([way for way in fits if (way in asked) == wanted] for wanted in (True, False))
    tie = TIE if kind == LABELS else 0.0
    found, better = find_way(fits.__getitem__, usable, others, y, n_classes, tie, accept_chance=accept_chance)
    box = BlackBox(function, x.shape[1:], n_classes, bounds, found, kind)
    return Opened(box, found.input_range, kind, found.layout, better)


def _tried(
    function: Function, x: Images, n_classes: int, ways: Sequence[Expects], asked: Sequence[Expects]
) -> dict[Expects, np.ndarray]:
    """The answers by way of giving images, without those that cannot be used; one of those asked for must be."""
    answers: dict[Expects, np.ndarray] = {}
    refused: dict[Expects, ModelError] = {}
    for way in ways:
        try:
            answers[way] = ask(function, x, n_classes, way)
        except ModelError as error:
            refused[way] = error
    if not any(way in answers for way in asked):
        raise _unusable({way: refused[way] for way in asked if way in refused})
    return answers


def _unusable(refused: Mapping[Expects, ModelError]) -> ModelError:
    """Why no way of giving images works: what is wrong with its answers, else why it raised in each layout."""
    for error in refused.values():
        if error.__cause__ is None:  # it ran, and what it gave is wrong
            return error
    reasons: dict[str, str] = {}
    for way, error in refused.items():
        reasons.setdefault(way.layout, reason(error.__cause__))
    several = "; ".join(f"{why} as {order}" for order, why in reasons.items())
    why = several if len(set(reasons.values())) > 1 else next(iter(reasons.values()))
    return ModelError(f"the model cannot be run: {why}", where="model")


def _distinct(answers: Mapping[Expects, np.ndarray]) -> dict[Expects, np.ndarray]:
    """Without the layouts that make no difference, as in a function that reshapes its images anyway."""
    kept: dict[Expects, np.ndarray] = {}
    for way, answer in answers.items():
        same_range = (kept[other] for other in kept if other.input_range == way.input_range)
        if not any(np.array_equal(answer, other) for other in same_range):
            kept[way] = answer
    return kept


def _kind(answers: Sequence[np.ndarray]) -> str:
    """What the answers are; rows of a single 1 are labels too, as there is nothing else to see in them.

    One number an image that is no class (of two) is a score: a probability within [0, 1], else a logit.
    """
    flat = [answer for answer in answers if answer.ndim == 1]
    if flat:
        numbers = [answer for answer in flat if answer.dtype.kind == "f"]
        return LABELS if not numbers else kind_of([answer[:, None] for answer in numbers])
    kind = kind_of(answers)
    return LABELS if kind == PROBABILITIES and all(np.isin(answer, (0, 1)).all() for answer in answers) else kind


def _fit(answer: np.ndarray, kind: str, y: Labels, n_classes: int) -> Fit:
    fitted = fit(as_scores(answer, kind, n_classes), y)
    return fitted._replace(loss=1 - fitted.accuracy) if kind == LABELS else fitted


def as_scores(answer: np.ndarray, kind: str, n_classes: int) -> Images:
    """Answers as float32 scores (n, n_classes): labels one-hot, squashed scores inverted (`outputs.inverted`).

    A probability of 0 counts as the smallest that its type holds, so that no loss is infinite. Of two classes one
    score s an image may come: (0, s).
    """
    if kind == LABELS:
        return np.eye(n_classes, dtype=np.float32)[answer if answer.ndim == 1 else answer.argmax(axis=1)]
    if answer.ndim == 1 and n_classes != 2:
        raise ModelError(f"the model gives labels, not {kind}", where="outputs", fix="labels or auto")
    if kind == PROBABILITIES and answer.min(initial=0) < -1e-6:
        raise ModelError(f"a probability of {answer.min():.4g}", where="outputs", fix="logits or auto")
    if answer.ndim == 1:  # of the second of two classes
        one = answer.astype(np.float64)[:, None]
        answer = inverted(one, SIGMOID if kind == PROBABILITIES else kind)
        return np.concatenate([np.zeros_like(answer), answer], axis=1).astype(np.float32)
    return inverted(answer, kind).astype(np.float32)


def _named(function: Function, output: str) -> Function:
    """Of several outputs the one of this name, or this place."""

    def one(images: Images) -> Any:
        answer = function(images)
        named = answer if isinstance(answer, Mapping) else {str(i): value for i, value in enumerate(answer)}
        if output not in named:
            known = ", ".join(map(str, named))[:200]
            raise ModelError(f"it has no output {output!r}", where="output", fix=f"one of {known}")
        return named[output]

    return one


# --- one call -----------------------------------------------------------------------------------------------


def ask(function: Function, x: Images, n_classes: int, way: Expects, size: int = CHUNK) -> np.ndarray:
    """What the function answers to images (n, h, w, c) in [0, 1]: scores (n, n_classes) or int64 labels (n,).

    Raises `ModelError` when it raises (that is the cause), and when the answers are neither.
    """
    parts = [_ask(function, way.given(x[start : start + size]), n_classes) for start in range(0, len(x), size)]
    return np.concatenate(parts) if parts else np.zeros((0, n_classes), np.float32)


def _ask(function: Function, images: Images, n_classes: int) -> np.ndarray:
    try:
        answer = limits.call(function, images)
    except (LimitError, ModelError):
        raise
    except (Exception, SystemExit) as error:  # it may be anyone's
        what = f"the model cannot be run on images of shape {images.shape}: {reason(error)}"
        raise ModelError(what, where="model") from error
    return _checked(_array(answer, n_classes), len(images), n_classes)


def reason(error: BaseException | None) -> str:
    """Kind and first line of anyone's exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _array(answer: Any, n_classes: int) -> np.ndarray:
    """Arrays, tensors, frames and lists as an array; of several named outputs the scores, else the labels."""
    if isinstance(answer, Mapping):
        return _one_of({str(name): _array(value, n_classes) for name, value in answer.items()}, n_classes)
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    try:
        return np.asarray(answer.to_numpy() if hasattr(answer, "to_numpy") else answer)
    except (TypeError, ValueError):
        raise _misfit(f"a {type(answer).__name__} of uneven rows", n_classes) from None


def _one_of(outputs: Mapping[str, np.ndarray], n_classes: int) -> np.ndarray:
    numbers = [output for output in outputs.values() if output.dtype.kind in "fiu"]
    scores = [output for output in numbers if output.ndim == 2 and output.shape[1] == n_classes]
    for found in (scores, numbers):
        if len(found) == 1:
            return found[0]
    raise _misfit(f"outputs named {', '.join(outputs)}", n_classes)


def _checked(answer: np.ndarray, n: int, n_classes: int) -> np.ndarray:
    """Scores (n, n_classes) or labels (n,), or a `ModelError` that says what came instead."""
    if n == 1 and answer.shape in ((n_classes,), ()):  # squeezed
        answer = answer[None]
    if answer.dtype.kind not in "fiub" or answer.ndim == 0:
        raise _misfit("no numbers", n_classes)
    if len(answer) != n:
        raise ModelError(f"the model gives {len(answer)} rows for {n} images", where="model")
    if not np.isfinite(answer).all():
        bad = int((~np.isfinite(answer.reshape(n, -1))).any(axis=1).sum())
        raise ModelError(f"the model gives NaN or infinite scores for {bad} of {n} images", where="model")
    answer = answer.reshape(n, -1)
    if answer.shape[1] == 1:
        return _single(answer[:, 0], n_classes)
    if answer.shape[1] != n_classes:
        what = f"the model gives {answer.shape[1]} scores, the data set has {n_classes} classes"
        raise ModelError(what, where="model", fix=other_classes(answer.shape[1], n_classes))
    return answer if answer.dtype.kind == "f" else answer.astype(np.float64)


def _single(answer: np.ndarray, n_classes: int) -> np.ndarray:
    """Labels, or for two classes the score of the second."""
    if n_classes == 2 and answer.dtype.kind == "f" and (np.rint(answer) != answer).any():
        return answer
    return _labels(answer, n_classes)


def _labels(answer: np.ndarray, n_classes: int) -> Labels:
    labels = np.rint(answer).astype(np.int64)
    if (labels != answer).any():
        raise _misfit("one number that is no class", n_classes)
    if labels.min() < 0 or labels.max() >= n_classes:
        seen = f"the model gives labels from {labels.min()} to {labels.max()}"
        raise ModelError(f"{seen}, the data set has 0 to {n_classes - 1}", where="model")
    return labels


def _misfit(got: str, n_classes: int) -> ModelError:
    return ModelError(f"the model gives {got}, expected {n_classes} scores or one class an image", where="model")
