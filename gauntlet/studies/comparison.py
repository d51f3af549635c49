"""Compare a published figure with a measured one, and two measured shares, by intervals, in three values.

All images are taken as drawn independently. Two figures of one test set are paired, so their difference truly varies
less: decisions here have more than 95 % confidence, and more stays undecided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gauntlet.measurement import Measurement, wilson

FigureVerdict = Literal["confirmed", "differs", "undecided", "not comparable"]
Unit = Literal["percent", "loss", "ms", "seconds", "ratio", "count", "linf"]
LEVEL = 0.95
HALF = 0.5
"""A share is confirmed within this part of its error rate (of the rarer outcome: 0.5 points for 99 %, and for 1 %).

An error twice as large must not pass, and a fixed number of points lets it pass wherever the error is small. Much less
than half cannot be confirmed: at an error of 1 % on 10,000 images each, the difference is known to ±28 % of the error.
`benchmarks.thresholds` computes how often a faithful copy is confirmed, and one that is not.
"""
MOST = 0.02
"""But within 2 points at most: near 50 % half would be 25. 10,000 images each know it to ±1.4 there."""
FACTOR = 1.5
"""A mean loss is confirmed up to this factor, either way: half as much again, as for shares."""
TOLERANCE: dict[Unit, float] = {"ratio": 0.1, "count": 0.0, "linf": 1e-6}
"""How far off what is no mean over images may be: it has no interval, so it is confirmed or differs."""


class Interval(NamedTuple):
    """A figure with its 95 % interval, low <= value <= high."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What a measured figure differs by, `found`, and what it may differ by, `allowed`; both of one scale."""

    scale: Literal["difference", "ratio"]
    found: Interval
    allowed: tuple[float, float]

    @property
    def verdict(self) -> FigureVerdict:
        """Confirmed when the whole interval is allowed, differs when nothing of it is, else undecided."""
        low, high = self.allowed
        if low - 1e-9 <= self.found.low and self.found.high <= high + 1e-9:
            return "confirmed"
        return "differs" if self.found.high < low or self.found.low > high else "undecided"


def share(value: float, n: int, level: float = LEVEL) -> Interval:
    """A share in [0, 1] of `n` >= 1 images with its Wilson interval; ValueError for another value or n."""
    hits = round(value * n)
    return Interval(hits / n, *wilson(hits, n, level))


def difference(first: Interval, second: Interval) -> Interval:
    """first - second, two independent shares: for Wilson's intervals this is Newcombe's hybrid score interval.

    R. G. Newcombe, Interval estimation for the difference between independent proportions, Stat. Med. 17 (1998)
    873-890, method 10. It asks for limits and no counts (MOVER: Zou & Donner, Stat. Med. 27, 2008, 1693-1702), so it
    holds for `lowest` as well.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, value - below, value + above)


def lowest(measurements: Sequence[Measurement]) -> Interval:
    """The lowest of several shares, each of its own images, with an interval that holds the lowest true one.

    The least of k estimates is too low on average, so each has its interval at 1 - 0.05 / k (Bonferroni): all hold at
    once, and the lowest truth lies between the lowest lower end and the lowest upper one. LookupError when empty.
    """
    shares = [share(m.value, m.n, 1 - (1 - LEVEL) / len(measurements)) for m in measurements]
    if not shares:
        raise LookupError("no share to take the lowest of")
    value, low, high = (min(ends) for ends in zip(*shares, strict=True))
    return Interval(value, low, high)


def margin(published: float) -> float:
    """How far a measured share may be from a published one in [0, 1]: half its rarer outcome, 2 points at most.

    0 for a published 0 or 1, which no number of images can confirm.
    """
    return min(HALF * min(published, 1 - published), MOST)


def compare(
    published: float, images: int, measured: Interval, unit: Unit = "percent", n: int | None = None
) -> Comparison:
    """A published figure, of `images` images where it is a share, and a measured one, of `n`."""
    if unit == "loss":
        return _losses(published, measured)
    if unit == "percent" and n:
        measured_difference = difference(share(measured.value, n), share(published, images))
        allowed = margin(published)
    else:
        measured_difference = Interval(*(end - published for end in measured))
        allowed = TOLERANCE.get(unit, 0.0)
    return Comparison("difference", measured_difference, (-allowed, allowed))


def _losses(published: float, measured: Interval) -> Comparison:
    """measured / published: the published mean is taken to be as uncertain, relative to its size, as the measured one.

    Without an interval anything is possible: the ratio is undecided.
    """
    allowed = 1 / FACTOR, FACTOR
    known = measured.low < measured.high and published > 0 < measured.low
    if not known:
        return Comparison(
            "ratio", Interval(measured.value / published if published else math.inf, 0, math.inf), allowed
        )
    value = measured.value / published
    below, above = ((measured.value / measured.low) ** 2**0.5, (measured.high / measured.value) ** 2**0.5)
    return Comparison("ratio", Interval(value, value / below, value * above), allowed)


def definition() -> str:
    """The definition, for the page."""
    return (
        "Confirmed: the 95 % interval of measured - published (two independent samples: Newcombe 1998, method 10) lies "
        f"wholly within ± {HALF:g} × the published rarer outcome (the error rate where that is under a half), "
        f"{100 * MOST:g} points at most; for a loss, that of measured / published within 1 / {FACTOR:g} to {FACTOR:g}. "
        "Differs: it lies wholly outside. Else it is undecided. What is no mean over images is compared as it is "
        f"(ratios: ± {TOLERANCE['ratio']:g}). Published figures are taken as printed."
    )
