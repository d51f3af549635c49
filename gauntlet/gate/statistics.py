"""Candidate against champion on the same images: differences, their significance, and the number of images needed.

One test and one interval per condition (clean, an attack at a budget, worst case, trigger), and a verdict over all:

FAIL          some condition lost more than is allowed, significantly: Tango's one-sided score test of "the loss is at
              most what is allowed", adjusted by Holm over the conditions. One FAIL fails the night, so the chance of a
              false alarm would grow with the conditions (a union of tests).
PASS          every condition's interval excludes a loss of more than is allowed. All must hold, so each at level alpha
              keeps the whole at alpha, without correction (an intersection-union test: Berger, Technometrics 24,
              1982, 295-300); the bound is the lower end of Tango's 1 - 2 alpha interval (Schuirmann,
              J. Pharmacokinet. Biopharm. 15, 1987, 657-680).
INCONCLUSIVE  neither: too few images.

A condition in which neither model is correct on any image cannot show a loss: it has no power and does not count.
Both tests are asymptotic: at a true loss of just what is allowed (1 point), a condition fails, or passes, with a chance
of up to 7 % from 1,000 images on (9 % on 300) for alpha = 5 %, mostly less (`failing`, `passing`, exact). Everywhere,
differences are candidate - champion, in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

GateVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POWER = 0.8  # how surely the images that are asked for shall do
MOST_IMAGES = 1_000_000  # above so many, "more images" is no advice
TAIL = 1e-12  # the part of a binomial distribution that is left out of exact sums
RESAMPLES = 400  # nights that are drawn to say how many images would do


@dataclass(frozen=True)
class Paired:
    """The fourfold table of two models on the same `n` images: how many both, one or neither classify correctly."""

    n: int
    both: int
    only_champion: int
    only_candidate: int
    neither: int

    def __post_init__(self) -> None:
        cells = (self.both, self.only_champion, self.only_candidate, self.neither)
        if self.n < 1 or min(cells) < 0 or sum(cells) != self.n:
            raise ValueError(f"expected four counts that sum to n >= 1, got {cells} and n = {self.n}")

    @classmethod
    def of(cls, champion: ArrayLike, candidate: ArrayLike) -> Paired:
        """Count two boolean vectors, correct or not per image, in the same order of the images."""
        first, second = np.asarray(champion), np.asarray(candidate)
        if first.shape != second.shape or first.ndim != 1 or first.size == 0:
            raise ValueError(f"expected two vectors of the same length > 0, got shapes {first.shape}, {second.shape}")
        if first.dtype != bool or second.dtype != bool:
            raise ValueError(f"expected booleans (correct or not), got {first.dtype}, {second.dtype}")
        cells = (first & second, first & ~second, ~first & second, ~first & ~second)
        return cls(first.size, *(int(cell.sum()) for cell in cells))

    @property
    def discordant(self) -> int:
        """Images that exactly one of the two classifies correctly."""
        return self.only_champion + self.only_candidate

    @property
    def powerless(self) -> bool:
        """Whether neither model classifies any image correctly: nothing can be lost here."""
        return self.neither == self.n

    @property
    def champion(self) -> float:
        """The champion's share of correct images."""
        return (self.both + self.only_champion) / self.n

    @property
    def candidate(self) -> float:
        """The candidate's share of correct images."""
        return (self.both + self.only_candidate) / self.n

    @property
    def difference(self) -> float:
        """Candidate - champion."""
        return (self.only_candidate - self.only_champion) / self.n


@dataclass(frozen=True)
class Gate:
    """The verdict on one condition, and what it rests on."""

    verdict: GateVerdict
    n: int
    champion: float  # shares of correct images
    candidate: float
    difference: float  # candidate - champion, with its 1 - 2 alpha interval (90 %)
    low: float
    high: float
    p_value: float  # Tango, one-sided: the candidate is worse by more than is allowed
    adjusted: float  # the same, by Holm over all conditions
    reason: str
    power: bool = True  # False where neither model is ever right


