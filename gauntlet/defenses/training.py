"""Every defense, and DEFENSES."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gauntlet.attacks import Attack, Fgsm, Library
from gauntlet.declare import Registry
from gauntlet.defenses.autoencoder import Autoencoder, Sampling, behind
from gauntlet.defenses.base import Attacked, Defense
from gauntlet.defenses.interval import IbpTraining
from gauntlet.defenses.mending import FinePruning, Unlearning, WithoutSuspects
from gauntlet.defenses.relearning import AntiBackdoorLearning, AttentionDistillation
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import Images, Labels
from gauntlet.training.fit import Trained, Training, train

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.training.fit import Perturb


class AdversarialTraining(Attacked):
    """Train a new model on clean and FGSM images made once, against the baseline (Goodfellow et al. 2015, section 6).

    A static mix: the images transfer from a model that is not the one defended, so it must be attacked white-box.
    """

    name: Literal["adversarial-training"] = "adversarial-training"
    ratio: float = Field(1.0, gt=0, le=100, description="Adversarial images for each clean one; 1 is the classical mix")
    library: Library = Field("art", description="Whose FGSM makes the images")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """The baseline's FGSM images beside the clean ones, then an ordinary fit."""
        started = time.perf_counter()
        clean, attacked = self._choose(len(dataset.x_train), training.seed)
        x, y = dataset.x_train, dataset.y_train
        step = part(progress, 0, 0.2)
        fgsm = Fgsm(library=self.library)
        images = _crafted(fgsm, baseline, x[attacked], y[attacked], self.budget(dataset), training.seed, step)
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


def _crafted(
    attack: Attack, model: CompiledClassifier, x: Images, y: Labels, eps: float, seed: int, progress: Progress
) -> Images:
    """Attacked images of all of `x`, a few thousand at a time, so that progress can be told."""
    made, size = [], 4_096
    for start in range(0, len(x), size):
        rows = np.arange(start, min(start + size, len(x)))
        made.append(attack.run(model, x[rows], y[rows], eps, seed, rows).images)
        progress(f"{attack.name} images", (rows[-1] + 1) / len(x))
    return np.concatenate(made)


class OnTheFly(Attacked):
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
    return _attacked_share(share, lambda gradient, x, y: _clipped(x + eps * _sign(gradient(x, y)), bounds))


def pgd_step(eps: float, share: float, bounds: tuple[float, float], steps: int) -> Perturb:
    """The same with PGD images from a random start."""

    def attack(gradient: Any, x: Any, y: Any) -> Any:
        import tensorflow as tf

        images = _clipped(x + tf.random.uniform(tf.shape(x), -eps, eps), bounds)
        for _ in range(steps):
            images = images + 2.5 * eps / steps * _sign(gradient(images, y))
            images = _clipped(tf.clip_by_value(images, x - eps, x + eps), bounds)
        return images

    return _attacked_share(share, attack)


def _attacked_share(share: float, attack: Callable[[Any, Any, Any], Any]) -> Perturb:
    """Attack the last `share` of every batch; `attack(gradient, images, labels)` gives the new images."""

    def perturb(network: Any, x: Any, y: Any) -> Any:
        import tensorflow as tf

        def gradient(images: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(images)
                logits = network(images, training=False)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int64), logits)
            return tape.gradient(loss, images)

        kept = tf.cast(tf.round((1 - share) * tf.cast(tf.shape(x)[0], tf.float32)), tf.int32)
        return tf.stop_gradient(tf.concat([x[:kept], attack(gradient, x[kept:], y[kept:])], axis=0))

    return perturb


def _sign(gradient: Any) -> Any:
    import tensorflow as tf

    return tf.sign(gradient)


def _clipped(images: Any, bounds: tuple[float, float]) -> Any:
    import tensorflow as tf

    return tf.clip_by_value(images, *bounds)


class PgdTraining(Attacked):
    """Train on PGD images against the current weights (Madry et al. 2018, section 2.1 and table 6)."""

    name: Literal["pgd-training"] = "pgd-training"
    max_iter: int = Field(7, ge=1, le=1_000, description="Gradient steps, of 2.5 eps / max_iter, from a random start")
    share: float = Field(1.0, gt=0, le=1, description="Attacked share of every batch")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """One fit, from the baseline's weights where they fit: from fresh ones, large budgets may stay at chance."""
        perturb = pgd_step(self.budget(dataset), self.share, dataset.bounds, self.max_iter)
        return train(dataset, training, perturb=perturb, start=baseline.model, progress=progress)


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


DEFENSES = Registry(
    "defense",
    Defense,
    AdversarialTraining,
    OnTheFly,
    PgdTraining,
    IbpTraining,
    VaeReconstruction,
    FinePruning,
    Unlearning,
    WithoutSuspects,
    AntiBackdoorLearning,
    AttentionDistillation,
)
defense, parse = DEFENSES.make, DEFENSES.parse
if TYPE_CHECKING:
    AnyDefense = Defense
else:
    AnyDefense = DEFENSES.annotation
