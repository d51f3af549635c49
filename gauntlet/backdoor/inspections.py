"""How a training set is looked at for poison, each way declared once: INSPECTIONS.

The first four look at images and labels alone (`gauntlet/data/datascan.py`), the others at a network that was trained
on them (`suspects.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.backdoor.features import hidden
from gauntlet.backdoor.suspects import (
    Apart,
    Features,
    activation_clusters,
    beyond,
    clusters_apart,
    early_losses,
    spectral_against,
)
from gauntlet.data.datascan import Check, DataScan, check_balance, check_duplicates, check_labels, check_patches
from gauntlet.declare import Registry
from gauntlet.progress import Progress, part, silent
from gauntlet.training.fit import Training, train

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset


@dataclass(frozen=True, eq=False)
class Seen:
    """What is looked at: a data set, and the network that some inspections need, trained once when one asks for it."""

    dataset: Dataset
    settings: DataScan = field(default_factory=DataScan)
    training: Training = field(default_factory=Training)
    model: Callable[[], keras.Model] | None = None
    """Gives the network that was trained on the data set; None trains one."""

    @cached_property
    def features(self) -> tuple[Features, Features]:
        """The last hidden layer of training (n, d) and test images (m, d)."""
        network = self.model() if self.model else train(self.dataset, self.training).model
        return hidden(network, self.dataset.x_train), hidden(network, self.dataset.x_test)


class Inspection(BaseModel, ABC):
    """One way to look at a training set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    trains: ClassVar[bool] = False
    """Whether a network is trained for it, or must be given."""

    @abstractmethod
    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """What it finds."""


class ClassBalance(Inspection):
    """Training labels against uniform and against the test set's (χ²): relabelling moves counts."""

    name: Literal["class-balance"] = "class-balance"

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """By `p_value` of the scan."""
        data = seen.dataset
        return check_balance(data.y_train, data.y_test, data.n_classes, seen.settings)


class Duplicates(Inspection):
    """The same image twice, with another label, or in the test set too."""

    name: Literal["duplicates"] = "duplicates"

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """One image with two labels alarms."""
        return check_duplicates(seen.dataset.x_train, seen.dataset.y_train, seen.dataset.x_test)


class ContradictedLabels(Inspection):
    """Images whose neighbours agree on another class (Northcutt et al. 2021)."""

    name: Literal["labels"] = "labels"

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """By `p_value` of the scan."""
        data = seen.dataset
        sides = data.x_train, data.y_train, data.x_test, data.y_test
        return check_labels(*sides, seen.settings, seen.training.seed)


class SharedWindows(Inspection):
    """A window that is pixel for pixel the same in many images of one class and in nothing like it elsewhere."""

    name: Literal["patches"] = "patches"

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """By `patch_score` of the scan."""
        return check_patches(seen.dataset.x_train, seen.dataset.y_train, seen.settings, progress)


class Spectral(Inspection):
    """Images far along the first singular vector of their class's activations (Tran et al. 2018)."""

    name: Literal["spectral"] = "spectral"
    usual: float = Field(0.98, gt=0, lt=1, description="Share of a class's test images that score below the suspects")
    p_value: float = Field(0.001, gt=0, lt=1, description="Corrected over classes; a class is suspected below it")
    trains: ClassVar[bool] = True

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """More of a class score so high than of its test images."""
        (own, tested), data = seen.features, seen.dataset
        scores, others = spectral_against(own, data.y_train, tested, data.y_test)
        found = beyond(scores, data.y_train, others, data.y_test, self.usual, self.p_value)
        return _check(self.name, found, self.p_value, "lie far along its first singular vector")


class ActivationClusters(Inspection):
    """A cluster of a class's activations in which its test images do not lie (Chen et al. 2018)."""

    name: Literal["clusters"] = "clusters"
    silhouette: float = Field(0.2, ge=-1, le=1, description="From which two clusters of a class count as apart")
    p_value: float = Field(0.001, gt=0, lt=1, description="Corrected over classes; a class is suspected below it")
    trains: ClassVar[bool] = True

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """A cluster holds more of a class than of its test images."""
        (own, tested), data = seen.features, seen.dataset
        clusters = activation_clusters(own, data.y_train, seen.training.seed, (tested, data.y_test))
        found = clusters_apart(clusters, self.silhouette, self.p_value)
        return _check(self.name, found, self.p_value, "lie in a cluster that its test images avoid")


class Isolation(Inspection):
    """Images that are learned before any other (anti-backdoor learning, Li et al. 2021)."""

    name: Literal["isolation"] = "isolation"
    steps: int = Field(100, ge=1, description="Gradient steps, in whole epochs, after which losses are compared")
    floor: float = Field(0.0, ge=0, description="Nats; where a batch's mean loss is below it, steps go uphill")
    usual: float = Field(0.98, gt=0, lt=1, description="Share of a class's test images with a larger loss")
    p_value: float = Field(1e-5, gt=0, lt=1, description="Corrected over classes; a class is suspected below it")
    trains: ClassVar[bool] = True

    def look(self, seen: Seen, progress: Progress = silent) -> Check:
        """More of a class have so small a loss than of its test images."""
        data = seen.dataset
        own, tested = early_losses(data, seen.training, self.steps, self.floor, progress)
        found = beyond(-own, data.y_train, -tested, data.y_test, self.usual, self.p_value)
        return _check(self.name, found, self.p_value, "are learned before its test images")


def _check(name: str, found: Apart, p_value: float, how: str) -> Check:
    facts = {"p_value": found.p_value, "label": float(found.label), "suspects": float(len(found.rows))}
    if found.label < 0:
        return Check(name, False, found.rows, facts, "no class has enough training and test images")
    says = f"class {found.label} is the clearest, p = {found.p_value:.2g}, corrected"
    alarm = found.p_value < p_value
    return Check(name, alarm, found.rows, facts, f"{len(found.rows):,} images {how}; {says}" if alarm else says)


INSPECTIONS = Registry(
    "inspection",
    Inspection,
    ClassBalance,
    Duplicates,
    ContradictedLabels,
    SharedWindows,
    Spectral,
    ActivationClusters,
    Isolation,
)
inspection, parse = INSPECTIONS.make, INSPECTIONS.parse
if TYPE_CHECKING:
    AnyInspection = Inspection
else:
    AnyInspection = INSPECTIONS.annotation
EVERY: tuple[Inspection, ...] = tuple(kind(name=name) for name, kind in INSPECTIONS.items())


def inspect(inspections: Sequence[Inspection], seen: Seen, progress: Progress = silent) -> list[Check]:
    """Every inspection in turn: a minute for MNIST's 60,000 on one core, and two trainings where they need them."""
    found = []
    for number, one in enumerate(inspections):
        progress(one.name, number / len(inspections))
        found.append(one.look(seen, part(progress, number / len(inspections), (number + 1) / len(inspections))))
    return found