# Tests and intervals


def worse_than(pair: Paired, allowed: float) -> float:
    """The one-sided p-value of Tango's score test: is the candidate worse by more than `allowed` (a share)?"""
    return float(_p_worse(np.array(pair.only_candidate), np.array(pair.only_champion), pair.n, allowed))


def _p_worse(gains: Ints, losses: Ints, n: int, allowed: float) -> Floats:
    from scipy.stats import norm

    return np.asarray(norm.cdf(_score(gains, losses, n, -allowed)), float)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Scand. J. Stat. 6, 1979, 65-70), in the order given."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def _holm_rows(p: Floats) -> Floats:
    """`holm` of every row at once; statsmodels collects garbage on each call, 0.1 s."""
    order = np.argsort(p, axis=1)
    raised = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(raised, axis=1), 1)
    return np.take_along_axis(adjusted, np.argsort(order, axis=1), 1)


def interval(pair: Paired, level: float = 0.95) -> tuple[float, float]:
    """The score interval (low, high), in [-1, 1], of the difference of two paired shares, at confidence `level`.

    T. Tango, Equivalence Test and Confidence Interval for the Difference in Proportions for the Paired-Sample Design,
    Stat. Med. 17 (1998) 891-908; recommended by Fagerland, Lydersen and Laake, Stat. Med. 33 (2014) 2850-2875.
    Without a discordant pair it is +-z^2 / (n + z^2), Wilson's interval at zero.
    """
    if not 0 < level < 1:
        raise ValueError(f"expected 0 < level < 1, got {level}")
    z = _z((1 - level) / 2)
    low = _lower(pair.only_candidate, pair.only_champion, pair.n, z)
    return low, -_lower(pair.only_champion, pair.only_candidate, pair.n, z)


def _z(alpha: float) -> float:
    """The normal deviate that is exceeded with probability `alpha`."""
    from scipy.stats import norm

    return float(norm.isf(alpha))


def _score(gains: Ints, losses: Ints, n: int, difference: float) -> Floats:
    """Tango's statistic (1998): how far, in standard errors, the observed difference lies above `difference`.

    `q`, the share of losses most likely given `difference`, solves 2 n q^2 + b q + c = 0.
    """
    b = -gains - losses + (2 * n - gains + losses) * difference
    c = -losses * difference * (1 - difference)
    q = (np.sqrt(np.maximum(b * b - 8 * n * c, 0)) - b) / (4 * n)
    excess = np.asarray(gains - losses - n * difference, float)
    variance = n * (2 * q + difference * (1 - difference))
    at_end = np.where(excess == 0, 0.0, np.copysign(np.inf, excess))
    return np.divide(excess, np.sqrt(np.maximum(variance, 0)), out=at_end, where=variance > 0)


def _lower(gains: int, losses: int, n: int, z: float) -> float:
    """The difference, at or below the observed one, at which Tango's statistic is `z`."""
    from scipy.optimize import brentq

    if losses == n:
        return -1.0

    def above(difference: float) -> float:
        return min(float(_score(np.array(gains), np.array(losses), n, difference)), 1e9) - z

    return float(brentq(above, -1 + TAIL, (gains - losses) / n, xtol=TAIL))


# The gate


def decide(conditions: Mapping[str, Paired], allowed: float = 0.01, alpha: float = 0.05) -> dict[str, Gate]:
    """The verdict on each condition; `allowed` is the largest drop that does not matter, as a share."""
    _check(allowed, alpha)
    able = {name: worse_than(pair, allowed) for name, pair in conditions.items() if not pair.powerless}
    adjusted = dict(zip(able, holm(list(able.values())), strict=True))
    return {name: _gate(pair, adjusted.get(name, 1.0), allowed, alpha) for name, pair in conditions.items()}


