"""Every defense, and DEFENSES."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from gauntlet.attacks import Fgsm, Library, parse_declaration
from gauntlet.autoencoder import Autoencoder, Sampling, behind
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
    library: Library = Field("art", description="Whose FGSM makes the images")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The baseline's FGSM images beside the clean ones, then an ordinary fit."""
        from gauntlet.evaluation import craft

        started = time.perf_counter()
        clean, attacked = self._choose(len(dataset.x_train), training.seed)
        x, y = dataset.x_train, dataset.y_train
        step = part(progress, 0, 0.2)
        fgsm = Fgsm(library=self.library)
        images = craft(baseline, fgsm, x[attacked], y[attacked], self.budget(dataset), training.seed, step)
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


class VaeReconstruction(Defense):
    """Show the baseline a variational autoencoder's reconstruction of each image (as MagNet, Meng & Chen 2017).

    The autoencoder sees clean training images only; squared error summed over pixels plus the divergence. What comes
    out is one model, attacked through the autoencoder: against attacks that leave it out such a defense looks far
    stronger than it is (Carlini & Wagner 2017, "MagNet and Efficient Defenses ... are Not Robust").
    """

    name: Literal["vae-reconstruction"] = "vae-reconstruction"
    hidden: int = Field(400, ge=1, le=10_000, description="Width of the layer on either side of the code")
    latent: int = Field(20, ge=1, le=1_000, description="Numbers in the code")
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes; ten for each of the classifier's")
    batch_size: int = Field(128, ge=1, le=65_536, description="Images a step")
    learning_rate: float = Field(1e-3, gt=0, description="Of Adam")
    kl_weight: float = Field(1.0, ge=0, description="Weight of the divergence against the squared error of an image")
    sampling: Sampling = Field("mean", description="Decode the code's mean, or average over drawn codes")
    samples: int = Field(10, ge=1, le=1_000, description="Drawn codes; average only")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The baseline behind an autoencoder; the seconds are the autoencoder's: the baseline is there already."""
        import keras

        started = time.perf_counter()
        keras.utils.set_random_seed(training.seed)
        network = Autoencoder(dataset.input_shape, self.hidden, self.latent)
        history = network.fit(
            dataset.x_train,
            epochs=self.passes(training, len(dataset.x_train)),
            **self.model_dump(include={"batch_size", "learning_rate", "kl_weight"}),
            seed=training.seed,
            progress=progress,
        )
        reconstruction = network.reconstruction(self.sampling, self.samples, training.seed)
        return Trained(behind(reconstruction, baseline.model), history, time.perf_counter() - started)

    def passes(self, training: Training, n_train: int) -> int:
        """The epochs, filled in: a step of dense layers costs a tenth of one of the classifier's."""
        return self.epochs or 10 * (training.resolved(n_train).epochs or 1)


DEFENSES: dict[str, type[Defense]] = {
    kind.model_fields["name"].default: kind for kind in (AdversarialTraining, OnTheFly, VaeReconstruction)
}


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,...` to the settings of a defense; anything but text passes unchanged."""
    return parse_declaration(text, DEFENSES, "defense")


_Declared = Annotated[AdversarialTraining | OnTheFly | VaeReconstruction, Field(discriminator="name")]
AnyDefense = Annotated[_Declared, BeforeValidator(parse, json_schema_input_type=_Declared | str)]


def defense(settings: str | dict[str, Any]) -> Defense:
    """The defense of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Defense = TypeAdapter(AnyDefense).validate_python(settings)
    return checked
