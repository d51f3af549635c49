"""Lower bounds of linear functions of a network's steps, by linear relaxation from back to front.

CROWN (Zhang et al., Efficient Neural Network Robustness Certification with General Activation Functions, NeurIPS 2018,
section 3): every elementwise step is between two lines over its own bounds; substituted from the last step to the
first, they give a function that is linear in the image, whose minimum over the budget is known. An affine step is
substituted by its vector-Jacobian product, for every kind of layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from gauntlet.certify.bounds import Bounds, Region, elementwise
from gauntlet.certify.network import Network, Step


class Lines(NamedTuple):
    """Two lines around a function: `low_slope` x + `low_start` below, the same above; (n, *shape)."""

    low_slope: Any
    low_start: Any
    high_slope: Any
    high_start: Any


def lowest(network: Network, last: int, rows: Any, bounds: list[Bounds], region: Region) -> Any:
    """A lower bound of sum(rows * step) over the region, float64 (r, n), for rows (r, n, *shape of step `last`)."""
    waiting: dict[int, Any] = {last: rows}
    constant = tf.zeros(tf.shape(rows)[:2], tf.float64)
    for number in range(last, 0, -1):
        if number not in waiting:
            continue
        step, factors = network.steps[number], waiting.pop(number)
        parts, added = _through(step, factors, [bounds[i] for i in step.inputs])
        constant += added
        for i, part in zip(step.inputs, parts, strict=True):
            waiting[i] = waiting[i] + part if i in waiting else part
    return constant + _minimum(waiting[0], region)


def elided(network: Network, rows: Any, bounds: list[Bounds]) -> Any:
    """The same for the last step by the intervals of the step before it (Gowal et al. 2018, section 3, "elision")."""
    step = network.steps[-1]
    if step.kind != "affine":
        return _total(tf.where(rows > 0, bounds[-1].low, bounds[-1].high) * rows)
    inputs = [bounds[i] for i in step.inputs]
    parts, constant = _pulled(step, rows, inputs)
    return constant + sum(
        _total(tf.where(part > 0, one.low, one.high) * part) for part, one in zip(parts, inputs, strict=True)
    )


def _minimum(factors: Any, region: Region) -> Any:
    """The minimum of a linear function over the region: over the box, or the ball where that is higher."""
    box = _total(tf.where(factors > 0, region.low, region.high) * factors)
    if region.norm == "inf":
        return box
    length = tf.sqrt(_total(factors**2))
    return tf.maximum(box, _total(factors * region.centre) - region.eps * length)


def _through(step: Step, factors: Any, inputs: list[Bounds]) -> tuple[list[Any], Any]:
    """The factors of the step's inputs, and what is added to the bound."""
    if step.kind == "affine":
        return _pulled(step, factors, inputs)
    if step.kind == "max":
        return _larger(factors, *inputs)
    lines = relaxed(step, inputs[0])
    above, below = tf.maximum(factors, 0), tf.minimum(factors, 0)
    return [above * lines.low_slope + below * lines.high_slope], _total(
        above * lines.low_start + below * lines.high_start
    )


def _larger(factors: Any, a: Bounds, b: Bounds) -> tuple[list[Any], Any]:
    """max(a, b) = a + relu(b - a), with the bounds of the difference."""
    apart = Step("relu", (), ())
    lines = relaxed(apart, Bounds(b.low - a.high, b.high - a.low, None))
    above, below = tf.maximum(factors, 0), tf.minimum(factors, 0)
    moved = above * lines.low_slope + below * lines.high_slope
    return [factors - moved, moved], _total(above * lines.low_start + below * lines.high_start)


def _pulled(step: Step, factors: Any, inputs: list[Bounds]) -> tuple[list[Any], Any]:
    """The factors put through an affine step: its vector-Jacobian product, and its constants."""
    assert step.apply is not None  # nosec B101: of every affine step
    shape = tf.shape(factors)
    flat = tf.reshape(factors, tf.concat([[-1], shape[2:]], 0))
    zeros = [tf.zeros(tf.concat([tf.shape(flat)[:1], tf.shape(one.low)[1:]], 0), tf.float64) for one in inputs]
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        out = step.apply(*zeros)
    pulled = tape.gradient(out, zeros, output_gradients=flat, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    parts = [tf.reshape(one, tf.concat([shape[:2], tf.shape(one)[1:]], 0)) for one in pulled]
    constant = step.apply(*(one[:1] for one in zeros))
    return parts, _total(tf.where(factors == 0, tf.zeros_like(factors), factors * constant))


def relaxed(step: Step, given: Bounds) -> Lines:
    """Two lines around an elementwise function over its bounds."""
    return _bent(step.slope, given) if step.kind == "relu" else _curved(step, given)


def _bent(slope: float, given: Bounds) -> Lines:
    """Of a leaky ReLU (slope in [0, 1]): the chord above; below, the line that leaves less area."""
    low, high, one = given.low, given.high, tf.ones_like(given.low)
    crossing = (low < 0) & (high > 0)
    plain = tf.where(low >= 0, one, slope * one)
    chord = tf.where(crossing, (high - slope * low) / tf.where(crossing, high - low, one), plain)
    start = tf.where(crossing, high - chord * high, 0 * one)
    below = tf.where(crossing, tf.where(high > -low, one, slope * one), plain)
    return Lines(below, 0 * one, chord, start)


def _curved(step: Step, given: Bounds) -> Lines:
    """Of an S-shaped function: both lines with the smaller of the slopes at the ends, which is nowhere exceeded."""
    at_low, at_high = elementwise(step, given.low), elementwise(step, given.high)
    if step.kind == "tanh":
        slope = tf.minimum(1 - at_low**2, 1 - at_high**2)
    else:
        slope = tf.minimum(at_low * (1 - at_low), at_high * (1 - at_high))
    return Lines(slope, at_low - slope * given.low, slope, at_high - slope * given.high)


def _total(terms: Any) -> Any:
    """The sum over all but the first two axes."""
    return tf.reduce_sum(terms, axis=tuple(range(2, len(terms.shape))))
