"""Candidate against champion on the same images: what differs, whether it matters, how many images it takes to say.

One test and one interval per condition (clean, an attack at a budget, worst case, trigger), and a verdict over all:

FAIL          some condition lost more than is allowed, and that it lost at all is no chance: McNemar's exact one-sided
              test, adjusted by Holm over the conditions. One FAIL fails the night, so the chance of a false alarm
              grows with the conditions unless corrected (a union of tests).
PASS          every condition's interval excludes a loss of more than is allowed. All must hold, so each at level alpha
              keeps the whole at alpha, without correction (an intersection-union test: Berger, Technometrics 24,
              1982, 295-300); the bound is the lower end of Tango's 1 - 2 alpha interval (Schuirmann,
              J. Pharmacokinet. Biopharm. 15, 1987, 657-680).
INCONCLUSIVE  neither: too few images, and how many would do.

The interval is asymptotic: at a true loss of just what is allowed (1 point), a condition passes with a chance of up to
7 % for alpha = 5 %, mostly less (`passing`, exact). Everywhere, differences are candidate - champion, in [-1, 1].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# With none of n differing, up to 3 / n may (95 %): Hanley and Lippman-Hand, J. Am. Med. Assoc. 249 (1983) 1743-1745.
RULE_OF_THREE = 3
POWER = 0.8  # how surely the images that are `needed` shall do
DROPS = (0.005, 0.01, 0.02, 0.03, 0.05)  # of `needed_table`, as shares
MOST_IMAGES = 1_000_000  # above so many, "more images" is no advice
TAIL = 1e-12  # the part of a binomial distribution that is left out of exact sums


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

    verdict: Verdict
    n: int
    champion: float  # shares of correct images
    candidate: float
    difference: float  # candidate - champion, with its 1 - 2 alpha interval (90 %)
    low: float
    high: float
    p_value: float  # McNemar, exact, one-sided: the candidate is worse
    adjusted: float  # the same, by Holm over all conditions
    needed: int | None  # images that would do, if INCONCLUSIVE; None also where a million would not
    reason: str


# Tests and intervals


def mcnemar(pair: Paired) -> float:
    """The two-sided p-value of McNemar's exact test (Psychometrika 12, 1947, 153-157): do the two differ?"""
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[pair.both, pair.only_champion], [pair.only_candidate, pair.neither]]
    return float(test(table, exact=True).pvalue)


def mcnemar_worse(pair: Paired) -> float:
    """The one-sided p-value of McNemar's exact test: is the candidate worse?"""
    return float(_p_worse(np.array(pair.only_champion), np.array(pair.discordant)))


def _p_worse(losses: Ints, discordant: Ints) -> Floats:
    """The chance of so many losses or more among the discordant, were losses and gains equally likely."""
    from scipy.stats import binom

    return np.asarray(binom.sf(losses - 1, discordant, 0.5), float)


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


