"""Attacks tried again, or others, on images that all attacks of a battery left correct: what they still break."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack
from gauntlet.evaluation.outcome import Attacked, WorstCase
from gauntlet.models.outputs import cross_entropies
from gauntlet.threat import Images, Labels
from gauntlet.validity.samples import Sample, Side

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox

ANOTHER_LOSS, ANOTHER_SEARCH = "with another loss", "in another search"
CONVERGED, ANOTHER = 1.0, 3.0
"""Points that twice the steps or another search, and another loss, may take. At 1 point for another loss the honest
PGD-trained canary was doubted."""
DOUBLINGS = 2
"""Of the steps of what surely breaks more, to see whether that comes to an end."""


@dataclass(frozen=True)
class Retry:
    """What another attack did to images that all attacks so far had left correct."""

    after: Attacked
    """The strongest result so far."""
    attack: Attack
    tried: int
    broken: int
    robust: float
    """The share of correct images before."""
    rise: float | None = None
    """By how much the loss rose, as a share of what it was; None where another attack makes no comparison."""
    left: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), compare=False, repr=False)
    """Positions of the images tried that are still correct."""
    enough: Attack | None = None
    """Of one that surely breaks more: the same with the steps that suffice; None where no doubling comes to an end."""

    @property
    def how(self) -> str:
        """What this attack has that those before had not."""
        if self.attack.access != "gradients":
            return ANOTHER_SEARCH
        return "with twice the steps" if self.attack == self.after.attack.stronger() else ANOTHER_LOSS

    @property
    def allowed(self) -> float:
        """Points that it may take."""
        return ANOTHER if self.how == ANOTHER_LOSS else CONVERGED

    @property
    def beats(self) -> bool:
        """Whether it surely takes more than that."""
        return self.side(self.allowed) == "above"

    @property
    def points(self) -> float:
        """By how much the robust accuracy would fall, in points."""
        return 100 * self.robust * self.broken / self.tried

    @property
    def most(self) -> float:
        """By how much at most, by the upper end of the interval, in points."""
        return 100 * self.robust * Sample(self.broken, self.tried).ends[1]

    def side(self, points: float) -> Side:
        """Whether it would surely fall by less than so many points, surely by more, or neither."""
        return Sample(self.broken, self.tried).side(min(1.0, points / 100 / self.robust))


class _Rows(NamedTuple):
    positions: NDArray[np.int64]
    """In the test set."""
    within: NDArray[np.int64]
    """Of the result's images."""


def retried(
    model: WhiteBox,
    x: Images,
    y: Labels,
    attack: Attack,
    after: Attacked,
    case: WorstCase,
    size: int,
    seed: int,
) -> Retry:
    """`attack` on at most `size` of the images that the worst case left correct."""
    rows = _sample(case, after, size)
    at = rows.positions
    made = attack.run(model, x[at], y[at], case.eps, seed, at)
    scores = model.predict(made.images)
    before, now = float(after.losses[rows.within].mean()), float(cross_entropies(scores, y[at]).mean())
    left = at[scores.argmax(axis=1) == y[at]]
    rise = (now - before) / max(before, 1e-6) if attack == after.attack.stronger() and not attack.minimal else None
    return Retry(after, attack, len(at), len(at) - len(left), float(case.robust.mean()), rise, left)


def settled(model: WhiteBox, x: Images, y: Labels, first: Retry, eps: float, seed: int) -> Retry:
    """The same; where it surely broke more, with its steps doubled until that surely breaks nothing more."""
    if not first.beats:
        return first
    attack, left = first.attack, first.left
    for number in range(1, DOUBLINGS + 1):
        if not len(left) or (harder := attack.stronger()) is None:
            return replace(first, enough=attack)
        images = harder.run(model, x[left], y[left], eps, seed + number, left).images
        still = left[model.labels(images) == y[left]]
        if not replace(first, broken=len(left) - len(still)).beats:
            return replace(first, enough=attack)
        attack, left = harder, still
    return first


def _sample(case: WorstCase, after: Attacked, size: int) -> _Rows:
    """Images that the worst case left correct: drawn by chance, always the same."""
    left = np.random.default_rng(0).permutation(case.index[case.robust])[:size]
    order = np.argsort(after.index)
    return _Rows(left, order[np.searchsorted(after.index, left, sorter=order)])
