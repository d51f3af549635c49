"""Candidates for a trigger, one for each goal, and the images they are tried on.

Of a model of k classes there are k + 1 goals: to send the images of all other classes to class 0, ..., k - 1, and,
last, to send every image to any class but its own, as a backdoor of all classes to the next does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.access import Target

Floats = NDArray[np.float32]
ANY = "any other"
"""What the last goal is called where classes have names."""


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
        x, y = x[y != goal], y[y != goal]
        return reached(model.labels(self.show(x, goal, model.clip_values)), y, goal, model.nb_classes)


def reached(predicted: Labels, y: Labels, goal: int, n_classes: int) -> NDArray[np.bool_]:
    """Which predictions (n,) of images with true labels `y` are what the goal wants."""
    wanted: NDArray[np.bool_] = predicted == goal if goal < n_classes else predicted != y
    return wanted


class Victims:
    """Images to search on, for each class those that are not of it, for the last goal all, in an order drawn once."""

    def __init__(self, x: Images, y: Labels, n_classes: int, rng: np.random.Generator) -> None:
        """`x` (n, h, w, c) with true labels `y` (n,)."""
        self._x, self._y = x, y
        self.rows = [rng.permutation(np.flatnonzero(y != goal)) for goal in range(n_classes + 1)]
        self._next = [0] * len(self.rows)

    def draw(self, b: int) -> tuple[Images, Labels]:
        """Images (g, b, h, w, c) and true labels (g, b): the next of each goal, from the start when all were had."""
        rows = np.stack([self._take(goal, b) for goal in range(len(self.rows))])
        return self._x[rows], self._y[rows]

    def _take(self, goal: int, b: int) -> NDArray[np.int64]:
        start, n = self._next[goal], len(self.rows[goal])
        self._next[goal] = (start + b) % n
        return self.rows[goal][np.arange(start, start + b) % n]
