"""What attacks did to images: per attack, and the worst case over attacks.

ART's `compute_success_array` and `adversarial_accuracy` use other denominators; ours are defined only here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack
from gauntlet.attacks.base import labels_of
from gauntlet.evaluation.clean import share
from gauntlet.measurement import Measurement
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import pandas as pd

Knowledge = Literal["white-box", "black-box", "transfer"]


@dataclass(frozen=True)
class Attacked:
    """What one attack at one budget left of the images `index`.

    In a cascade an attack tries only what the ones before it left correct (`tried`): what is told of the other images
    is what those did to them, so that `robust` is correct after this attack and all before it.
    """

    attack: Attack
    eps: float
    knowledge: Knowledge
    index: NDArray[np.int64]
    """Positions in the test set, (n,): results of several attacks are paired by it."""
    labels: Labels
    clean_predictions: Labels
    predictions: Labels
    tried: NDArray[np.bool_]
    calls: NDArray[np.int64]
    """Gradients or queries that each image took, (n,)."""
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    losses: NDArray[np.float64]
    """Cross-entropy of each attacked image with its true label, in nats."""
    distance: NDArray[np.float64] | None
    """Of an attack for the smallest perturbation: its norm, infinite where none was found; else None."""
    seconds: float
    """Spent on making the images; 0 when they were made before."""
    images: Images = field(repr=False)
    """The attacked images of the first rows: all of them when they are to be kept."""
    label: str = ""
    """How the attack is called among those of its battery; its name where empty."""

    @property
    def named(self) -> str:
        """How the attack is called in tables, charts and conditions."""
        return self.label or self.attack.name

    @cached_property
    def robust(self) -> NDArray[np.bool_]:
        """Correct clean **and** attacked, (n,)."""
        return (self.clean_predictions == self.labels) & (self.predictions == self.labels)

    @property
    def alone(self) -> bool:
        """Whether the attack tried every image, so that its accuracy is its own."""
        return bool(self.tried.all())

    @property
    def mean_calls(self) -> float:
        """Gradients or queries per image tried; 0 when none was."""
        return float(self.calls[self.tried].mean()) if self.tried.any() else 0.0

    @property
    def broken(self) -> NDArray[np.bool_]:
        """Which images this very attack made wrong, (n,)."""
        return self.tried & (self.clean_predictions == self.labels) & ~self.robust

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Of the images that can be fooled, which were: of the correct ones, less those of the target's class."""
        target = getattr(self.attack, "target", None)
        correct = self.clean_predictions == self.labels
        if target is None:
            return ~self.robust[correct]
        return self.predictions[correct & (self.labels != target)] == target

    def facts(self, model: str) -> dict[str, Any]:
        """What describes this result in a measurement."""
        knowledge = self.knowledge if self.attack.adversary else "none"
        return {"model": model, "condition": self.named, "knowledge": knowledge} | {
            "eps": self.eps,
            "norm": self.attack.norm,
        }

    def accuracy(self, model: str) -> Measurement:
        """Robust accuracy: over all images."""
        return share(self.robust, **self.facts(model))

    def success_rate(self, model: str) -> Measurement | None:
        """Attack success rate: over the images that can be fooled; None when there are none."""
        return None if not len(self.fooled) else share(self.fooled, metric="attack_success_rate", **self.facts(model))

    def frame(self) -> pd.DataFrame:
        """One row an image: the outcomes that every later statistic comes from."""
        import pandas as pd

        facts: dict[str, Any] = {
            "attack": self.named,
            "eps": self.eps,
            "norm": self.attack.norm,
            "knowledge": self.knowledge,
        }
        facts |= {"attack_id": self.attack.id}
        columns: dict[str, Any] = {
            "index": self.index,
            "label": self.labels,
            "clean_prediction": self.clean_predictions,
            "prediction": self.predictions,
            "correct": self.robust,
            "tried": self.tried,
            "broken": self.broken,
            "calls": self.calls,
            "linf": self.linf,
            "l2": self.l2,
            "distance": np.full(len(self.index), np.nan) if self.distance is None else self.distance,
        }
        return pd.DataFrame(columns | facts)


def labelled(results: Sequence[Attacked]) -> list[Attacked]:
    """The results, each called so that no two settings of one attack share a name."""
    labels = labels_of([result.attack for result in results])
    return [replace(result, label=labels[result.attack]) for result in results]


@dataclass(frozen=True)
class WorstCase:
    """Per image the worst over attacks of one norm at one budget; over the images that all of them saw."""

    norm: str
    eps: float
    attacks: tuple[str, ...]
    index: NDArray[np.int64]
    robust: NDArray[np.bool_]
    knowledge: Knowledge = "white-box"

    def accuracy(self, model: str) -> Measurement:
        """Mean over images of the minimum over attacks: never the minimum of means."""
        facts = {"knowledge": self.knowledge, "eps": self.eps, "norm": self.norm}
        return share(self.robust, model=model, condition="worst case", **facts)


def worst_case(results: Sequence[Attacked]) -> list[WorstCase]:
    """The worst case of every norm and budget that was attacked, but for transfers, in order of the budgets."""
    groups: dict[tuple[str, float], list[Attacked]] = {}
    for result in results:
        if result.attack.adversary and result.knowledge != "transfer":
            groups.setdefault((result.attack.norm, result.eps), []).append(result)
    cases = [_worst(norm, eps, group) for (norm, eps), group in sorted(groups.items(), key=lambda item: item[0])]
    return [case for case in cases if len(case.index)]


def _worst(norm: str, eps: float, group: list[Attacked]) -> WorstCase:
    common = np.unique(group[0].index)
    for other in group[1:]:
        common = np.intersect1d(common, other.index, assume_unique=True)
    robust = np.ones(len(common), bool)
    for result in group:
        robust &= result.robust[np.intersect1d(common, result.index, return_indices=True)[2]]
    names = tuple(dict.fromkeys(result.named for result in group))
    return WorstCase(norm, eps, names, common, robust, group[0].knowledge)