def simultaneous(conditions: Mapping[str, Paired], level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Intervals that hold together with confidence `level`: each at 1 - (1 - level) / m (Bonferroni)."""
    return {name: interval(pair, 1 - (1 - level) / len(conditions)) for name, pair in conditions.items()}


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


def bootstrap(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    level: float = 0.95,
    resamples: int = 2000,
    method: Literal["BCa", "percentile"] = "BCa",
    seed: int = 0,
) -> tuple[float, float]:
    """The paired bootstrap interval of `statistic(*samples)` for what is no share, such as a difference of two AUCs.

    Images are drawn, and with each its entry in every sample. B. Efron, Better Bootstrap Confidence Intervals,
    J. Am. Stat. Assoc. 82 (1987) 171-185. A statistic that no resample moves has no width; BCa then is the percentile.
    Raises ValueError where the statistic is not finite, as an AUC is not once a class is missing.
    """
    from scipy import stats

    def run(how: str) -> Any:
        options: dict[str, Any] = {"paired": True, "vectorized": False, "batch": 100}  # all at once takes n^2 of memory
        options |= {"confidence_level": level, "n_resamples": resamples, "method": how}
        quiet = warnings.catch_warnings(category=stats.DegenerateDataWarning, action="ignore")
        with quiet, np.errstate(invalid="ignore", divide="ignore"):
            return stats.bootstrap(samples, statistic, rng=np.random.default_rng(seed), **options)

    found = run(method)
    if not np.isfinite(found.bootstrap_distribution).all():
        raise ValueError("expected a statistic that is finite on every resample, got nan or infinity; use more images")
    if not np.isfinite(found.confidence_interval).all():
        found = run("percentile")
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


# The gate


def judge(conditions: Mapping[str, Paired], allowed: float = 0.01, alpha: float = 0.05) -> dict[str, Gate]:
    """The verdict on each condition; `allowed` is the largest drop that does not matter, as a share."""
    _check(allowed, alpha)
    adjusted = holm([mcnemar_worse(pair) for pair in conditions.values()])
    return {
        name: _gate(pair, p, allowed, alpha, len(conditions))
        for (name, pair), p in zip(conditions.items(), adjusted, strict=True)
    }


def overall(gates: Mapping[str, Gate]) -> Verdict:
    """FAIL if any condition fails, PASS only if all pass. Raises ValueError when nothing was compared."""
    verdicts = {gate.verdict for gate in gates.values()}
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


def _gate(pair: Paired, adjusted: float, allowed: float, alpha: float, m: int) -> Gate:
    low, high = interval(pair, 1 - 2 * alpha)
    verdict: Verdict = "INCONCLUSIVE"
    needed = None
    if adjusted < alpha and -pair.difference > allowed:
        verdict, reason = "FAIL", f"{_change(pair.difference)}; p = {adjusted:.2g} (Holm)"
    elif low > -allowed:
        small = f"; a drop there is, though (p = {adjusted:.2g})" if adjusted < alpha else ""
        verdict, reason = "PASS", f"at {'most' if low < 0 else 'least'} {_change(low)}{small}"
    else:
        needed = _needed(pair, allowed, alpha, m)
        advice = f"about {needed:,} images would tell" if needed else "too close to the limit for more images to tell"
        reason = f"from {_change(low)} to {_change(high)}; {advice}"
    line = f"{reason}; {100 * allowed:.2f} allowed; {_seen(pair)}"
    shares = (pair.champion, pair.candidate, pair.difference)
    return Gate(verdict, pair.n, *shares, low, high, mcnemar_worse(pair), adjusted, needed, line)


def _needed(pair: Paired, allowed: float, alpha: float, m: int) -> int | None:
    """The images that would do, with as many discordant ones as seen (or as may be: rule of three), with `POWER`.

    To pass if nothing was lost. Where that takes no more images than there were, it is the drop seen that keeps the
    question open: the images to pass, or to fail, if it is the true one.
    """
    rate, drop = min(1.0, max(pair.discordant, RULE_OF_THREE) / pair.n), -pair.difference
    needed = images_to_pass(rate, allowed=allowed, alpha=alpha)
    if needed is None or needed > pair.n:
        return needed
    if drop < allowed:
        return images_to_pass(rate, drop, allowed=allowed, alpha=alpha)
    return images_needed(drop, rate, alpha=alpha, m=m, allowed=allowed)


def _seen(pair: Paired) -> str:
    shares = f"{100 * pair.champion:.2f} % to {100 * pair.candidate:.2f} %"
    return f"{shares}, {pair.only_champion:,} lost and {pair.only_candidate:,} gained of {pair.n:,} images"


def _change(difference: float) -> str:
    return f"{100 * abs(difference):.2f} points {'lost' if difference < 0 else 'gained'}"


# How many images: all exact, by summation over the discordant images and, given those, the losses among them


def power(drop: float, n: int, discordant: float, alpha: float = 0.05, m: int = 1, *, allowed: float = 0.0) -> float:
    """The chance that McNemar's exact one-sided test, at `alpha` / `m`, finds a `drop` on `n` images.

    `discordant` is the share of images that exactly one model has right, drop included. S. W. Duffy, Asymptotic and
    Exact Power for the McNemar Test, Biometrics 40 (1984) 1005-1015. With `allowed`, the chance of the gate's FAIL:
    the drop seen must be larger, too. The first step of Holm is the hardest, so of `m` conditions this is the least.
    """
    from scipy.stats import binom

    counts, weights, worse = _discordances(drop, n, discordant)
    least = np.asarray(binom.isf(alpha / m, counts, 0.5), np.int64) + 1
    least += _p_worse(least, counts) >= alpha / m
    least = np.maximum(least, np.floor((counts + allowed * n) / 2 + 1e-9).astype(np.int64) + 1)
    return float(weights @ binom.sf(least - 1, counts, worse))


def passing(n: int, discordant: float, drop: float = 0.0, *, allowed: float = 0.01, alpha: float = 0.05) -> float:
    """The chance that one condition passes on `n` images when the true loss is `drop`."""
    from scipy.stats import binom

    counts, weights, worse = _discordances(drop, n, discordant)
    most, too_many = np.full_like(counts, -1), counts + 1
    while (too_many - most > 1).any():
        losses = (most + too_many) // 2
        passes = _score(counts - losses, np.maximum(losses, 0), n, -allowed) > _z(alpha)
        most, too_many = np.where(passes, losses, most), np.where(passes, too_many, losses)
    return float(weights @ binom.cdf(most, counts, worse))


def _discordances(drop: float, n: int, discordant: float) -> tuple[Ints, Floats, float]:
    """The numbers of discordant images worth summing over, their chances, and the chance that one is a loss."""
    from scipy.stats import binom

    _check_rates(drop, n, discordant)
    first, last = int(binom.ppf(TAIL, n, discordant)), int(binom.isf(TAIL, n, discordant))
    counts = np.arange(max(0, first), last + 1)
    return counts, np.asarray(binom.pmf(counts, n, discordant), float), (1 + drop / max(discordant, TAIL)) / 2


def images_needed(
    drop: float, discordant: float, target: float = POWER, *, alpha: float = 0.05, m: int = 1, allowed: float = 0.0
) -> int | None:
    """The images on which `power` reaches `target`; None: more than a million."""
    return _smallest(lambda n: power(drop, n, discordant, alpha, m, allowed=allowed) >= target)


def images_to_pass(
    discordant: float, drop: float = 0.0, target: float = POWER, *, allowed: float = 0.01, alpha: float = 0.05
) -> int | None:
    """The images on which `passing` reaches `target`; None: more than a million."""
    return _smallest(lambda n: passing(n, discordant, drop, allowed=allowed, alpha=alpha) >= target)


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


def needed_table(
    drops: Sequence[float] = DROPS, churn: float = 0.01, target: float = POWER, *, alpha: float = 0.05, m: int = 1
) -> list[dict[str, float | int | None]]:
    """Drop to be found against images needed, a row each, when a share `churn` of images flips besides, either way."""
    images = {drop: images_needed(drop, drop + churn, target, alpha=alpha, m=m) for drop in drops}
    return [{"drop": drop, "discordant": drop + churn, "images": images[drop]} for drop in drops]


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
) -> dict[Verdict, float]:
    """The share of nights with each overall verdict, when every condition, independently, truly loses `drop`."""
    _check(allowed, alpha)
    _check_rates(drop, n, discordant)
    chances = [(discordant + drop) / 2, (discordant - drop) / 2, 1 - discordant]
    drawn = np.random.default_rng(seed).multinomial(n, chances, (nights, conditions))
    losses, gains = drawn[..., 0], drawn[..., 1]
    adjusted = _holm_rows(_p_worse(losses, losses + gains))
    fails = ((adjusted < alpha) & ((losses - gains) / n > allowed)).any(axis=1)
    passes = (_score(gains, losses, n, -allowed) > _z(alpha)).all(axis=1)
    shares: dict[Verdict, Any] = {"PASS": passes, "FAIL": fails, "INCONCLUSIVE": ~passes & ~fails}
    return {verdict: float(nights_so.mean()) for verdict, nights_so in shares.items()}
