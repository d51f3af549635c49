"""Every detector of anomalous images, DETECTORS: fitted to clean images, it scores any."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.declare import Registry
from gauntlet.progress import Progress, silent
from gauntlet.roc import Scores, check_finite
from gauntlet.threat import Images
from gauntlet.training.fit import usual_epochs
from gauntlet.training.loop import run_epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.training.loop import Step

CHUNK = 1_024
"""Images scored at once."""


@dataclass(frozen=True)
class FittedDetector:
    """A detector that has seen clean images, and what fitting it took."""

    score: Callable[[Images], Scores] = field(repr=False)
    threshold: float
    """An image whose score is above it is flagged."""
    history: dict[str, list[float]]
    """Losses, one value an epoch."""
    seconds: float

    def scores(self, x: Images) -> Scores:
        """How anomalous each image of `x` (n, h, w, c) is, float64 (n,); `SettingError` when one is not finite."""
        parts = [self.score(x[start : start + CHUNK]) for start in range(0, len(x), CHUNK)]
        scores = np.concatenate([np.zeros(0), *parts]).astype(np.float64)
        check_finite(scores)
        return scores


class Detector(BaseModel, ABC):
    """Settings of a detector; it is fitted to clean images and knows of no attack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str

    @abstractmethod
    def fit(self, dataset: Dataset, seed: int, progress: Progress = silent) -> FittedDetector:
        """Fit to the data set's training images; the same seed gives the same scores."""


class GanDiscriminator(Detector):
    """The discriminator of a generative adversarial network; flags what it takes for generated.

    Goodfellow et al. 2014 (algorithm 1, the non-saturating loss of section 3), Adam as in Radford et al. 2016.
    Two dense networks: the discriminator learns to tell the generator's images, never attacked ones, so that it
    separates attacks well is to be measured and not to be expected.
    """

    name: Literal["gan-discriminator"] = "gan-discriminator"
    latent: int = Field(100, ge=1, le=10_000, description="Numbers that an image is generated from")
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes; 6 for 60,000 images, at most 30 for fewer")
    batch_size: int = Field(128, ge=2, le=65_536, description="Images a step, real and generated each")
    learning_rate: float = Field(2e-4, gt=0, description="Of Adam, for both networks")
    beta1: float = Field(0.5, ge=0, lt=1, description="Of Adam, for both networks")
    threshold: float = Field(0.5, gt=0, lt=1, description="An image less probably real than this is flagged")

    def fit(self, dataset: Dataset, seed: int, progress: Progress = silent) -> FittedDetector:
        """Train both networks; the score is one minus the probability that an image is real."""
        import keras
        from scipy.special import expit

        started = time.perf_counter()
        keras.utils.set_random_seed(seed)
        generator, discriminator = _generator(self.latent, dataset.input_shape), _discriminator(dataset.input_shape)
        step = _gan_step(generator, discriminator, self.latent, lambda: self._optimizer())
        epochs = self.epochs or 2 * usual_epochs(len(dataset.x_train))
        settings: dict[str, Any] = {"batch_size": self.batch_size, "seed": seed, "progress": progress}
        history = run_epochs(step, dataset.x_train, epochs=epochs, **settings)

        def score(x: Images) -> Scores:
            # From the logit: one minus a probability near one would lose the order of the surest images.
            logits = np.asarray(discriminator(x, training=False), np.float64)
            return np.asarray(expit(-logits[:, 0]))

        return FittedDetector(score, 1 - self.threshold, history, time.perf_counter() - started)

    def _optimizer(self) -> keras.optimizers.Optimizer:
        import keras

        return keras.optimizers.Adam(self.learning_rate, beta_1=self.beta1)


def _generator(latent: int, input_shape: tuple[int, int, int]) -> keras.Model:
    """Codes (n, latent) to images (n, *input_shape) in [0, 1]."""
    import keras
    from keras import layers as nn

    hidden = [nn.Dense(width, activation="leaky_relu") for width in (256, 512)]
    pixels = nn.Dense(int(np.prod(input_shape)), activation="sigmoid")
    return keras.Sequential([keras.Input((latent,)), *hidden, pixels, nn.Reshape(input_shape)])


def _discriminator(input_shape: tuple[int, int, int]) -> keras.Model:
    """Images (n, *input_shape) to the logit of being real, (n, 1)."""
    import keras
    from keras import layers as nn

    hidden = [nn.Dense(width, activation="leaky_relu") for width in (512, 256)]
    return keras.Sequential([keras.Input(input_shape), nn.Flatten(), *hidden, nn.Dense(1)])


def _gan_step(generator: Any, discriminator: Any, latent: int, optimizer: Callable[[], Any]) -> Step:
    """One compiled step of both networks, on as many generated images as real ones."""
    import tensorflow as tf

    optimizers = [(network, optimizer()) for network in (generator, discriminator)]
    for network, adam in optimizers:
        adam.build(network.trainable_variables)
    images = tf.TensorSpec((None, *discriminator.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[images, tf.TensorSpec((2,), tf.int64)])
    def step(x: Any, seed: Any) -> dict[str, Any]:
        code = tf.random.stateless_normal((tf.shape(x)[0], latent), seed)
        with tf.GradientTape(persistent=True) as tape:
            generated = generator(code, training=True)
            real, fake = discriminator(x, training=True), discriminator(generated, training=True)
            losses = _cross_entropy(fake, 1.0), _cross_entropy(real, 1.0) + _cross_entropy(fake, 0.0)
        gradients = [
            tape.gradient(loss, network.trainable_variables)
            for loss, (network, _) in zip(losses, optimizers, strict=True)
        ]
        for gradient, (network, adam) in zip(gradients, optimizers, strict=True):
            adam.apply(gradient, network.trainable_variables)
        return {"generator_loss": losses[0], "discriminator_loss": losses[1]}

    return step


def _cross_entropy(logits: Any, label: float) -> Any:
    """Mean cross-entropy of logits (n, 1) that all should say `label`."""
    import tensorflow as tf

    labels = tf.fill(tf.shape(logits), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


DETECTORS = Registry("detector", Detector, GanDiscriminator)
detector, parse = DETECTORS.make, DETECTORS.parse
if TYPE_CHECKING:
    AnyDetector = Detector
else:
    AnyDetector = DETECTORS.annotation
    """A detector's settings, or text such as `gan-discriminator:epochs=20`."""
