"""How large an effect must be to be found, exactly, from binomial distributions: the tables of the documentation.

    python -m benchmarks.thresholds

The probes of an evaluation on the sizes of their samples, and published figures on 10,000 images each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from gauntlet.studies.comparison import Interval, compare, share
from gauntlet.validity.checks import SHARE, SQUARE, UNBOUNDED
from gauntlet.validity.probes import EXPOSED, QUERIED, RETRIED, SAMPLE
from gauntlet.validity.retries import CONVERGED
from gauntlet.validity.samples import FEW, Sample, chance, detected, raised_from

IMAGES = 10_000
LEFT = (0.9, 0.5, 0.2)
"""Robust accuracies: what is tried again is a sample of what they leave."""
ERRORS, FACTORS = (0.003, 0.01, 0.05, 0.5), (1.0, 1.5, 2.0)
TAIL = 1e-9


def probes() -> Iterator[tuple[str, str, str, str, str, str]]:
    """Of each probe: its threshold, images, the least count, and the effects that it finds, raises, and excludes."""
    yield _row("gradients, finite differences", SHARE, SAMPLE, 1.0, "%", 0)
    yield _row("without a bound", UNBOUNDED, EXPOSED, 1.0, "%", FEW)
    for name, points, n, few in (("twice the steps", CONVERGED, RETRIED, 0), ("Square", SQUARE, QUERIED, FEW)):
        for robust in LEFT:
            yield _row(f"{name}, at {100 * robust:g} % left", points / 100 / robust, n, robust, "points", few)


def _row(name: str, threshold: float, n: int, scale: float, unit: str, few: int) -> tuple[str, str, str, str, str, str]:
    count = raised_from(n, threshold, few)
    found, nothing = detected(n, count), Sample(0, n).ends[1]
    alarms = chance(threshold, n, count)
    shown = [f"{100 * scale * value:.1f} {unit}" for value in (threshold, found, nothing)]
    return name, f"over {shown[0]}", f"{count} of {n}", shown[1], f"{100 * alarms:.1f} %", shown[2]


def copies() -> Iterator[tuple[str, str, str, str, str]]:
    """How often a figure whose true error is so many times the published one's is confirmed, differs, or neither."""
    for error in ERRORS:
        for factor in FACTORS:
            if error * factor < 1:
                shares = verdicts(error, error * factor)
                cells = [f"{100 * value:.1f} %" for value in shares]
                yield f"{100 * error:g} %", f"{100 * error * factor:g} %", cells[0], cells[1], cells[2]


def verdicts(published: float, measured: float, n: int = IMAGES) -> tuple[float, float, float]:
    """The chances of confirmed, differs and undecided, both figures drawn of `n` images."""
    mine, weights = _likely(measured, n)
    ends = Interval(*np.array([share(k / n, n) for k in mine]).T)
    confirmed = differs = 0.0
    for k, weight in zip(*_likely(published, n), strict=True):
        one = share(k / n, n)
        low = ends.value - one.value - np.hypot(ends.value - ends.low, one.high - one.value)
        high = ends.value - one.value + np.hypot(ends.high - ends.value, one.value - one.low)
        bound = compare(k / n, n, one, n=n).allowed[1]
        confirmed += weight * float(weights[(low >= -bound) & (high <= bound)].sum())
        differs += weight * float(weights[(low > bound) | (high < -bound)].sum())
    return confirmed, differs, 1 - confirmed - differs


def _likely(true: float, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    counts = np.arange(int(binom.ppf(TAIL, n, true)), int(binom.isf(TAIL, n, true)) + 1)
    return counts, binom.pmf(counts, n, true)


def markdown(header: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PROBES = (
    "probe",
    "doubt if",
    "raised from",
    "found 4 times in 5 from",
    "raised at the threshold",
    "none found excludes",
)
COPIES = ("published error", "true error", "confirmed", "differs", "undecided")


def main() -> None:
    """Print both tables, in Markdown."""
    print(markdown(PROBES, probes()), markdown(COPIES, copies()), sep="\n\n")


if __name__ == "__main__":
    main()
