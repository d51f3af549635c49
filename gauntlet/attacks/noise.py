"""Noise: no adversary, the floor that every attack must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.attacks.base import Attack, Crafted
from gauntlet.attacks.search import direction
from gauntlet.attacks.streams import Streams
from gauntlet.models.access import Access, Target
from gauntlet.threat import Images, Labels, Norm


class UniformNoise(Attack):
    """Noise drawn from the budget: uniform in the box, or of the full length in a random direction."""

    name: Literal["noise-uniform"] = "noise-uniform"
    norm: Norm = Field("inf", description="Norm of the budget")
    adversary: ClassVar[bool] = False
    access: ClassVar[Access] = "labels"
    place: ClassVar[int] = 10

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """`x` plus noise of the budget."""
        rows = np.arange(len(x))
        if self.norm == "inf":
            noise = streams.uniform(rows, -eps, eps, x.shape[1:])
        else:
            noise = (eps * direction(streams.normal(rows, x.shape[1:]), "2")).astype(np.float32)
        return Crafted(x + noise, np.zeros(len(x), np.int64))


class GaussianNoise(Attack):
    """Gaussian noise, clipped to the bounds; its budget is a standard deviation."""

    name: Literal["noise-gaussian"] = "noise-gaussian"
    norm: Literal["std"] = Field("std", description="Noise is drawn, not bounded: its budget is a standard deviation")
    std: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.1, 0.3), min_length=1, description="Standard deviations in units of the pixel range"
    )
    adversary: ClassVar[bool] = False
    access: ClassVar[Access] = "labels"
    place: ClassVar[int] = 20

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """`x` plus noise of standard deviation `eps`."""
        noise = streams.normal(np.arange(len(x)), x.shape[1:])
        return Crafted((x + eps * noise).astype(np.float32), np.zeros(len(x), np.int64))

    def clip(self, images: Images, x: Images, eps: float, bounds: tuple[float, float]) -> Images:
        """Within the bounds; there is no budget to hold noise to."""
        return np.clip(images, *bounds).astype(np.float32)

    def budgets(self, asked: Sequence[float], channels: int) -> tuple[float, ...]:
        """Its own standard deviations: a bound of the norm says nothing about them."""
        return self.std

    def check_budget(self, eps: float) -> None:
        """Bounded by the declaration already."""
