"""Model extraction: a copy trained on a victim's answers, and how often it answers the same.

Ours instead of ART's `KnockoffNets` and `CopycatCNN`: those take the victim's raw predictions, here logits, for
probabilities, and train through a `fit` that compiles again at every call.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from gauntlet.errors import SettingError
from gauntlet.models.access import Access, Target
from gauntlet.models.architectures import ARCHITECTURES
from gauntlet.privacy.theft import Theft, TheftResult
from gauntlet.progress import Progress, part, silent
from gauntlet.roc import Rate, rate
from gauntlet.threat import Images, Labels
from gauntlet.training.fit import Training, train, usual_epochs

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset


class _Split(NamedTuple):
    """The test set in two: images that the attacker may have, and those that the copy is compared on."""

    x: Images
    y: Labels
    x_held: Images
    y_held: Labels


class Extraction(Theft):
    """Shared by the thefts of a model: which queries are made, and what is trained on the answers."""

    headline: ClassVar[str] = "fidelity"

    pool: Literal["images", "noise"] = Field(
        "images", description="images: like the victim's, half of the test set; noise: uniform, from nothing"
    )
    queries: int | None = Field(
        None, ge=10, le=1_000_000, description="Images asked about; half of the test set when not given"
    )
    architecture: Literal[tuple(ARCHITECTURES)] = Field("cnn3x3", description="Network of the copy")  # type: ignore[valid-type]
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes over the answers; at most 15 by itself")
    batch_size: int = Field(32, ge=1, le=65_536, description="Images a step")

    def check(self, dataset: Dataset, n: int | None) -> None:
        """Images to ask about, and others to compare on."""
        self._wanted(_split(dataset, n, 0))

    @abstractmethod
    def answers(self, victim: Target, x: Images) -> Labels | Images:
        """The victim's answers to images (n, h, w, c): classes (n,) or probabilities (n, n_classes)."""

    def run(
        self, victim: Target, dataset: Dataset, n: int | None, seed: int, progress: Progress = silent
    ) -> TheftResult:
        """Fidelity: the share of held-out test images, `n` of the second half, on which copy and victim agree.

        Two floors stand beside it: of a model trained on as many images with their true labels (at most half of
        the test set), which stole nothing; and of always saying the victim's most frequent class.
        """
        split = _split(dataset, n, seed)
        queries = self._queries(split, seed)
        copy = self._trained(dataset, queries, self.answers(victim, queries), seed, part(progress, 0, 0.5))
        labelled = min(len(queries), len(split.x))
        own = self._trained(dataset, split.x[:labelled], split.y[:labelled], seed, part(progress, 0.5, 1))
        said = victim.labels(split.x_held)
        rates = {
            "fidelity": _agreement(copy.labels(split.x_held), said),
            "fidelity_floor": _agreement(own.labels(split.x_held), said),
            "fidelity_majority": rate(np.bincount(said).max(), len(said)),
            "copy_accuracy": _agreement(copy.labels(split.x_held), split.y_held),
            "victim_accuracy": _agreement(said, split.y_held),
        }
        return TheftResult(self, rates, {"queries": len(queries), "labelled": labelled, "held_out": len(said)})

    def _queries(self, split: _Split, seed: int) -> Images:
        wanted = self._wanted(split)
        if self.pool == "noise":
            return np.random.default_rng([seed, 1]).random((wanted, *split.x.shape[1:]), dtype=np.float32)
        return split.x[:wanted]

    def _wanted(self, split: _Split) -> int:
        wanted = self.queries or len(split.x)
        if self.pool == "images" and wanted > len(split.x):
            what = f"{wanted:,} asked for, half of the test set has {len(split.x):,}"
            raise SettingError(what, where=f"{self.name}:queries", fix="ask for fewer, or pool=noise")
        return wanted

    def _trained(self, dataset: Dataset, x: Images, y: Labels | Images, seed: int, progress: Progress) -> Target:
        from gauntlet.models.classifier import CompiledClassifier

        settings = Training(
            architecture=self.architecture,
            epochs=self.epochs or usual_epochs(len(x)),
            batch_size=self.batch_size,
            validation_share=0.0,
            seed=seed,
        )
        return CompiledClassifier(train(dataset, settings, x=x, y=y, progress=progress).model, dataset.bounds)


class ExtractionCopycat(Extraction):
    """A copy of classes alone (Correia-Silva et al., Copycat CNN, IJCNN 2018)."""

    name: Literal["extraction-copycat"] = "extraction-copycat"
    needs: ClassVar[Access] = "labels"
    knows: ClassVar[str] = "predicted classes of its own images"

    def answers(self, victim: Target, x: Images) -> Labels:
        """Predicted classes (n,)."""
        return victim.labels(x)


class ExtractionKnockoff(Extraction):
    """A copy of probabilities (Orekondy, Schiele, Fritz, Knockoff Nets, CVPR 2019), asked at random."""

    name: Literal["extraction-knockoff"] = "extraction-knockoff"
    needs: ClassVar[Access] = "scores"
    knows: ClassVar[str] = "probabilities of its own images"

    def answers(self, victim: Target, x: Images) -> Images:
        """Probabilities (n, n_classes)."""
        from scipy.special import softmax

        return softmax(victim.predict(x).astype(np.float64), axis=1).astype(np.float32)


def _split(dataset: Dataset, n: int | None, seed: int) -> _Split:
    order = np.random.default_rng(seed).permutation(len(dataset.x_test))
    half = len(order) // 2
    pool, held = order[:half], order[half:]
    if n is not None and not 1 <= n <= len(held):
        what = f"{n} images asked for, the half of {dataset.name} that copies are compared on has {len(held)}"
        raise SettingError(what, where="n", fix=f"give a whole number from 1 to {len(held)}")
    held = held[:n]
    return _Split(dataset.x_test[pool], dataset.y_test[pool], dataset.x_test[held], dataset.y_test[held])


def _agreement(first: Labels, second: Labels) -> Rate:
    return rate((first == second).sum(), len(first))
