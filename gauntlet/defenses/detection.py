"""Every detector of anomalous images, DETECTORS, and what a detector is worth: scores in, ROC out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from gauntlet.declare import parse_declaration
from gauntlet.errors import SettingError
from gauntlet.measurement import wilson
from gauntlet.progress import Progress, silent
from gauntlet.threat import Images
from gauntlet.training.fit import usual_epochs
from gauntlet.training.loop import run_epochs

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.training.loop import Step

Scores = NDArray[np.float64]
CHUNK = 1_024
"""Images scored at once."""


# --- detectors ----------------------------------------------------------------------------------------------


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
        found = np.concatenate([np.zeros(0), *parts]).astype(np.float64)
        _check_finite(found)
        return found


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


DETECTORS: dict[str, type[Detector]] = {kind.model_fields["name"].default: kind for kind in (GanDiscriminator,)}


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,...` to the settings of a detector; anything but text passes unchanged."""
    return parse_declaration(text, DETECTORS, "detector")


_Declared = GanDiscriminator  # a union with discriminator="name", as in attacks.py, once there are two
AnyDetector = Annotated[_Declared, BeforeValidator(parse, json_schema_input_type=_Declared | str)]
"""A detector's settings, or text such as `gan-discriminator:epochs=20`."""


def detector(settings: str | dict[str, Any]) -> Detector:
    """The detector of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Detector = TypeAdapter(AnyDetector).validate_python(settings)
    return checked


# --- what a detector is worth -------------------------------------------------------------------------------


class Rate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Detection:
    """How well scores tell attacked images from clean ones: attacked is positive, flagged is above a threshold."""

    fpr: NDArray[np.float64] = field(repr=False)
    """False positive rates of the ROC curve, ascending; `tpr` are the true positive rates."""
    tpr: NDArray[np.float64] = field(repr=False)
    auc: Rate
    tpr_at_fpr_1: Rate
    """The largest true positive rate of any threshold that flags at most 1 % of the clean images."""
    tpr_at_fpr_5: Rate
    threshold: float
    tpr_at_threshold: Rate
    fpr_at_threshold: Rate
    n_clean: int
    n_attacked: int


def evaluate_detector(scores_clean: Scores, scores_attacked: Scores, threshold: float) -> Detection:
    """ROC, area, and rates at fixed points of scores (n,), (m,); `SettingError` when empty or not finite.

    Rates carry Wilson intervals. The area is that of scikit-learn, ties counting half.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    for scores in (scores_clean, scores_attacked):
        _check_finite(scores)
    n, m = len(scores_clean), len(scores_attacked)
    if not n or not m:
        raise SettingError(f"scores of {n} clean and {m} attacked images, expected some of each", where="scores")
    truth, scores = np.repeat([0, 1], [n, m]), np.concatenate([scores_clean, scores_attacked])
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    reached = [rate(tpr[fpr <= level + 1e-12].max() * m, m) for level in (0.01, 0.05)]
    return Detection(
        fpr=fpr,
        tpr=tpr,
        auc=area(float(roc_auc_score(truth, scores)), n, m),
        tpr_at_fpr_1=reached[0],
        tpr_at_fpr_5=reached[1],
        threshold=threshold,
        tpr_at_threshold=rate((scores_attacked > threshold).sum(), m),
        fpr_at_threshold=rate((scores_clean > threshold).sum(), n),
        n_clean=n,
        n_attacked=m,
    )


def area(auc: float, n: int, m: int, z: float = 1.959964) -> Rate:
    """An area under the ROC curve of `n` negatives and `m` positives with its 95 % interval.

    The standard error is Hanley & McNeil's (Radiology 143, 1982, 29-36), solved for the areas that lie `z` of their
    own errors away (Newcombe, Stat. Med. 25, 2006, 559-573, method 5), so that at 0 and 1 an interval remains.
    It takes the two samples for independent; an image and its attacked self are not, which makes it cautious.
    """
    from scipy.optimize import brentq

    spare = (n + m) / 2 - 1

    def beyond(t: float) -> float:
        variance = t * (1 - t) * (1 + spare * (1 - t) / (2 - t) + spare * t / (1 + t)) / (n * m)
        return (t - auc) ** 2 - z**2 * variance

    inner = 1e-9  # at 0 and 1 the equation has a second root, the end itself
    low = float(brentq(beyond, 0.0, min(auc, 1 - inner))) if auc > inner else 0.0
    high = float(brentq(beyond, max(auc, inner), 1.0)) if auc < 1 - inner else 1.0
    return Rate(auc, low, high)


@dataclass(frozen=True)
class Service:
    """What flagging costs on clean images: a rejected image gets no answer."""

    accuracy: Rate
    """Answered and right, of all images."""
    accuracy_accepted: Rate | None
    """Right, of the images that were answered; None when all were rejected."""
    rejected: int
    n: int


def after_rejection(scores_clean: Scores, correct: NDArray[np.bool_], threshold: float) -> Service:
    """Accuracy on clean images, scores (n,) and correctness (n,), once those above `threshold` are rejected."""
    accepted = scores_clean <= threshold
    right, answered, n = (accepted & correct).sum(), int(accepted.sum()), len(correct)
    return Service(rate(right, n), rate(right, answered) if answered else None, n - answered, n)


def rate(count: Any, n: int) -> Rate:
    """The share of `count` in `n` with its Wilson interval."""
    successes = round(float(count))
    return Rate(successes / n, *wilson(successes, n))


def _check_finite(scores: Scores) -> None:
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise SettingError(f"{bad} of {len(scores)} scores are not finite", where="scores", fix="lower learning_rate")