def overall(gates: Mapping[str, Gate]) -> GateVerdict:
    """FAIL if any condition fails, PASS only if all pass. Raises ValueError when nothing was compared."""
    verdicts = {gate.verdict for gate in gates.values() if gate.power}
    if not verdicts:
        raise ValueError("expected at least one condition, got none")
    if "FAIL" in verdicts:
        return "FAIL"
    return "PASS" if verdicts == {"PASS"} else "INCONCLUSIVE"


def _check(allowed: float, alpha: float) -> None:
    if not (0 < allowed < 1 and 0 < alpha < 0.5):
        raise ValueError(f"expected 0 < allowed < 1 and 0 < alpha < 0.5, got {allowed}, {alpha}")


def _check_rates(drop: float, n: int, discordant: float) -> None:
    if not (n > 0 and abs(drop) <= discordant <= 1):
        raise ValueError(f"expected n > 0 and |drop| <= discordant <= 1, got n = {n}, {drop}, {discordant}")


def _gate(pair: Paired, adjusted: float, allowed: float, alpha: float) -> Gate:
    low, high = interval(pair, 1 - 2 * alpha)
    verdict: GateVerdict = "INCONCLUSIVE"
    if pair.powerless:
        verdict, reason = "PASS", "no power: neither model is right on any image; a smaller --eps would tell"
    elif adjusted < alpha:
        verdict, reason = "FAIL", f"{_change(pair.difference)}; p = {adjusted:.2g} (Holm)"
    elif low > -allowed:
        verdict, reason = "PASS", f"at {'most' if low < 0 else 'least'} {_change(low)}"
    else:
        reason = f"from {_change(low)} to {_change(high)}"
    line = f"{reason}; {100 * allowed:.2f} allowed; {_seen(pair)}"
    shares, p = (pair.champion, pair.candidate, pair.difference), worse_than(pair, allowed)
    return Gate(verdict, pair.n, *shares, low, high, p, adjusted, line, not pair.powerless)


def _seen(pair: Paired) -> str:
    shares = f"{100 * pair.champion:.2f} % to {100 * pair.candidate:.2f} %"
    return f"{shares}, {pair.only_champion:,} lost and {pair.only_candidate:,} gained of {pair.n:,} images"


def _change(difference: float) -> str:
    return f"{100 * abs(difference):.2f} points {'lost' if difference < 0 else 'gained'}"


# How surely one condition is told: exact, by summation over the discordant images and, given those, the losses


def failing(drop: float, n: int, discordant: float, *, allowed: float = 0.01, alpha: float = 0.05, m: int = 1) -> float:
    """The chance that one condition of `m` fails on `n` images when the true loss is `drop`.

    `discordant` is the share of images that exactly one model has right, drop included. The first step of Holm is the
    hardest, so of `m` conditions this is the least chance.
    """
    from scipy.stats import binom

    counts, weights, worse = _discordances(drop, n, discordant)
    most = _most_losses(counts, n, allowed, -_z(alpha / m))
    return float(weights @ binom.sf(most, counts, worse))


def passing(n: int, discordant: float, drop: float = 0.0, *, allowed: float = 0.01, alpha: float = 0.05) -> float:
    """The chance that one condition passes on `n` images when the true loss is `drop`."""
    from scipy.stats import binom

    counts, weights, worse = _discordances(drop, n, discordant)
    most = _most_losses(counts, n, allowed, _z(alpha))
    return float(weights @ binom.cdf(most, counts, worse))


def _most_losses(counts: Ints, n: int, allowed: float, z: float) -> Ints:
    """Of so many discordant images, the most losses with which Tango's statistic stays above `z`; -1 where none."""
    most, too_many = np.full_like(counts, -1), counts + 1
    while (too_many - most > 1).any():
        losses = (most + too_many) // 2
        above = _score(counts - losses, np.maximum(losses, 0), n, -allowed) > z
        most, too_many = np.where(above, losses, most), np.where(above, too_many, losses)
    return most


