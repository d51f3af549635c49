"""Probes of the model that show whether attacks on it work: gradients, outputs, and a few attacks of our own.

Every probe is one small function from a model and images that it classifies correctly to a number; `checks.py`
interprets the numbers. Probes without images return defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import ApgdCe, ApgdDlr, Attack, Pgd, Square
from gauntlet.errors import ModelError
from gauntlet.evaluation.outcome import Attacked, WorstCase
from gauntlet.models.access import Target
from gauntlet.models.chance import informative
from gauntlet.models.outputs import PROBABILITIES, SIGMOID, TANH, kind_of
from gauntlet.progress import Progress, silent
from gauntlet.threat import Images, Labels
from gauntlet.validity.paths import Followed, followed
from gauntlet.validity.planted import Planted, planted
from gauntlet.validity.retries import Retry, retried, settled
from gauntlet.validity.samples import FEW, Sample, sample
from gauntlet.validity.searched import STEPS, searched, searches
from gauntlet.validity.slopes import Slopes, detached, disagreeing, faint, unstable, zero_gradients
from gauntlet.validity.stakes import LEAST, at_stake, mine

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox

SAMPLE = 256
"""Correct images whose gradients are looked at."""
RETRIED, FIRST, EXPOSED = 128, 64, 384
"""Images that further attacks get at most: those of the battery's, and those at half the range and beyond.

