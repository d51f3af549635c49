"""Bounds on every step of a network, for all images within a budget: intervals, and what float32 may add.

The intervals (Gowal et al. 2018, section 3) are valid in exact arithmetic and computed in float64. The attacked model
computes in float32. A sum of n products computed in any order with a unit roundoff u lies within
gamma_n = n u / (1 - n u) times the sum of the absolute values of its terms (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., 2002, section 3.1), in any order of the kernel. This error is propagated through the
steps together with the intervals. It does not cover kernels that compute other than by sums of float32 products:
reduced precision (bfloat16, TF32) and Winograd's convolution, neither of which TensorFlow uses on a CPU by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from gauntlet.certify.network import Network, Step
from gauntlet.threat import TOLERANCE, Norm

ROUNDOFF = 2.0**-24
"""Of float32."""
CURVES = 2.0**-20
"""What float32 sigmoids and tanhs may err, absolutely; their own values are at most 1."""


class Region(NamedTuple):
    """All images of a budget: float64 tensors (n, h, w, c), with the room that attacks are given for rounding."""

    centre: Any
    low: Any
    high: Any
    eps: Any
    norm: Norm

    @classmethod
    def around(cls, x: Any, eps: Any, norm: Norm, bounds: tuple[float, float] = (0.0, 1.0)) -> Region:
        """The images within `eps` of `x` (n, h, w, c), float64, and within the bounds."""
        centre, eps = tf.convert_to_tensor(x, tf.float64), tf.convert_to_tensor(eps, tf.float64)
        room = tf.where(eps > 0, eps + TOLERANCE, eps)
        low, high = (tf.clip_by_value(centre + sign * room, *map(np.float64, bounds)) for sign in (-1, 1))
        return cls(centre, low, high, room, norm)


class Bounds(NamedTuple):
    """Of one step for n images: float64 tensors (n, *shape); `error` is what float32 may be off by."""

    low: Any
    high: Any
    error: Any

    def within(self, low: Any, high: Any) -> Bounds:
        """The part of the interval that lies in another as well."""
        return Bounds(tf.maximum(self.low, low), tf.minimum(self.high, high), self.error)


def intervals(network: Network, region: Region, known: Mapping[int, Bounds] | None = None) -> list[Bounds]:
    """Bounds of every step, the image first; tighter ones that are `known` of some steps are used."""
    layers = [Bounds(region.low, region.high, tf.zeros_like(region.low))]
    balls: list[Any] = [(region.centre, region.eps) if region.norm == "2" else None]
    for number, step in enumerate(network.steps[1:], start=1):
        bounds, ball = _step(step, [layers[i] for i in step.inputs]), balls[step.inputs[0]]
        ball = (step.apply(ball[0]), ball[1]) if ball and step.apply and len(step.inputs) == 1 else None
        if ball and step.norms is not None:  # Cauchy-Schwarz
            radius = ball[1] * step.norms
            bounds = bounds.within(ball[0] - radius, ball[0] + radius)
        if known and number in known:
            bounds = bounds.within(known[number].low, known[number].high)
        balls.append((ball[0], ball[1] * step.gain) if ball and step.gain is not None else None)
        layers.append(bounds)
    return layers


def _step(step: Step, inputs: list[Bounds]) -> Bounds:
    if step.kind == "affine":
        return _affine(step, inputs)
    if step.kind == "max":
        a, b = inputs
        low, high = tf.maximum(a.low, b.low), tf.maximum(a.high, b.high)
        return Bounds(low, high, tf.maximum(a.error, b.error))
    (given,) = inputs
    low, high = elementwise(step, given.low), elementwise(step, given.high)
    if step.kind == "relu":
        most = tf.maximum(tf.abs(given.low), tf.abs(given.high))
        return Bounds(low, high, given.error + 2 * ROUNDOFF * abs(step.slope) * most)
    return Bounds(low, high, given.error + CURVES)


def elementwise(step: Step, x: Any) -> Any:
    """The function of an elementwise step."""
    if step.kind == "relu":
        return tf.maximum(x, step.slope * x)
    return {"sigmoid": tf.sigmoid, "tanh": tf.tanh}[step.kind](x)


def _affine(step: Step, inputs: list[Bounds]) -> Bounds:
    assert step.apply is not None  # nosec B101: of every affine step
    assert step.spread is not None  # nosec B101
    centre = step.apply(*((one.low + one.high) / 2 for one in inputs))
    radius = step.spread(*((one.high - one.low) / 2 for one in inputs))
    error = step.spread(*(one.error for one in inputs))
    if step.terms:
        n = (step.terms + 2) * ROUNDOFF
        most = step.spread(*(tf.maximum(tf.abs(one.low), tf.abs(one.high)) + one.error for one in inputs))
        error += n / (1 - n) * (most + step.offset)
    return Bounds(centre - radius, centre + radius, error)