def _discordances(drop: float, n: int, discordant: float) -> tuple[Ints, Floats, float]:
    """The numbers of discordant images worth summing over, their chances, and the chance that one is a loss."""
    from scipy.stats import binom

    _check_rates(drop, n, discordant)
    first, last = int(binom.ppf(TAIL, n, discordant)), int(binom.isf(TAIL, n, discordant))
    counts = np.arange(max(0, first), last + 1)
    return counts, np.asarray(binom.pmf(counts, n, discordant), float), (1 + drop / max(discordant, TAIL)) / 2


def images_to_pass(
    discordant: float, drop: float = 0.0, target: float = POWER, *, allowed: float = 0.01, alpha: float = 0.05
) -> int | None:
    """The images on which `passing` reaches `target`; None: more than a million."""
    return _smallest(lambda n: passing(n, discordant, drop, allowed=allowed, alpha=alpha) >= target)


# How many images, by resampling the images of this very night: its conditions are correlated


def images_to_tell(
    changes: NDArray[np.int8], allowed: float = 0.01, alpha: float = 0.05, target: float = POWER, seed: int = 0
) -> int | None:
    """The images on which a night like this one passes or fails with a chance of `target`; None: over a million.

    `changes` (images, conditions) is +1 where only the candidate is right, -1 where only the champion is, else 0.
    """
    patterns, counts = np.unique(changes, axis=0, return_counts=True)

    def decides(n: int) -> bool:
        verdicts = resampled(patterns, counts / counts.sum(), n, allowed, alpha, seed)
        return verdicts["PASS"] + verdicts["FAIL"] >= target

    return _smallest(decides)


def resampled(
    patterns: NDArray[np.int8], chances: Floats, n: int, allowed: float, alpha: float, seed: int = 0
) -> dict[GateVerdict, float]:
    """The share of nights with each verdict, of `n` images drawn with these chances from these patterns of changes."""
    drawn = np.random.default_rng(seed).multinomial(n, chances, RESAMPLES)
    losses, gains = drawn @ (patterns < 0), drawn @ (patterns > 0)
    return _shares(losses, gains, n, allowed, alpha)


def _shares(losses: Ints, gains: Ints, n: int, allowed: float, alpha: float) -> dict[GateVerdict, float]:
    """The share of nights (rows) with each overall verdict, from the losses and gains of each condition (columns)."""
    score = _score(gains, losses, n, -allowed)
    fails = (_holm_rows(_p_worse(gains, losses, n, allowed)) < alpha).any(axis=1)
    passes = (score > _z(alpha)).all(axis=1)
    shares: dict[GateVerdict, Any] = {
        "PASS": passes & ~fails,
        "FAIL": fails,
        "INCONCLUSIVE": ~passes & ~fails,
    }
    return {verdict: float(nights.mean()) for verdict, nights in shares.items()}


def _smallest(reached: Callable[[int], bool]) -> int | None:
    """An n that will do while n - 1 will not: the smallest, but for the saw-teeth of discrete chances."""
    below, n = 0, 16
    while not reached(n):
        if n == MOST_IMAGES:
            return None
        below, n = n, min(2 * n, MOST_IMAGES)
    while n - below > 1:
        middle = (below + n) // 2
        below, n = (below, middle) if reached(middle) else (middle, n)
    return n


def simulate(
    drop: float,
    n: int,
    discordant: float,
    nights: int = 1000,
    seed: int = 0,
    *,
    conditions: int = 1,
    allowed: float = 0.01,
    alpha: float = 0.05,
) -> dict[GateVerdict, float]:
    """The share of nights with each overall verdict, when every condition, independently, truly loses `drop`."""
    _check(allowed, alpha)
    _check_rates(drop, n, discordant)
    chances = [(discordant + drop) / 2, (discordant - drop) / 2, 1 - discordant]
    drawn = np.random.default_rng(seed).multinomial(n, chances, (nights, conditions))
    return _shares(drawn[..., 0], drawn[..., 1], n, allowed, alpha)
