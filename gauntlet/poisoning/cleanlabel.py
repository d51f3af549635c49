"""Images of the target made hard to learn before they carry the trigger, so that the trigger is what is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from gauntlet.poisoning.base import Rows
from gauntlet.poisoning.squares import Cornered
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.classifier import CompiledClassifier


class CleanLabel(Cornered):
    """The target's images, perturbed by PGD, with a square; they keep their label (Turner et al. 2019, section 3.2).

    The perturbations are made against a network trained on the clean images first. The paper's is trained
    adversarially; this one is not, which costs some success and saves most of the time.
    """

    name: Literal["clean-label"] = "clean-label"
    eps: float = Field(0.3, gt=0, le=1, description="L∞ budget of the perturbations")
    max_iter: int = Field(20, ge=1, le=1_000, description="Gradient steps of PGD")
    epochs: int = Field(2, ge=1, le=1_000, description="Passes of the network that PGD is made against")
    architecture: str = Field("cnn3x3", description="Of that network")

    def victims_of(self, y: Labels, n_classes: int) -> Rows:
        """Images of the target."""
        return np.flatnonzero(y == self.aim(n_classes))

    @property
    def relabels(self) -> bool:
        """They keep their label."""
        return False

    def plant(self, x: Images, y: Labels, index: Rows, seed: int) -> Images:
        """Perturbed, then triggered."""
        from gauntlet.attacks import Pgd

        model = self._surrogate(x, y, seed)
        crafted = Pgd(max_iter=self.max_iter).run(model, x[index], y[index], self.eps, seed, index)
        return self.trigger(np.clip(crafted.images, 0, 1))

    def _surrogate(self, x: Images, y: Labels, seed: int) -> CompiledClassifier:
        import keras

        from gauntlet.models.architectures import architecture
        from gauntlet.models.classifier import CompiledClassifier

        keras.utils.set_random_seed(seed)
        shape: tuple[int, int, int] = x.shape[1:]
        model = architecture(self.architecture).build(shape, int(y.max()) + 1)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, batch_size=128, epochs=self.epochs, verbose=0)
        return CompiledClassifier(model)
