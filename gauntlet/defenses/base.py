"""What every defense has in common, and what those have that train for one budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.progress import Progress, silent
from gauntlet.threat import default_budgets
from gauntlet.training.fit import Trained, Training

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier


class Defense(BaseModel, ABC):
    """Settings of a defense; the result is one model, which is attacked as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    mends: ClassVar[bool] = False
    """Whether it takes a backdoor out of the baseline: how much of it is left is told, where the trigger is known."""

    @abstractmethod
    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The defended model; its seconds count all that the defense costs, crafting included."""


class Attacked(Defense):
    """Shared by the defenses that train on attacked images of one budget."""

    eps: float | None = Field(
        None, gt=0, le=1, description="L∞ budget of the attacked images; the data set's largest usual one"
    )

    def budget(self, dataset: Dataset) -> float:
        """The budget, filled in."""
        return self.eps or default_budgets("inf", dataset.input_shape[-1])[-1]
