"""How often the interval of a true positive rate at a false positive rate covers the truth, as a table.

python -m benchmarks.rates [--nights 1000]

Scores of clean images are N(0, 1), of attacked ones N(shift, 1), so that the truth is known. Wilson's interval takes
the threshold for known; `sensitivity` does not.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
from scipy.stats import norm

from gauntlet.roc import rate, sensitivity

LEVELS, SIZES, SHIFTS = (0.01, 0.05), (100, 300, 1_000, 5_000), (0.5, 2.0, 4.0, 6.0)


def covered(level: float, n: int, shift: float, nights: int) -> tuple[float, float]:
    """The shares of samples whose interval covers the truth: Wilson's, and that of `sensitivity`."""
    rng = np.random.default_rng(0)
    truth = float(norm.sf(norm.isf(level) - shift))
    hits = np.zeros(2)
    for _ in range(nights):
        estimated = sensitivity(rng.normal(size=n), rng.normal(shift, 1, n), level)
        hits += [one.low <= truth <= one.high for one in (rate(estimated.value * n, n), estimated)]
    return float(hits[0] / nights), float(hits[1] / nights)


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=1_000, help="samples drawn a row")
    nights = parser.parse_args().nights
    print("| false positive rate | images, each | shift | Wilson covers | `sensitivity` covers |")
    print("| --- | --- | --- | --- | --- |")
    for level, n, shift in product(LEVELS, SIZES, SHIFTS):
        plain, ours = covered(level, n, shift, nights)
        print(f"| {100 * level:g} % | {n:,} | {shift:g} | {100 * plain:.0f} % | {100 * ours:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
