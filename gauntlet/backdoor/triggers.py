"""Candidates for a trigger, one for each goal, and the images they are tried on.

Of a model of k classes there are k + 1 goals: to send the images of all other classes to class 0, ..., k - 1, and,
last, to send every image to any class but its own, as a backdoor of all classes to the next does. A search of pairs has
k (k - 1) goals: to send the images of one class to one other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.access import Target

Floats = NDArray[np.float32]
ANY = "any other"
"""What the last goal is called where classes have names."""


class Goals(NamedTuple):
    """Whose images shall go where, g goals."""

    source: NDArray[np.int64]
    """(g,): a class, or `OTHERS`."""
    target: NDArray[np.int64]
    """(g,): a class, or the number of classes, k, for any other than an image's own."""

    def victims(self, y: Labels, goal: int) -> NDArray[np.bool_]:
        """Which images with true labels `y` (n,) a goal is about."""
        source = self.source[goal]
        mine: NDArray[np.bool_] = y != self.target[goal] if source == OTHERS else y == source
        return mine


OTHERS = -1
"""The source of a goal that is about all classes but the target."""


def class_goals(k: int) -> Goals:
    """All others to each of k classes, and any other class."""
    return Goals(np.full(k + 1, OTHERS), np.arange(k + 1))


def pair_goals(k: int) -> Goals:
    """Each of k classes to each other; those of one target stand together."""
    target, source = np.nonzero(~np.eye(k, dtype=bool))
    return Goals(source, target)


@dataclass(frozen=True)
class Found:
    """The best candidate of one kind for each of the g = k + 1 goals."""

    kind: str
    unit: str
    """Of the sizes."""
    sizes: NDArray[np.float64]
    """(g,): infinite where no candidate works."""
    values: NDArray[np.float64]
    """(g,): what is tested, on a scale on which clean models scatter evenly; a backdoor makes it small."""
    mask: Floats = field(repr=False)
    """(g, h, w, 1) in [0, 1]: how much of the image the pattern replaces; zeros for what is added."""
    pattern: Floats = field(repr=False)
    """(g, h, w, c): pixels that replace, or what is added to pixels."""
    goals: Goals = field(default=None, repr=False)  # type: ignore[assignment]
    """Every class and any other, when not given."""

    def __post_init__(self) -> None:
        """Fill in the goals."""
        if self.goals is None:
            object.__setattr__(self, "goals", class_goals(len(self.values) - 1))

    @property
    def added(self) -> bool:
        """Whether the pattern is added to the image, rather than put in its place."""
        return not self.mask.any()

    def show(self, x: Images, goal: int, bounds: tuple[float, float]) -> Images:
        """Images (n, h, w, c) with the candidate of a goal."""
        if self.added:
            return np.clip(x + self.pattern[goal], *bounds)
        shown: Images = x + self.mask[goal] * (self.pattern[goal] - x)
        return shown

    def success(self, model: Target, x: Images, y: Labels, goal: int) -> NDArray[np.bool_]:
        """Which images the candidate sends where it wants them, of those with true labels `y` that are not there."""
        mine = self.goals.victims(y, goal)
        predicted = model.labels(self.show(x[mine], goal, model.clip_values))
        return reached(predicted, y[mine], int(self.goals.target[goal]), model.nb_classes)


def reached(predicted: Labels, y: Labels, target: int, n_classes: int) -> NDArray[np.bool_]:
    """Which predictions (n,) of images with true labels `y` are the target, or with it k any but their own."""
    wanted: NDArray[np.bool_] = predicted == target if target < n_classes else predicted != y
    return wanted


class Victims:
    """Images to search on, for each goal those that it is about, in an order drawn once."""

    def __init__(self, x: Images, y: Labels, goals: Goals, rng: np.random.Generator) -> None:
        """`x` (n, h, w, c) with true labels `y` (n,)."""
        self._x, self._y = x, y
        self.rows = [rng.permutation(np.flatnonzero(goals.victims(y, goal))) for goal in range(len(goals.source))]
        self._next = [0] * len(self.rows)

    def draw(self, b: int) -> tuple[Images, Labels]:
        """Images (g, b, h, w, c) and true labels (g, b): the next of each goal, from the start when all were had."""
        rows = np.stack([self._take(goal, b) for goal in range(len(self.rows))])
        return self._x[rows], self._y[rows]

    def _take(self, goal: int, b: int) -> NDArray[np.int64]:
        start, n = self._next[goal], len(self.rows[goal])
        self._next[goal] = (start + b) % n
        return self.rows[goal][np.arange(start, start + b) % n]
