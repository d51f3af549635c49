"""Defenses against a backdoor that train again with another loss: anti-backdoor learning, attention distillation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.backdoor.suspects import early_losses
from gauntlet.defenses.base import Defense
from gauntlet.defenses.mending import convolutions, copied, finetuned
from gauntlet.errors import ModelError
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import Images, Labels
from gauntlet.training.fit import Trained, Training, train

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier


class AntiBackdoorLearning(Defense):
    """Train again without what was learned first, then unlearn that (Li et al. 2021, *Anti-Backdoor Learning*).

    Images with a trigger are learned in the first steps, whose loss is kept from falling below `floor`, so that the
    poison alone lies under it (section 3.2). The images of the smallest loss are set aside. The model is trained on the
    others, and then on both: downhill on the others, uphill on those set aside (equation 4), until it knows no more of
    them than chance.
    """

    name: Literal["anti-backdoor-learning"] = "anti-backdoor-learning"
    mends: ClassVar[bool] = True
    isolated: float = Field(0.01, gt=0, lt=0.5, description="Share of the training set that is set aside")
    steps: int = Field(200, ge=1, description="Gradient steps before images are set aside")
    floor: float = Field(
        0.0, ge=0, description="Mean cross-entropy in nats below which these steps go uphill; 0: never"
    )
    share: float = Field(0.2, gt=0, le=1, description="Of the unlearning's images that are among those set aside")
    epochs: int = Field(1, ge=1, le=1_000, description="Passes of the unlearning")
    learning_rate: float = Field(1e-3, gt=0, description="Of the unlearning's Adam")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The data set is taken for poisoned; the baseline's weights are not used."""
        started, (x, y) = time.perf_counter(), (dataset.x_train, dataset.y_train)
        whole = training.resolved(len(x))
        early, _ = early_losses(dataset, whole, self.steps, self.floor, part(progress, 0, 0.2))
        aside = np.argsort(early, kind="stable")[: max(1, round(self.isolated * len(x)))]
        rest = np.setdiff1d(np.arange(len(x)), aside)
        trained = train(dataset, training, x=x[rest], y=y[rest], progress=part(progress, 0.2, 0.8))
        again = np.resize(aside, max(1, round(self.share * len(x))))
        x, y = np.concatenate([x[rest], x[again]]), np.concatenate([y[rest], UPHILL - y[again]])
        last = part(progress, 0.8, 1)
        finetuned(trained.model, x, y, self.epochs, self.learning_rate, whole, loss=unlearned, progress=last)
        return Trained(trained.model, trained.history, time.perf_counter() - started)


class AttentionDistillation(Defense):
    """Fine-tune towards the attention of a fine-tuned copy of itself (Li et al. 2021, *Neural Attention Distillation*).

    The teacher is the model after a fine-tuning on clean images. The student is fine-tuned on the same images; where
    its convolutions are active (mean square over channels, normalised) is drawn to where the teacher's are.
    """

    name: Literal["attention-distillation"] = "attention-distillation"
    mends: ClassVar[bool] = True
    images: int = Field(3_000, ge=10, description="Clean training images used")
    epochs: int = Field(20, ge=1, le=1_000, description="Passes of the teacher's and of the student's fine-tuning")
    learning_rate: float = Field(5e-3, gt=0, description="Of the Adam of both")
    weight: float = Field(500.0, ge=0, description="Of the attention's squared distance beside the cross-entropy")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """Teacher first, then the student, on the data set's training images, which are taken for clean."""
        started = time.perf_counter()
        rows = np.random.default_rng(training.seed).permutation(len(dataset.x_train))[: self.images]
        x, y = dataset.x_train[rows], dataset.y_train[rows]
        teacher, model = copied(baseline.model), copied(baseline.model)
        finetuned(teacher, x, y, self.epochs, self.learning_rate, training, progress=part(progress, 0, 0.5))
        history = self._distil(model, teacher, x, y, training, part(progress, 0.5, 1))
        return Trained(model, history, time.perf_counter() - started)

    def _distil(
        self, model: keras.Model, teacher: keras.Model, x: Images, y: Labels, training: Training, progress: Progress
    ) -> dict[str, list[float]]:
        import keras

        maps = attentions(teacher).predict(x, batch_size=512, verbose=0)
        attended = attentions(model)
        both = keras.Model(model.inputs, [*model.outputs, *attended.outputs])
        losses = [keras.losses.SparseCategoricalCrossentropy(from_logits=True), *["mse"] * len(attended.outputs)]
        sizes = [int(np.prod(one.shape[1:])) for one in attended.outputs]
        weights = [1.0, *(self.weight * size for size in sizes)]
        targets = [y, *(maps if isinstance(maps, list) else [maps])]
        return finetuned(
            both, x, targets, self.epochs, self.learning_rate, training, loss=losses, weights=weights, progress=progress
        )


def attentions(model: keras.Model) -> keras.Model:
    """Images to where each convolution is active: per image a map of length 1 for each (section 3.2)."""
    import keras

    ops, layers = keras.ops, [layer for layer in convolutions(model) if layer in model.layers]
    if not layers:
        raise ModelError("attention-distillation needs convolutions that are not in a nested model", where="model")
    squares = [ops.mean(ops.square(layer.output), axis=-1) for layer in layers]
    flat = [ops.reshape(one, (-1, int(np.prod(one.shape[1:])))) for one in squares]
    return keras.Model(model.inputs, [ops.normalize(one, axis=-1) for one in flat])


UPHILL = -1
"""Less the class: how the label of an image that is to be unlearned is written."""


def unlearned(y: Any, logits: Any) -> Any:
    """Cross-entropy in nats, (n,); of a class that is written as `UPHILL` less it, the negative, down to chance's."""
    import keras

    ops, up = keras.ops, y < 0
    own = ops.where(up, UPHILL - y, y)
    each = keras.losses.sparse_categorical_crossentropy(own, logits, from_logits=True)
    chance = float(np.log(logits.shape[-1]))
    return ops.where(ops.reshape(up, (-1,)), -ops.minimum(each, chance), each)
