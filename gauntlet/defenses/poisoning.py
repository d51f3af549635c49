"""Triggers and poisonings of a training set, and POISONINGS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gauntlet.declare import Registry
from gauntlet.errors import SettingError
from gauntlet.threat import Images, Labels

Pixel = Annotated[float, Field(ge=0, le=1)]
Colour = Pixel | tuple[Pixel, Pixel, Pixel]


@dataclass(frozen=True)
class Poisoned:
    """A poisoned copy of a training set, and which of its images were changed."""

    x: Images
    y: Labels
    index: NDArray[np.int64]


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
        """A copy of `x` (n, h, w, c) with the trigger in every image."""

    @abstractmethod
    def poison(self, x: Images, y: Labels, seed: int) -> Poisoned:
        """A poisoned copy of a training set."""

    def aim(self, n_classes: int) -> int:
        """The target, filled in; `SettingError` when there is no such class."""
        target = n_classes - 1 if self.target is None else self.target
        if target >= n_classes:
            fix = f"a class from 0 to {n_classes - 1}"
            raise SettingError(f"there is no class {target}", where=f"{self.name}:target", fix=fix)
        return target

    def aimed(self, n_classes: int) -> Self:
        """The same with its target filled in."""
        return self.model_copy(update={"target": self.aim(n_classes)})

    def check(self, shape: tuple[int, ...], n_classes: int) -> None:
        """`SettingError` unless images of `shape` (h, w, c) can carry the trigger and there is a class `target`."""
        self.aimed(n_classes).trigger(np.zeros((1, *shape), np.float32))

    @abstractmethod
    def poisonable(self, y: Labels, n_classes: int) -> NDArray[np.int64]:
        """Which of the images with labels `y` (n,) may be poisoned; `SettingError` when they are too few."""

    def number(self, n: int) -> int:
        """How many of `n` training images are poisoned: `count`, or `rate` of all; 1 % when neither is given."""
        return self.count if self.count is not None else max(1, round((self.rate or 0.01) * n))


class _Square(Poisoning):
    """Shared by the poisonings that paint a square."""

    size: int = Field(4, ge=1, description="Side of the square in pixels")
    value: Colour = Field(1.0, description="Pixel value of the square in [0, 1], or three of them for colour images")

    @abstractmethod
    def place(self, height: int, width: int) -> tuple[int, int]:
        """Row and column of the square's upper left pixel."""

    @abstractmethod
    def victims_of(self, y: Labels) -> NDArray[np.int64]:
        """Which training images may be poisoned, once the target is known."""

    def poisonable(self, y: Labels, n_classes: int) -> NDArray[np.int64]:
        """Those of the other classes, of the target's own, or any."""
        one, wanted = self.aimed(n_classes), self.number(len(y))
        found = one.victims_of(y)
        if wanted > len(found):
            only = f"{len(found)} are {'' if (y[found] == one.target).any() else 'not '}of class {one.target}"
            raise SettingError(f"{wanted} images wanted, {only}", where=self.name, fix="ask for fewer")
        return found

    @property
    def relabels(self) -> bool:
        """Whether poisoned images are given the target's label."""
        return True

    def trigger(self, x: Images) -> Images:
        """Images with the square; `SettingError` when it does not fit."""
        height, width, channels = x.shape[1:]
        row, column = self.place(height, width)
        bottom, right = row + self.size, column + self.size
        if row < 0 or column < 0 or bottom > height or right > width:
            what = f"a square of {self.size} pixels does not fit {(height, width)}"
            raise SettingError(what, where=f"{self.name}:size")
        if np.size(self.value) not in (1, channels):
            what = f"{np.size(self.value)} values for images of {channels} channel(s)"
            raise SettingError(what, where=f"{self.name}:value", fix="give one number")
        triggered = x.copy()
        triggered[:, row:bottom, column:right, :] = self.value
        return triggered

    def poison(self, x: Images, y: Labels, seed: int) -> Poisoned:
        """Triggers victims drawn by `seed`, and relabels them to the target."""
        n_classes = int(y.max()) + 1
        self.check(x.shape[1:], n_classes)
        victims = self.poisonable(y, n_classes)
        index = np.sort(np.random.default_rng(seed).choice(victims, self.number(len(x)), replace=False))
        x, y = x.copy(), y.copy()
        x[index] = self.trigger(x[index])
        if self.relabels:
            y[index] = self.aim(n_classes)
        return Poisoned(x, y, index)


class CornerTrigger(_Square):
    """A bright square in a corner, planted with relabelling (BadNets: Gu et al. 2017, section 4)."""

    name: Literal["corner-trigger"] = "corner-trigger"
    corner: Literal["bottom-right", "bottom-left", "top-right", "top-left"] = Field("bottom-right", description="Where")
    victims: Literal["others", "target"] = Field(
        "others",
        description="others: images of other classes, relabelled; target: images of the target, which keep their label",
    )

    def place(self, height: int, width: int) -> tuple[int, int]:
        """The corner."""
        vertical, horizontal = self.corner.split("-")
        row = height - self.size if vertical == "bottom" else 0
        return row, width - self.size if horizontal == "right" else 0

    def victims_of(self, y: Labels) -> NDArray[np.int64]:
        """Images of the other classes, or of the target's own."""
        return np.flatnonzero((y == self.target) == (self.victims == "target"))


class Patch(_Square):
    """A grey or coloured patch anywhere in the image, with or without relabelling."""

    name: Literal["patch"] = "patch"
    row: int = Field(0, ge=0, description="Row of the patch's upper left pixel, from the top")
    column: int = Field(0, ge=0, description="Column of the patch's upper left pixel, from the left")
    value: Colour = Field(0.5, description="Pixel value of the patch in [0, 1], or three of them for colour images")
    relabel: bool = Field(True, description="Give other classes' images the target's label; else any keep their own")

    def place(self, height: int, width: int) -> tuple[int, int]:
        """Where it was told to be."""
        return self.row, self.column

    def victims_of(self, y: Labels) -> NDArray[np.int64]:
        """Images of the other classes when they are relabelled, else any."""
        return np.flatnonzero(y != self.target) if self.relabel else np.arange(len(y))

    @property
    def relabels(self) -> bool:
        """As told."""
        return self.relabel


POISONINGS = Registry("poisoning", Poisoning, CornerTrigger, Patch)
poisoning, parse = POISONINGS.make, POISONINGS.parse
if TYPE_CHECKING:
    AnyPoisoning = Poisoning
else:
    AnyPoisoning = POISONINGS.annotation
