"""What every theft has in common: its settings, what the attacker knows, and the evidence it leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from gauntlet.models.access import Access, Target
from gauntlet.progress import Progress, silent
from gauntlet.roc import Rate

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset


class Roc(NamedTuple):
    """True against false positive rates, ascending; one point where the attack has no score."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]


@dataclass(frozen=True)
class TheftResult:
    """What a theft got hold of."""

    theft: Theft
    rates: dict[str, Rate]
    """By metric name, each with its 95 % interval; the theft's `headline` among them."""
    counts: dict[str, int]
    """Of what: images, queries."""
    roc: Roc | None = None

    @property
    def headline(self) -> Rate:
        """The number that the theft is judged by."""
        return self.rates[self.theft.headline]


class Theft(BaseModel, ABC):
    """Settings of an attack on what a model knows, or on the model itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    headline: ClassVar[str]
    """The rate that says how bad it is."""
    needs: ClassVar[Access]
    """What the model must show."""
    knows: ClassVar[str]
    """What the attacker has, in words."""

    @property
    def title(self) -> str:
        """The name with the settings that are not the usual ones, as one types it."""
        chosen = [f"{key}={value}" for key, value in self.model_dump(exclude_defaults=True).items() if key != "name"]
        return ":".join([self.name, *([",".join(chosen)] if chosen else [])])

    @abstractmethod
    def check(self, dataset: Dataset, n: int | None) -> None:
        """Raise `SettingError` when there are not so many images, before anything is trained."""

    @abstractmethod
    def run(
        self, victim: Target, dataset: Dataset, n: int | None, seed: int, progress: Progress = silent
    ) -> TheftResult:
        """Attack `victim`, measured on `n` images (of each kind; None: as many as there are); same seed, same numbers.

        Raises `SettingError` when there are not so many images.
        """
