"""Do gradients say how the scores change? Finite differences at the images, as few as can still decide.

Every probe here is a function from `Slopes` to the share of images that it accuses. An image is accused only where
every step size and both kinds of points agree, so no further one is looked at once nobody is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]

SMALL_STEPS, LARGE_STEPS = (1 / 10_200, 1 / 1_020, 1 / 255), (1 / 255, 1 / 16, 1 / 4)
"""Of finite differences: where there is a gradient, and where there is none."""
SPREADS = (0.002, 0.03)
"""Noise on the points of finite differences: on one even colour, maxima are ties and their gradient one of many. The
first stays beside the images, as a network may be silent away from them; who is accused is accused at both."""
ROUNDING = 3e-6
"""Of a logit as large as the largest: differences of float32 logits that are no larger say nothing."""
BESIDE = 1 / 2_550
"""A tenth of a grey level."""


class Change(NamedTuple):
    """Of the logits' difference along a line: what is seen, and what the gradient promises; float64 (n,)."""

    seen: NDArray[np.float64]
    promised: NDArray[np.float64]


class Slope:
    """The logits' difference between an image's class and the runner-up, around noisy points inside the bounds."""

    def __init__(self, model: WhiteBox, x: Images, y: Labels, spread: float) -> None:
        """At images (n, h, w, c) moved at random by at most `spread` of the range of pixels."""
        low, high = model.clip_values
        noise = np.random.default_rng(0).uniform(-spread, spread, x.shape) * (high - low)
        # What would leave the bounds goes inwards instead: cut off, an even colour stayed even.
        self.x = np.where((x + noise < low) | (x + noise > high), x - noise, x + noise).astype(np.float32)
        logits = model.predict(self.x)
        self.rounding = ROUNDING * np.abs(logits).max(axis=1).astype(np.float64)
        self._model, self._y, self._other = model, y, _runner_up(logits, y)
        self.margins = logits[np.arange(len(y)), y] - logits[np.arange(len(y)), self._other]
        self.gradient = model.look(self.x, y, "difference", self._other).gradient

    def change(self, towards: Images, step: float, rows: Rows) -> Change:
        """From `step` behind the points `rows` (k,) to `step` ahead of them, as far as the bounds let it."""
        low, high = self._model.clip_values
        x, towards = self.x[rows], towards[rows]
        ahead, behind = (np.clip(x + np.float32(s * step) * towards, low, high) for s in (1, -1))
        difference = (self._model.predict(ahead) - self._model.predict(behind)).astype(np.float64)
        each, moved = np.arange(len(rows)), (ahead - behind).astype(np.float64)
        promised = (np.nan_to_num(self.gradient[rows]) * moved).sum(axis=(1, 2, 3))
        return Change(difference[each, self._other[rows]] - difference[each, self._y[rows]], promised)


class Slopes:
    """Those at images (n, h, w, c) that a model classifies correctly as `y` (n,): made when asked for, and kept."""

    def __init__(self, model: WhiteBox, x: Images, y: Labels) -> None:
        """Nothing is computed yet."""
        self.model, self.x, self.y = model, x, y
        self._made: dict[float, Slope] = {}

    def at(self, spread: float) -> Slope:
        """That at points moved by at most `spread` of the range of pixels."""
        if spread not in self._made:
            self._made[spread] = Slope(self.model, self.x, self.y, spread)
        return self._made[spread]

    def __iter__(self) -> Iterator[Slope]:
        """That of each of `SPREADS`."""
        return (self.at(spread) for spread in SPREADS)

    def signs(self, draws: int = 1) -> list[Images]:
        """Directions in which every pixel moves, drawn by chance, always the same."""
        rng = np.random.default_rng(0)
        return [rng.choice(np.array([-1, 1], np.float32), self.x.shape) for _ in range(draws)]


def zero_gradients(slopes: Slopes) -> float:
    """Share of images whose cross-entropy has no gradient, or one that is not finite."""
    return float(none(slopes.model.look(slopes.x, slopes.y).gradient).mean())


def detached(slopes: Slopes) -> float:
    """Share of images whose logits have no gradient and yet change when all pixels move a little, at random."""
    (signs,) = slopes.signs()

    def accused(slope: Slope) -> Mask:
        accused = none(slope.gradient)
        if len(rows := np.flatnonzero(accused)):
            changes = [np.abs(slope.change(signs, step, rows).seen) for step in LARGE_STEPS]
            accused[rows] = np.max(changes, axis=0) > 1e-3
        return accused

    return _everywhere(slopes, accused)


def faint(slopes: Slopes) -> float:
    """Share of images whose gradient is lost in rounding: even at the largest step it promises no change beyond it.

    Moving all pixels by a step at random changes the logits by the step times the gradient's length, as a standard
    deviation. Saturated probabilities have gradients that are made of rounding errors.
    """
    slope = slopes.at(SPREADS[0])
    length = np.sqrt((np.nan_to_num(slope.gradient).astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    return float((~none(slope.gradient) & (LARGE_STEPS[-1] * length <= slope.rounding)).mean())


def disagreeing(slopes: Slopes) -> float:
    """Share of images along whose gradient the logits' difference does not change as the gradient says, within half.

    The better of all step sizes counts: a network of ReLUs and maxima has kinks. A gradient so small that what it
    promises is lost in rounding says nothing.
    """
    return _everywhere(slopes, _disagreeing)


def _disagreeing(slope: Slope) -> Mask:
    towards = np.nan_to_num(slope.gradient)
    towards /= np.maximum(np.abs(towards).max(axis=(1, 2, 3), keepdims=True), 1e-30)
    accused = ~none(slope.gradient)
    for step in SMALL_STEPS:
        if len(rows := np.flatnonzero(accused)):
            seen, promised = slope.change(towards, step, rows)
            accused[rows] = np.abs(seen - promised) - np.abs(promised) / 2 > slope.rounding[rows]
    return accused


def unstable(slopes: Slopes, draws: int = 4) -> float:
    """Share of images beside which the margin jumps: by over a tenth of its median, and not as the gradient says."""
    slope, rows = slopes.at(SPREADS[0]), np.arange(len(slopes.y))
    changes = [slope.change(signs, BESIDE, rows) for signs in slopes.signs(draws)]
    jumps = np.max([np.abs(seen - promised) for seen, promised in changes], axis=0)
    return float((jumps > max(float(np.median(slope.margins)) / 10, 1e-30)).mean())


def _everywhere(slopes: Slopes, accuse: Callable[[Slope], Mask]) -> float:
    """The share of images that are accused at the points of every spread."""
    accused = np.ones(len(slopes.y), bool)
    for slope in slopes:
        accused &= accuse(slope)
        if not accused.any():
            break
    return float(accused.mean())


def none(gradient: Images) -> Mask:
    """Which images have a gradient of nothing, or one that is not finite."""
    finite, some = np.isfinite(gradient).all(axis=(1, 2, 3)), gradient.any(axis=(1, 2, 3))
    return np.asarray(~finite | ~some)


def _runner_up(logits: Images, y: Labels) -> Labels:
    """The likeliest wrong class of each image."""
    logits = logits.copy()
    logits[np.arange(len(y)), y] = -np.inf
    return logits.argmax(axis=1).astype(np.int64)
