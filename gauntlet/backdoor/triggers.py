"""Candidates for a trigger, one for each class, and the images they are tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.access import Target

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """The best candidate of one kind for each of k classes."""

    kind: str
    unit: str
    """Of the sizes."""
    sizes: NDArray[np.float64]
    """(k,): infinite where no candidate works."""
    values: NDArray[np.float64]
    """(k,): what is tested, on a scale on which clean models scatter evenly; a backdoor makes it small."""
    mask: Floats = field(repr=False)
    """(k, h, w, 1) in [0, 1]: how much of the image the pattern replaces; zeros for what is added."""
    pattern: Floats = field(repr=False)
    """(k, h, w, c): pixels that replace, or what is added to pixels."""

    @property
    def added(self) -> bool:
        """Whether the pattern is added to the image, rather than put in its place."""
        return not self.mask.any()

    def show(self, x: Images, k: int, bounds: tuple[float, float]) -> Images:
        """Images (n, h, w, c) with the candidate of class `k`."""
        if self.added:
            return np.clip(x + self.pattern[k], *bounds)
        shown: Images = x + self.mask[k] * (self.pattern[k] - x)
        return shown

    def success(self, model: Target, x: Images, y: Labels, k: int) -> NDArray[np.bool_]:
        """Which of the images with true labels `y` that are not of class `k` the candidate sends there."""
        sent: NDArray[np.bool_] = model.labels(self.show(x[y != k], k, model.clip_values)) == k
        return sent


class Victims:
    """Images to search on, for each class those that are not of it, in an order drawn once."""

    def __init__(self, x: Images, y: Labels, n_classes: int, rng: np.random.Generator) -> None:
        """`x` (n, h, w, c) with true labels `y` (n,)."""
        self._x = x
        self.rows = [rng.permutation(np.flatnonzero(y != k)) for k in range(n_classes)]
        self._next = [0] * n_classes

    def draw(self, b: int) -> Images:
        """(k, b, h, w, c): the next of each class, from the start when all were had."""
        return np.stack([self._x[self._take(k, b)] for k in range(len(self.rows))])

    def _take(self, k: int, b: int) -> NDArray[np.int64]:
        start, n = self._next[k], len(self.rows[k])
        self._next[k] = (start + b) % n
        return self.rows[k][np.arange(start, start + b) % n]
