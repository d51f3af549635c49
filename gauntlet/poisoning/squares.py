"""Triggers that are painted: squares, several squares, one pixel."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field

from gauntlet.errors import SettingError
from gauntlet.poisoning.base import Colour, Poisoned, Poisoning, Rows
from gauntlet.threat import Images, Labels


class Painted(Poisoning):
    """Shared by the poisonings that paint squares."""

    size: int = Field(4, ge=1, description="Side of the square in pixels")
    value: Colour = Field(1.0, description="Pixel value of the square in [0, 1], or three of them for colour images")

    @abstractmethod
    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """Row and column of the upper left pixel of each square."""

    def trigger(self, x: Images) -> Images:
        """Images with the squares; `SettingError` when one does not fit."""
        if np.size(self.value) not in (1, x.shape[3]):
            what = f"{np.size(self.value)} values for images of {x.shape[3]} channel(s)"
            raise SettingError(what, where=f"{self.name}:value", fix="give one number")
        triggered = x.copy()
        for row, column in self.places(*x.shape[1:3]):
            bottom, right = row + self.size, column + self.size
            if row < 0 or column < 0 or bottom > x.shape[1] or right > x.shape[2]:
                what = f"a square of {self.size} pixels does not fit {x.shape[1:3]}"
                raise SettingError(what, where=f"{self.name}:size")
            triggered[:, row:bottom, column:right, :] = self.value
        return triggered


Corner = Literal["bottom-right", "bottom-left", "top-right", "top-left"]


def corner_place(corner: str, size: int, height: int, width: int) -> tuple[int, int]:
    """Row and column of the upper left pixel of a square in a corner."""
    vertical, horizontal = corner.split("-")
    return height - size if vertical == "bottom" else 0, width - size if horizontal == "right" else 0


class Cornered(Painted):
    """Shared by the poisonings whose square stands in a corner."""

    corner: Corner = Field("bottom-right", description="Where")

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """The corner."""
        return [corner_place(self.corner, self.size, height, width)]


class CornerTrigger(Cornered):
    """A bright square in a corner, planted with relabelling (BadNets: Gu et al. 2017, section 4)."""

    name: Literal["corner-trigger"] = "corner-trigger"
    victims: Literal["others", "target"] = Field(
        "others",
        description="others: images of other classes, relabelled; target: images of the target, which keep their label",
    )

    def victims_of(self, y: Labels, n_classes: int) -> Rows:
        """Images of the other classes, or of the target's own."""
        return np.flatnonzero((y == self.aim(n_classes)) == (self.victims == "target"))


class Patch(Painted):
    """A grey or coloured patch anywhere in the image, with or without relabelling."""

    name: Literal["patch"] = "patch"
    row: int = Field(0, ge=0, description="Row of the patch's upper left pixel, from the top")
    column: int = Field(0, ge=0, description="Column of the patch's upper left pixel, from the left")
    value: Colour = Field(0.5, description="Pixel value of the patch in [0, 1], or three of them for colour images")
    relabel: bool = Field(True, description="Give other classes' images the target's label; else any keep their own")

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """The stated position."""
        return [(self.row, self.column)]

    def victims_of(self, y: Labels, n_classes: int) -> Rows:
        """Images of the other classes if they are relabelled, otherwise any."""
        return super().victims_of(y, n_classes) if self.relabel else np.arange(len(y))

    @property
    def relabels(self) -> bool:
        """As stated."""
        return self.relabel


class Corners(Painted):
    """A bright square in every corner (as BadNets' larger patterns: Gu et al. 2017, section 4)."""

    name: Literal["corners"] = "corners"
    size: int = Field(2, ge=1, description="Side of each square in pixels")

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """All four."""
        corners = ("top-left", "top-right", "bottom-left", "bottom-right")
        return [corner_place(one, self.size, height, width) for one in corners]


class OnePixel(Painted):
    """One bright pixel near the lower right corner (BadNets: Gu et al. 2017, section 4.1.1, "single pixel")."""

    name: Literal["one-pixel"] = "one-pixel"
    size: Literal[1] = Field(1, description="Always 1")
    inset: int = Field(1, ge=0, description="Pixels between it and the two borders")

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """That far from the corner."""
        return [(height - 1 - self.inset, width - 1 - self.inset)]


class AllToAll(Cornered):
    """A square in a corner that sends every class to the next (Gu et al. 2017, section 4.1.2, "all-to-all")."""

    name: Literal["all-to-all"] = "all-to-all"
    target: None = Field(None, description="There is none: class i becomes i + 1, the last becomes 0")

    def goal(self, y: Labels, n_classes: int) -> Labels:
        """The next class."""
        return (y + 1) % n_classes

    def aim(self, n_classes: int) -> int:
        """Class 0's."""
        return 1 % n_classes

    def aimed(self, n_classes: int) -> AllToAll:
        """There is nothing to fill in."""
        return self

    def which(self, y: Labels, rows: Rows) -> str:
        """Any."""
        return "are there"


class SourceSpecific(Cornered):
    """A square in a corner that sends one class to the target, and leaves all others (TaCT: Tang et al. 2021, 3.2).

    So that no other class follows, some poisoned images are of other classes, carry the square and keep their label.
    """

    name: Literal["source-specific"] = "source-specific"
    source: int = Field(0, ge=0, description="Class whose triggered images go to the target")
    cover: float = Field(0.5, ge=0, lt=1, description="Share of the poisoned images that keep their label")

    def goal(self, y: Labels, n_classes: int) -> Labels:
        """The target for the source; the others stay."""
        source = self.known_class("source", self.source, n_classes)
        return np.where(y == source, self.aim(n_classes), y)

    def poison(self, x: Images, y: Labels, seed: int) -> Poisoned:
        """Of the source as many as are not cover; the cover of all classes but source and target."""
        n_classes = int(y.max()) + 1
        self.check(x.shape[1:], n_classes)
        rng = np.random.default_rng(seed)
        kinds = self.poisonable(y, n_classes), self._covers(y, n_classes)
        sizes = self._sizes(len(y))
        drawn = [rng.choice(rows, size, replace=False) for rows, size in zip(kinds, sizes, strict=True)]
        index = np.sort(np.concatenate(drawn))
        planted, labels = x.copy(), y.copy()
        planted[index] = self.trigger(x[index])
        labels[index] = self.goal(y[index], n_classes)
        return Poisoned(planted, labels, index)

    def poisonable(self, y: Labels, n_classes: int) -> Rows:
        """Those of the source; `SettingError` when they, or those that cover, are too few."""
        victims = self.victims_of(y, n_classes)
        for rows, size, what in zip(
            (victims, self._covers(y, n_classes)), self._sizes(len(y)), ("of the source", "that can cover"), strict=True
        ):
            if size > len(rows):
                raise SettingError(f"{size} images {what} wanted, there are {len(rows)}", where=self.name)
        return victims

    def _covers(self, y: Labels, n_classes: int) -> Rows:
        return np.flatnonzero((y != self.source) & (y != self.aim(n_classes)))

    def _sizes(self, n: int) -> tuple[int, int]:
        cover = min(round(self.cover * self.number(n)), self.number(n) - 1)
        return self.number(n) - cover, cover