384 of which none is left exclude that 1 % would be; more than a few left of the first 64 show it.
"""
GRADIENTS = 16_000
"""Gradients that attacking again may take, for each norm: 6 s of the 3×3 network."""
QUERIES, QUERIED = 300, 64
"""Of the search without gradients: queries an image, and images."""
DIFFERENCES = ("apgd-dlr", "fab", "cw-l2", "deepfool", "fmn")
"""Attacks on differences of logits, rather than on the cross-entropy."""
RESTARTS = 3
"""Of the attacks at half the range and beyond, on what their first run leaves."""


@dataclass(frozen=True)
class Probes:
    """What the probes found. Shares are of a sample of correct images; the defaults raise no doubt."""

    at_chance: float | None = None
    """The clean accuracy, when it is no better than guessing."""
    better_range: str | None = None
    """The input range that fits clearly better than the one stated."""
    disagreement: float = 0.0
    probabilities: bool = False
    zero_gradients: float = 0.0
    faint: float = 0.0
    detached: float = 0.0
    disagreeing: float = 0.0
    half_range: float | None = None
    unbounded: float | None = None
    looked: int = SAMPLE
    """Images that the shares of gradients are of."""
    sample: int = EXPOSED
    """Images that the last two are shares of."""
    stronger: tuple[Retry, ...] = ()
    square: tuple[Retry, ...] = ()
    searched: tuple[Retry, ...] = ()
    """What another search broke where the battery, too, searches without gradients, as the model has none."""
    planted: tuple[Planted, ...] = ()
    unstable: float = 0.0
    followed: tuple[Followed, ...] = ()

    def of_gradients(self, share: float) -> Sample:
        """A share of the images whose gradients were measured."""
        return sample(share, self.looked)

    def exposed(self, share: float | None) -> Sample | None:
        """A share of the images attacked at half the range and beyond; None when it was not tried."""
        return None if share is None else sample(share, self.sample)


def probe(
    target: Target,
    x: Images,
    y: Labels,
    clean: Labels,
    *,
    results: Sequence[Attacked] = (),
    better_range: str | None = None,
    plant: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Probes:
    """All probes of a model on test images `x` (n, h, w, c) with labels `y` and predictions `clean`, both (n,).

    `results` are of attacks on these images; with `plant` they must find planted images as well. A model that hides its
    gradients is only asked whether it is at chance level and whether it answers twice the same.
    """
    accuracy = float((clean == y).mean())
    if not informative(clean, y, target.nb_classes):
        return Probes(at_chance=accuracy, better_range=better_range)
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(clean == y))
    rows, exposed = drawn[:SAMPLE], drawn[:EXPOSED]
    probes: dict[str, Any] = {"better_range": better_range, "disagreement": disagreement(target, x[rows])}
    if target.access == "gradients":
        model: Any = target
        progress("gradients looked at", 0.1)
        probes |= {"looked": len(rows)} | _gradients(model, x[rows], y[rows], random=probes["disagreement"] > 0)
        blind = probes["zero_gradients"] >= STEPS and bool(searches(results))
        probes |= _beyond(model, x[exposed], y[exposed], seed, (Square(max_iter=QUERIES),) if blind else ())
        progress("attacked without a bound", 0.4)
        if probes["zero_gradients"] < STEPS:  # else there is nothing to follow for longer
            probes["stronger"] = tuple(strengthened(model, x, y, results, seed))
        elif blind:
            probes["searched"] = tuple(searched(model, x, y, results, seed))
        progress("attacked with twice the steps", 0.8)
        probes["square"] = tuple(square_sample(model, x, y, results, seed))
        if not probes["disagreement"]:  # else the model itself tells another thing each time
            probes["followed"] = tuple(followed(model, x, y, results, seed))
        probes["planted"] = tuple(planted(model, x[rows], results, seed, blind=blind)) if plant else ()
    progress("probed", 1.0)
    return Probes(**probes)


def _gradients(model: Any, x: Images, y: Labels, *, random: bool) -> dict[str, Any]:
    """The probes of gradients; what is random has no finite differences."""
    shares: dict[str, Any] = {"probabilities": probabilities(model, x)}
    steady = (zero_gradients,) if random else (zero_gradients, faint, detached, disagreeing, unstable)
    slopes = Slopes(model, x, y)
    return shares | {share.__name__: share(slopes) for share in steady}


# --- what the model answers -----------------------------------------------------------------------------------


def disagreement(target: Target, x: Images, repeats: int = 3) -> float:
    """Share of images whose scores change when they are asked for again, beyond rounding."""
    first = target.predict(x)
    room = 1e-4 * (1 + np.abs(first).max(axis=1))
    again = [np.abs(target.predict(x) - first).max(axis=1) > room for _ in range(repeats)]
    return float(np.logical_or.reduce(again).mean())


def probabilities(target: Target, x: Images) -> bool:
    """Whether what should be logits are squashed: probabilities, or all within [0, 1] or [-1, 1], here and far away."""
    low, high = target.clip_values
    far = np.random.default_rng(0).normal(scale=300 * (high - low), size=x[:64].shape).astype(np.float32)
    try:
        answers = [target.predict(x), target.predict(far)]
    except ModelError:  # they overflow far away: nothing squashes them
        return False
    return kind_of(answers) in (PROBABILITIES, SIGMOID, TANH)


# --- attacks of our own ---------------------------------------------------------------------------------------


def _beyond(model: WhiteBox, x: Images, y: Labels, seed: int, last: tuple[Attack, ...] = ()) -> dict[str, Any]:
    """`half_range` of the first images, and of all where those leave next to nothing: who survives costs the most."""
    parts = [half_range(model, x[:FIRST], y[:FIRST], seed, last)]
    if len(x) > FIRST and round(parts[0][1] * FIRST) <= FEW:
        parts.append(half_range(model, x[FIRST:], y[FIRST:], seed, last))
    sizes = [FIRST, len(x) - FIRST][: len(parts)] if len(x) > FIRST else [len(x)]
    half, whole = np.average(parts, axis=0, weights=sizes)
    return {"half_range": float(half), "unbounded": float(whole), "sample": sum(sizes)}


def half_range(model: WhiteBox, x: Images, y: Labels, seed: int, last: tuple[Attack, ...] = ()) -> tuple[float, float]:
    """Accuracy at L∞ 0.5, and without a bound, tried on what is left; both should be nothing.

    20 steps from the image itself get stuck where a network is flat; what they leave is tried again from random starts,
    and then by the attacks `last`.
    """
    low, high = model.clip_values
    again = Pgd(max_iter=20, num_random_init=RESTARTS), ApgdCe(max_iter=50, num_random_init=RESTARTS), *last
    half = _withstands(model, x, y, (high - low) / 2, seed, (Pgd(max_iter=20, num_random_init=0), *again))
    left = np.flatnonzero(half)
    whole = _withstands(model, x[left], y[left], high - low, seed, (ApgdCe(max_iter=50), *again[1:]))
    return float(half.mean()), float(whole.sum() / len(x))


def _withstands(
    model: WhiteBox, x: Images, y: Labels, eps: float, seed: int, attacks: Sequence[Attack]
) -> NDArray[np.bool_]:
    """Which images are still correct after all attacks, each of them on what the ones before left."""
    correct = np.ones(len(x), bool)
    for attack in attacks:
        if len(left := np.flatnonzero(correct)):
            correct[left] = model.labels(attack.run(model, x[left], y[left], eps, seed).images) == y[left]
    return correct


def strengthened(model: WhiteBox, x: Images, y: Labels, results: Sequence[Attacked], seed: int) -> Iterator[Retry]:
    """For each norm the strongest gradient attack with twice the steps from another start, and one on another loss."""
    for case in at_stake(results):
        here = mine(case, results)
        chosen = _strongest(here)
        stronger = chosen[0].attack.stronger() if chosen else None
        if chosen and stronger:
            result, size = chosen
            others = [(stronger, size), (_another_loss(case, here, model.nb_classes), QUERIED)]
            for attack, images in ((attack, images) for attack, images in others if attack):
                first = retried(model, x, y, attack, result, case, images, seed + 1)
                yield settled(model, x, y, first, case.eps, seed + 1)


def _another_loss(case: WorstCase, results: Sequence[Attacked], n_classes: int) -> Attack | None:
    """Targeted APGD on differences of logits, where no attack looked at those (docs/validity.md: up to 9 points)."""
    if case.norm not in ("inf", "2") or any(result.attack.name in DIFFERENCES for result in results):
        return None
    norm: Any = case.norm
    return ApgdDlr(norm=norm, max_iter=20, targets=min(9, n_classes - 1)).fitted(n_classes)


def square_sample(model: WhiteBox, x: Images, y: Labels, results: Sequence[Attacked], seed: int) -> Iterator[Retry]:
    """A short search without gradients, for each norm where the battery holds none."""
    for case in at_stake(results):
        here = mine(case, results)
        strongest = [r for r in here if r.attack.access == "gradients"]
        several = any(r.attack.iterative for r in strongest)  # of a single step alone there is a doubt already
        if case.norm in ("inf", "2") and several and len(strongest) == len(here):
            after = min(strongest, key=lambda r: r.robust.mean())
            attack = Square(norm="2" if case.norm == "2" else "inf", max_iter=QUERIES)
            yield retried(model, x, y, attack, after, case, QUERIED, seed)


def _strongest(results: Sequence[Attacked]) -> tuple[Attacked, int] | None:
    """The strongest iterative gradient attack that can be tried again on enough images, and on how many."""
    kinds = [r for r in results if r.attack.access == "gradients" and r.attack.iterative]
    sizes = [(r, int(min(RETRIED, GRADIENTS // (2 * max(1, r.calls.max()))))) for r in kinds if r.attack.stronger()]
    able = [(r, size) for r, size in sizes if size >= 2 * LEAST]
    return min(able, key=lambda pair: pair[0].robust.mean(), default=None)
