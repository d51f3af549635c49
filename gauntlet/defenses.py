"""Every defense, and DEFENSES."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from gauntlet.attacks import Fgsm, parse_declaration
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import default_budgets
from gauntlet.training import Trained, Training, train

if TYPE_CHECKING:
    from gauntlet.classifier import CompiledClassifier
    from gauntlet.datasets import Dataset
    from gauntlet.training import Perturb


class Defense(BaseModel, ABC):
    """Settings of a defense; it gives a model that stands for itself and is attacked as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str

    @abstractmethod
    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The defended model; its seconds count all that the defense costs, crafting included."""


class _Fgsm(Defense):
    """Shared by the defenses that train on FGSM images."""

    eps: float | None = Field(
        None, gt=0, le=1, description="L∞ budget of the FGSM images; the data set's largest usual one"
    )

    def budget(self, dataset: Dataset) -> float:
        """The budget, filled in."""
        return self.eps or default_budgets("inf", dataset.input_shape[-1])[-1]


class AdversarialTraining(_Fgsm):
    """Train afresh on clean and FGSM images made once, against the baseline (Goodfellow et al. 2015, section 6).

    A static mix: the images transfer from a model that is not the one defended, so it must be attacked white-box.
    """

    name: Literal["adversarial-training"] = "adversarial-training"
    ratio: float = Field(1.0, gt=0, le=100, description="Adversarial images for each clean one; 1 is the classical mix")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The baseline's FGSM images beside the clean ones, then an ordinary fit."""
        import time

        from gauntlet.evaluation import craft

        started = time.perf_counter()
        clean, attacked = self._choose(len(dataset.x_train), training.seed)
        x, y = dataset.x_train, dataset.y_train
        step = part(progress, 0, 0.2)
        images = craft(baseline, Fgsm(), x[attacked], y[attacked], self.budget(dataset), training.seed, step)
        crafting = time.perf_counter() - started
        x, y = np.concatenate([x[clean], images]), np.concatenate([y[clean], y[attacked]])
        trained = train(dataset, training, x=x, y=y, progress=part(progress, 0.2, 1))
        return Trained(trained.model, trained.history, trained.seconds + crafting)

    def _choose(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Which training images are used clean and which attacked: all of the more frequent kind."""
        order = np.random.default_rng(seed).permutation(n)
        fewer = np.sort(order[: max(1, round(n * min(self.ratio, 1 / self.ratio)))])
        every = np.arange(n)
        return (every, fewer) if self.ratio <= 1 else (fewer, every)


class OnTheFly(_Fgsm):
    """Train with a part of every batch replaced by FGSM images against the current weights (Kurakin et al. 2017)."""

    name: Literal["on-the-fly"] = "on-the-fly"
    share: float = Field(0.5, gt=0, le=1, description="Attacked share of every batch")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """One fit, whose batches are attacked inside the compiled step."""
        perturb = fgsm_step(self.budget(dataset), self.share, dataset.bounds)
        return train(dataset, training, perturb=perturb, progress=progress)


def fgsm_step(eps: float, share: float, bounds: tuple[float, float]) -> Perturb:
    """A batch with its last `share` replaced by FGSM images at `eps`, as tensors inside a compiled training step."""

    def perturb(network: Any, x: Any, y: Any) -> Any:
        import tensorflow as tf

        kept = tf.cast(tf.round((1 - share) * tf.cast(tf.shape(x)[0], tf.float32)), tf.int32)
        clean, attacked, labels = x[:kept], x[kept:], y[kept:]
        with tf.GradientTape() as tape:
            tape.watch(attacked)
            logits = network(attacked, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int64), logits)
        step = eps * tf.sign(tape.gradient(loss, attacked))
        return tf.stop_gradient(tf.concat([clean, tf.clip_by_value(attacked + step, *bounds)], axis=0))

    return perturb


DEFENSES: dict[str, type[Defense]] = {
    kind.model_fields["name"].default: kind for kind in (AdversarialTraining, OnTheFly)
}


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,...` to the settings of a defense; anything but text passes unchanged."""
    return parse_declaration(text, DEFENSES, "defense")


_Declared = Annotated[AdversarialTraining | OnTheFly, Field(discriminator="name")]
AnyDefense = Annotated[_Declared, BeforeValidator(parse, json_schema_input_type=_Declared | str)]


def defense(settings: str | dict[str, Any]) -> Defense:
    """The defense of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Defense = TypeAdapter(AnyDefense).validate_python(settings)
    return checked
