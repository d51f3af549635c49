"""Triggers and poisonings of a training set, and POISONINGS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from gauntlet.attacks import parse_declaration
from gauntlet.errors import SettingError
from gauntlet.threat import Images, Labels


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
    target: int = Field(7, ge=0, description="Class that the attacker wants for triggered images")
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

    def number(self, n: int) -> int:
        """How many of `n` training images are poisoned: `count`, or `rate` of all; 1 % when neither is given."""
        return self.count if self.count is not None else max(1, round((self.rate or 0.01) * n))


class CornerTrigger(Poisoning):
    """A bright square in a corner, planted with relabelling (BadNets: Gu et al. 2017, section 4)."""

    name: Literal["corner-trigger"] = "corner-trigger"
    size: int = Field(4, ge=1, description="Side of the square in pixels")
    corner: Literal["bottom-right", "bottom-left", "top-right", "top-left"] = Field("bottom-right", description="Where")
    value: float = Field(1.0, ge=0, le=1, description="Pixel value of the square, in [0, 1]")

    def trigger(self, x: Images) -> Images:
        """Images with the square; `SettingError` when it does not fit."""
        if self.size > min(x.shape[1:3]):
            raise SettingError(
                f"a square of {self.size} pixels does not fit {x.shape[1:3]}", where="corner-trigger:size"
            )
        vertical, horizontal = self.corner.split("-")
        rows = slice(-self.size, None) if vertical == "bottom" else slice(self.size)
        columns = slice(-self.size, None) if horizontal == "right" else slice(self.size)
        triggered = x.copy()
        triggered[:, rows, columns, :] = self.value
        return triggered

    def poison(self, x: Images, y: Labels, seed: int) -> Poisoned:
        """Triggers images of other classes, drawn by `seed`, and relabels them to the target."""
        others = np.flatnonzero(y != self.target)
        wanted = self.number(len(x))
        if self.target > y.max():
            raise SettingError(f"there is no class {self.target}", where=f"{self.name}:target")
        if wanted > len(others):
            raise SettingError(f"{wanted} images wanted, {len(others)} are not of class {self.target}", where=self.name)
        index = np.sort(np.random.default_rng(seed).choice(others, wanted, replace=False))
        x, y = x.copy(), y.copy()
        x[index], y[index] = self.trigger(x[index]), self.target
        return Poisoned(x, y, index)


POISONINGS: dict[str, type[Poisoning]] = {kind.model_fields["name"].default: kind for kind in (CornerTrigger,)}


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,...` to the settings of a poisoning; anything but text passes unchanged."""
    return parse_declaration(text, POISONINGS, "poisoning")


AnyPoisoning = Annotated[CornerTrigger, BeforeValidator(parse, json_schema_input_type=CornerTrigger | str)]


def poisoning(settings: str | dict[str, Any]) -> Poisoning:
    """The poisoning of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Poisoning = TypeAdapter(AnyPoisoning).validate_python(settings)
    return checked
