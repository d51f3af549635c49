"""How the gate errs over many nights, exactly or by simulation: the tables of docs/nightly.md, in Markdown.

python -m benchmarks.nights [--dynasties 400]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.thresholds import markdown
from gauntlet.gate.statistics import POWER, Paired, decide, failing, images_to_pass, simulate

ALLOWED = 0.01
FLIPS, DROPS = (0.004, 0.01, 0.03), (0.02, 0.03, 0.05)
IMAGES = (300, 1_000, 10_000)
NIGHTS, N, CHURN = 30, 1_000, 0.03


def needed() -> Iterator[tuple[str, ...]]:
    """Images for a chance of 80 % to pass with nothing lost, and to fail at true losses beyond the allowed one."""
    for flips in FLIPS:
        for conditions in (1, 8):
            passes = images_to_pass(flips) if conditions == 1 else None
            fails = (_to_fail(drop, flips, conditions) for drop in DROPS)
            yield f"{100 * flips:g} %", str(conditions), f"{passes:,}" if passes else "–", *[f"{n:,}" for n in fails]


def _to_fail(drop: float, flips: float, conditions: int) -> int:
    low, high = 16, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        enough = failing(drop, middle, drop + flips, m=conditions) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def verdicts() -> Iterator[tuple[str, ...]]:
    """The share of nights that fail and that pass, by true loss: one condition, and eight that all lose as much."""
    for drop in (0.0, 0.005, ALLOWED, *DROPS):
        for conditions in (1, 8):
            rates = [simulate(drop, n, drop + 0.01, 2_000, conditions=conditions) for n in IMAGES]
            cells = [f"{100 * each['FAIL']:.1f} / {100 * each['PASS']:.1f}" for each in rates]
            yield f"{100 * drop:g} points", str(conditions), *cells


def champions(dynasties: int) -> Iterator[tuple[str, ...]]:
    """What candidates that truly lose nothing meet in 30 nights, by who becomes the champion and on which images."""
    for name, promotes, folds in (
        ("never replaced", False, 1),
        ("replaced at every PASS, on the same images", True, 1),
        ("replaced at every PASS, then judged on other images", True, 10),
    ):
        fates = np.array([dynasty(promotes, folds, seed) for seed in range(dynasties)])
        failed, passed = 100 * (fates[:, 0] > 0).mean(), 100 * fates[:, 1].mean() / NIGHTS
        yield name, f"{failed:.1f} %", f"{100 * fates[:, 0].mean() / NIGHTS:.2f} %", f"{passed:.1f} %"


def dynasty(promotes: bool, folds: int, seed: int) -> tuple[int, int]:
    """Nights that fail and that pass: models of one quality, of which two differ on 3 % of the images by chance."""
    rng = np.random.default_rng(seed)

    def model() -> NDArray[np.bool_]:
        """Right or wrong on every image of every fold: a coin on twice the flips, right on all others."""
        right = np.ones((folds, N), bool)
        right[:, : round(2 * CHURN * N)] = rng.random((folds, round(2 * CHURN * N))) < 0.5
        return right

    champion, fold, failed, passed = model(), 0, 0, 0
    for _ in range(NIGHTS):
        candidate = model()
        verdict = decide({"one": Paired.of(champion[fold], candidate[fold])}, ALLOWED)["one"].verdict
        failed, passed = failed + (verdict == "FAIL"), passed + (verdict == "PASS")
        if promotes and verdict == "PASS":
            champion, fold = candidate, (fold + 1) % folds
    return failed, passed


NEEDED = ("flips", "conditions", "PASS with nothing lost", *[f"FAIL at {100 * drop:g} points" for drop in DROPS])
VERDICTS = ("true loss", "conditions", *[f"n = {n:,}: FAIL / PASS, %" for n in IMAGES])
CHAMPIONS = ("the champion is", f"a FAIL within {NIGHTS} nights", "nights that FAIL", "nights that PASS")


def main() -> None:
    """Print the three tables."""
    parse = argparse.ArgumentParser(prog="benchmarks.nights", description=__doc__)
    parse.add_argument("--dynasties", type=int, default=400)
    options = parse.parse_args()
    tables = ((NEEDED, needed()), (VERDICTS, verdicts()), (CHAMPIONS, champions(options.dynasties)))
    print("\n\n".join(markdown(header, rows) for header, rows in tables))


if __name__ == "__main__":
    main()
