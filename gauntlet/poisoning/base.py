"""What every poisoning of a training set has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gauntlet.errors import SettingError
from gauntlet.threat import Images, Labels

Pixel = Annotated[float, Field(ge=0, le=1)]
Colour = Pixel | tuple[Pixel, Pixel, Pixel]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Poisoned:
    """A poisoned copy of a training set, and which of its images or labels were changed."""

    x: Images
    y: Labels
    index: Rows


class Poisoning(BaseModel, ABC):
    """Settings of a poisoning: what it does to training images, and the trigger it plants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    target: int | None = Field(None, ge=0, description="Class wanted for triggered images; the last one if not given")
    count: int | None = Field(None, ge=1, description="Poisoned images; give this or rate")
    rate: float | None = Field(None, gt=0, lt=1, description="Poisoned share of the whole training set, in (0, 1)")

    @model_validator(mode="after")
    def _count_or_rate(self) -> Poisoning:
        if self.count is not None and self.rate is not None:
            raise ValueError("give count or rate, not both")
        return self

    @abstractmethod
    def trigger(self, x: Images) -> Images:
        """A copy of `x` (n, h, w, c) with the trigger in every image; `SettingError` when it does not fit."""

    def goal(self, y: Labels, n_classes: int) -> Labels:
        """The class wanted for triggered images with true labels `y` (n,); their own where nothing is wanted."""
        return np.full_like(y, self.aim(n_classes))

    def victims_of(self, y: Labels, n_classes: int) -> Rows:
        """Positions of the images with labels `y` (n,) that may be poisoned."""
        return np.flatnonzero(self.goal(y, n_classes) != y)

    @property
    def relabels(self) -> bool:
        """Whether poisoned images are given the label that is wanted for them."""
        return True

    def poison(self, x: Images, y: Labels, seed: int) -> Poisoned:
        """A poisoned copy: victims drawn by `seed` carry the trigger, and the label that is wanted for them."""
        n_classes = int(y.max()) + 1
        self.check(x.shape[1:], n_classes)
        victims = self.poisonable(y, n_classes)
        index = np.sort(np.random.default_rng(seed).choice(victims, self.number(len(x)), replace=False))
        planted, labels = x.copy(), y.copy()
        planted[index] = self.plant(x, y, index, seed)
        if self.relabels:
            labels[index] = self.goal(y[index], n_classes)
        return Poisoned(planted, labels, index)

    def plant(self, x: Images, y: Labels, index: Rows, seed: int) -> Images:
        """The poisoned images of a training set's `index`: with the trigger, where nothing more is done to them."""
        return self.trigger(x[index])

    def aim(self, n_classes: int) -> int:
        """The target, filled in; `SettingError` when there is no such class."""
        return self.known_class("target", n_classes - 1 if self.target is None else self.target, n_classes)

    def known_class(self, setting: str, label: int, n_classes: int) -> int:
        """`label`, when there is such a class; else `SettingError`."""
        if label >= n_classes:
            fix = f"a class from 0 to {n_classes - 1}"
            raise SettingError(f"there is no class {label}", where=f"{self.name}:{setting}", fix=fix)
        return label

    def aimed(self, n_classes: int) -> Self:
        """The same with its target filled in."""
        return self.model_copy(update={"target": self.aim(n_classes)})

    def check(self, shape: tuple[int, ...], n_classes: int) -> None:
        """`SettingError` unless images of `shape` (h, w, c) can carry the trigger and there are its classes."""
        self.aimed(n_classes).trigger(np.zeros((1, *shape), np.float32))

    def check_goal(self, y: Labels, n_classes: int) -> None:
        """`SettingError` where no image with labels `y` (n,) is meant to change its class: nothing can succeed."""
        if not (self.goal(y, n_classes) != y).any():
            what = "no image is meant to change its class, so nothing can succeed"
            raise SettingError(what, where=self.name, fix=f"give a class: {self.name}:target=0")

    def poisonable(self, y: Labels, n_classes: int) -> Rows:
        """Which of the images with labels `y` (n,) may be poisoned; `SettingError` when they are too few."""
        victims, wanted = self.victims_of(y, n_classes), self.number(len(y))
        if wanted > len(victims):
            what = f"{wanted} images wanted, {len(victims)} {self.which(y, victims)}"
            raise SettingError(what, where=self.name, fix="ask for fewer")
        return victims

    def which(self, y: Labels, rows: Rows) -> str:
        """In words, which images may be poisoned."""
        target = self.aim(int(y.max()) + 1)
        return f"are {'' if (y[rows] == target).any() else 'not '}of class {target}"

    def number(self, n: int) -> int:
        """How many of `n` training images are poisoned: `count`, or `rate` of all; 1 % when neither is given."""
        return self.count if self.count is not None else max(1, round((self.rate or 0.01) * n))
