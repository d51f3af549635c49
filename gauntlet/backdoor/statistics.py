"""Is a class's value smaller than clean models' are? p-values, and how small it would have to be.

Values are on a scale on which clean models scatter about evenly (logarithms of sizes, logits of shares), and a backdoor
makes the target's small. Two tests, both of one new observation against a sample (Student's prediction interval):

references   the goal against the same goal of r clean models of the same architecture and data, less by how much all
             of the model's goals are smaller than theirs (the median), since a model that was trained longer, or by
             another loss, has smaller triggers of every class; the scatter is pooled over the g goals, g (r - 1)
             degrees of freedom
others       the class against the model's k - 1 other classes, each less what is usual for it, where that is known;
             k - 2 degrees of freedom
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
MEDIAN = np.pi / 2
"""Variance of a median of many, in those of their mean."""
LEAST = 0.05
"""The standard deviation is taken to be at least this: 5 % of a size, and no scatter is no reason for certainty."""


@dataclass(frozen=True)
class Tested:
    """Of each class of one kind: the p-value (one-sided, not corrected), and the distance in standard deviations."""

    p: Numbers
    distance: Numbers
    """(k,): below 0 the value is smaller than usual."""
    critical: Numbers
    """(k,): the value below which p is at most the level that was asked for."""


def nothing_known(n: int) -> Tested:
    """Of n goals that there is nothing to compare with: none is unusual, none would be."""
    nothing = np.zeros(n)
    return Tested(nothing + 1.0, nothing, nothing - np.inf)


def joined(first: Tested, second: Tested) -> Tested:
    """The goals of both, one after the other."""
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return Tested(*(np.concatenate(pair) for pair in pairs))


def against_references(values: Numbers, references: Numbers, level: float) -> Tested:
    """Each of the g `values` against the column of `references` (r, g), and the model's own shift; r >= 2."""
    r, g = references.shape
    mean = references.mean(axis=0)
    spread = np.sqrt(((references - mean) ** 2).sum() / (g * (r - 1)))
    usual = mean + min(0.0, float(np.median(values - mean)))
    error = np.sqrt(1 + 1 / r + MEDIAN / g)
    return _tested(values, usual, np.full(g, spread * error), g * (r - 1), level)


def against_others(values: Numbers, level: float, usual: Numbers | None = None) -> Tested:
    """Each of the k `values`, less what is `usual` (k,), against all others; k >= 4."""
    usual = np.zeros(len(values)) if usual is None else usual
    rest, k = values - usual, len(values)
    without = np.array([np.delete(rest, one) for one in range(k)])
    spread = without.std(axis=1, ddof=1) * np.sqrt(1 + 1 / (k - 1))
    return _tested(values, usual + without.mean(axis=1), spread, k - 2, level)


def _tested(values: Numbers, mean: Numbers, spread: Numbers, freedom: int, level: float) -> Tested:
    from scipy.stats import t

    spread = np.maximum(spread, LEAST)
    distance = (values - mean) / spread
    return Tested(t.cdf(distance, freedom), distance, mean + spread * t.ppf(level, freedom))
