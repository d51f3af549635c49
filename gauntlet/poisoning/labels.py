"""Poisonings that change labels only."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from gauntlet.poisoning.base import Poisoned, Poisoning, Rows
from gauntlet.threat import Images, Labels


class LabelFlips(Poisoning):
    """Wrong labels, no trigger: of one class or any, to one class or any (Biggio et al. 2011; Koh & Liang 2017).

    From any class to any, it is an attack on availability; from one to one, it succeeds on clean images.
    """

    name: Literal["label-flips"] = "label-flips"
    target: int | None = Field(None, ge=0, description="Label given; any other than the true one if not given")
    source: int | None = Field(None, ge=0, description="Class whose labels are changed; any if not given")

    def trigger(self, x: Images) -> Images:
        """The images as they are."""
        return x.copy()

    def goal(self, y: Labels, n_classes: int) -> Labels:
        """The target, for images of the source; without a target nothing in particular is wanted."""
        if self.target is None:
            return y.copy()
        wanted = self.known_class("target", self.target, n_classes)
        return np.where(self._of_source(y, n_classes), wanted, y)

    def victims_of(self, y: Labels, n_classes: int) -> Rows:
        """Images of the source, or any, that do not have the target's label already."""
        different = y != (-1 if self.target is None else self.target)
        return np.flatnonzero(self._of_source(y, n_classes) & different)

    def poison(self, x: Images, y: Labels, seed: int) -> Poisoned:
        """Labels changed; where no target is given, to one of the others, drawn by `seed`."""
        n_classes = int(y.max()) + 1
        self.check(x.shape[1:], n_classes)
        rng = np.random.default_rng(seed)
        index = np.sort(rng.choice(self.poisonable(y, n_classes), self.number(len(x)), replace=False))
        labels = y.copy()
        others = (y[index] + rng.integers(1, n_classes, len(index))) % n_classes
        labels[index] = others if self.target is None else self.target
        return Poisoned(x.copy(), labels, index)

    def aimed(self, n_classes: int) -> LabelFlips:
        """As it is: without a target there is none. `SettingError` when there is no such class."""
        self.goal(np.zeros(1, np.int64), n_classes)
        return self

    def which(self, y: Labels, rows: Rows) -> str:
        """Of the source, or any."""
        of_source = "are there" if self.source is None else f"are of class {self.source}"
        return of_source if self.target is None else f"{of_source} and not of class {self.target}"

    def _of_source(self, y: Labels, n_classes: int) -> Labels:
        if self.source is None:
            return np.ones(len(y), bool)
        return y == self.known_class("source", self.source, n_classes)
