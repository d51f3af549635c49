"""Margins that hold for every image of a budget: compiled, in chunks, the cheap way first."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from gauntlet import limits
from gauntlet.certify.bounds import Bounds, Region, intervals
from gauntlet.certify.linear import elided, lowest
from gauntlet.certify.network import Network
from gauntlet.models.digest import digest
from gauntlet.threat import Images, Labels, Norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NUMBERS = 8_000_000
"""Float64 numbers of one tensor at most: bounds the memory, whatever the number of images."""
KEPT = 4
"""Provers whose compiled functions are kept."""
SLACK = 1e-9
"""Relative to a margin's terms: what float64 itself may be off by, with room."""


class Prover:
    """Lower bounds of the margins of a network's images, by intervals or by linear relaxation."""

    def __init__(self, network: Network, norm: Norm, bounds: tuple[float, float], refine: int = 0) -> None:
        """`refine`: steps whose own linear bounds take at most so many numbers an image get them, others intervals."""
        self.network, self.norm, self.bounds, self.refine = network, norm, bounds, refine
        self._largest = max(int(np.prod(step.shape)) for step in network.steps)
        image = tf.TensorSpec((None, *network.steps[0].shape), tf.float64)
        signature = [image, tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.float64)]
        self._quick = tf.function(self._by_intervals, input_signature=signature, autograph=False)
        self._linear = tf.function(
            lambda x, y, eps: self._by_lines(x, y, eps, 0), input_signature=signature, autograph=False
        )
        self._whole = tf.function(self._with_bounds, input_signature=signature, autograph=False)
        self._refined = tf.function(
            lambda x, y, eps: self._by_lines(x, y, eps, refine), input_signature=signature, autograph=False
        )

    def margins(self, x: Images, y: Labels, eps: float, *, lines: bool, patience: int = 0) -> NDArray[np.float64]:
        """The least margin of the true class over any other, (n,); by intervals, and where those fail by `lines`.

        A positive one is proven: no image within the budget is classified otherwise, float32 rounding included. Lines
        are tried on the most promising images first, and on no more after `patience` of them failed in a row (0: all).
        """
        margins = self._chunked(self._quick, 1, x, y, eps)
        ways = [(self._linear, 1), (self._refined, self._values())] if lines else []
        for way, rows in ways if self._refinable(self.refine) else ways[:1]:
            left = np.flatnonzero(margins <= 0)
            left = left[np.argsort(-margins[left], kind="stable")]
            if len(left):
                found = self._chunked(way, rows, x[left], y[left], eps, patience)
                left = left[: len(found)]
                margins[left] = np.maximum(margins[left], found)
        return margins

    def _values(self) -> int:
        """Rows of the largest step that is refined."""
        sizes = [int(np.prod(self.network.steps[i].shape)) for i in self._refinable(self.refine)]
        return max(sizes, default=1)

    def _chunked(
        self, way: Callable[..., Any], rows: int, x: Images, y: Labels, eps: float, patience: int = 0
    ) -> NDArray[np.float64]:
        """Margins of the images, or of the first of them where the last `patience` of those all failed."""
        size = max(1, NUMBERS // (max(rows, self.network.n_classes) * self._largest))
        margins = np.zeros(0)
        for start in range(0, len(x), size):
            limits.check()
            some = slice(start, start + size)
            part = way(tf.constant(x[some], tf.float64), tf.constant(y[some]), tf.constant(eps, tf.float64))
            margins = np.concatenate([margins, part])
            if 0 < patience <= len(margins) and (margins[-patience:] <= 0).all():
                break
        return margins

    def _by_intervals(self, x: Any, y: Any, eps: Any) -> Any:
        bounds = intervals(self.network, Region.around(x, eps, self.norm, self.bounds))
        return self._least(elided(self.network, self._rows(y), bounds), y, bounds[-1])

    def bounds_of(self, x: Images, label: int, eps: float) -> tuple[list[Bounds], NDArray[np.float64]]:
        """Of one image (h, w, c): the bounds of every step, and its least margin over each class, (n_classes,)."""
        given = tf.constant(x[None], tf.float64), tf.constant([label], tf.int64), tf.constant(eps, tf.float64)
        bounds, margins = self._whole(*given)
        return bounds, margins.numpy()[0]

    def _with_bounds(self, x: Any, y: Any, eps: Any) -> Any:
        bounds, low = self._lines(x, y, eps, self.refine)
        return bounds, self._sure(low, y, bounds[-1])

    def _by_lines(self, x: Any, y: Any, eps: Any, refine: int) -> Any:
        bounds, low = self._lines(x, y, eps, refine)
        return self._least(low, y, bounds[-1])

    def _lines(self, x: Any, y: Any, eps: Any, refine: int) -> tuple[list[Bounds], Any]:
        """Bounds of every step, and of the margins over each class by lines, (k, n)."""
        region, known = Region.around(x, eps, self.norm, self.bounds), {}
        bounds = intervals(self.network, region)
        for number in self._refinable(refine):
            known[number] = self._tightened(number, bounds, region)
            bounds = intervals(self.network, region, known)
        return bounds, lowest(self.network, len(self.network.steps) - 1, self._rows(y), bounds, region)

    def _refinable(self, refine: int) -> list[int]:
        """Affine steps before a bent one, but for the first, whose linear bounds take at most `refine` numbers."""
        steps = self.network.steps
        bent = sorted({i for step in steps if step.kind not in ("affine", "input") for i in step.inputs})
        first = min(bent, default=0)
        most = refine // self._largest
        return [i for i in bent if i > first and steps[i].kind == "affine" and np.prod(steps[i].shape) <= most]

    def _tightened(self, number: int, bounds: list[Bounds], region: Region) -> Bounds:
        """Bounds of one step by lines, where they are tighter."""
        shape = self.network.steps[number].shape
        n, size = tf.shape(region.centre)[0], int(np.prod(shape))
        rows = tf.tile(tf.reshape(tf.eye(size, dtype=tf.float64), (size, 1, *shape)), [1, n, *[1] * len(shape)])
        low, high = (sign * lowest(self.network, number, sign * rows, bounds, region) for sign in (1.0, -1.0))
        return bounds[number].within(*(tf.reshape(tf.transpose(one), (-1, *shape)) for one in (low, high)))

    def _rows(self, y: Any) -> Any:
        """True class minus each class, (k, n, k)."""
        k = self.network.n_classes
        one = tf.one_hot(y, k, dtype=tf.float64)
        return one[None] - tf.eye(k, dtype=tf.float64)[:, None]

    def _least(self, low: Any, y: Any, last: Bounds) -> Any:
        """The least margin over the other classes, (n,)."""
        own = tf.one_hot(y, self.network.n_classes, on_value=np.inf, off_value=0.0, dtype=tf.float64)
        return tf.reduce_min(tf.where(own > 0, own, self._sure(low, y, last)), axis=1)

    def _sure(self, low: Any, y: Any, last: Bounds) -> Any:
        """Margins over each class, (n, k), less what float32 and float64 may be off by."""
        mine = tf.gather(last.error, y, axis=1, batch_dims=1)[:, None]
        most = tf.reduce_max(tf.maximum(tf.abs(last.low), tf.abs(last.high)), axis=1, keepdims=True)
        return tf.transpose(low) - mine - last.error - SLACK * (1 + most)


@dataclass(frozen=True)
class Weighed:
    """A model that equals every other of the same graph and weights."""

    digest: str
    model: keras.Model = field(compare=False)

    @classmethod
    def of(cls, model: keras.Model) -> Weighed:
        """The model as it is now: one whose weights are trained on equals itself no more."""
        return cls(digest(model) if isinstance(model, keras.Model) else "", model)


@lru_cache(KEPT)
def prover(weighed: Weighed, norm: Norm, bounds: tuple[float, float], refine: int = 0) -> Prover:
    """The prover of a model; kept, since what it compiles serves every budget. `ModelError` names a layer it lacks."""
    return Prover(Network(weighed.model), norm, bounds, refine)
