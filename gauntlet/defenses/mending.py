"""Defenses that remove a backdoor from a model: pruning, unlearning, training without suspects.

The baseline is the backdoored model. Costs are reported by the same figures as for any defense; the
rest of the backdoor is measured by the trigger's success rate before and after.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.backdoor.features import hidden, layers
from gauntlet.backdoor.inversion import Inversion, invert
from gauntlet.backdoor.suspects import clustered
from gauntlet.defenses.base import Defense
from gauntlet.errors import ModelError
from gauntlet.progress import Progress, part, silent
from gauntlet.training.fit import Trained, Training, train

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier

Repair = Callable[[], None]
"""Called after every epoch of a fine-tuning, to keep what was removed removed."""


class FinePruning(Defense):
    """Remove the channels of the last convolution that clean images use least, then fine-tune (Liu et al. 2018).

    Channels go until the accuracy on clean training images has fallen by `tolerated`; they stay out while fine-tuning.
    """

    name: Literal["fine-pruning"] = "fine-pruning"
    mends: ClassVar[bool] = True
    tolerated: float = Field(0.04, ge=0, lt=1, description="Accuracy on clean images that pruning may cost")
    images: int = Field(2_000, ge=10, description="Training images that activity and accuracy are measured on")
    epochs: int = Field(1, ge=1, le=1_000, description="Passes of the fine-tuning")
    learning_rate: float = Field(1e-3, gt=0, description="Of its Adam")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """Prune, then fine-tune on the data set's training images."""
        started = time.perf_counter()
        model = copied(baseline.model)
        rows = np.random.default_rng(training.seed).permutation(len(dataset.x_train))[: self.images]
        x, y = dataset.x_train[rows], dataset.y_train[rows]
        layer = _last_convolution(model)
        gone = self._prune(model, layer, x, y, part(progress, 0.0, 0.4))
        fitted = dataset.x_train, dataset.y_train
        rest = part(progress, 0.4, 1)
        history = finetuned(
            model, *fitted, self.epochs, self.learning_rate, training, lambda: _silence(layer, gone), rest
        )
        return Trained(model, history, time.perf_counter() - started)

    def _prune(self, model: keras.Model, layer: Any, x: Any, y: Any, progress: Progress) -> np.ndarray:
        """The channels that were silenced, least active first."""
        order = np.argsort(_activity(model, layer, x))
        allowed = _accuracy(model, x, y) - self.tolerated
        whole, gone = layer.get_weights(), order[:0]
        step = max(1, len(order) // 16)
        for end in range(step, len(order), step):
            _silence(layer, order[:end])
            progress(f"pruned {end} of {len(order)} channels", end / len(order))
            if _accuracy(model, x, y) < allowed:
                break
            gone = order[:end]
        layer.set_weights(whole)
        _silence(layer, gone)
        return gone


class Unlearning(Defense):
    """Fine-tune on images that carry the inverted trigger under their true labels (Wang et al. 2019, section VI-B)."""

    name: Literal["unlearning"] = "unlearning"
    mends: ClassVar[bool] = True
    suspect: int | None = Field(None, ge=0, description="Suspected class; that of the smallest patch if not given")
    share: float = Field(0.2, gt=0, le=1, description="Of the images that carry the trigger")
    images: int = Field(10_000, ge=10, description="Training images used")
    steps: int = Field(160, ge=10, le=10_000, description="Gradient steps of the inversion")
    epochs: int = Field(1, ge=1, le=1_000, description="Passes of the fine-tuning")
    learning_rate: float = Field(1e-3, gt=0, description="Of its Adam")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """Invert on training images, plant it, fine-tune."""
        started = time.perf_counter()
        rng = np.random.default_rng(training.seed)
        rows = rng.permutation(len(dataset.x_train))[: self.images]
        x, y = dataset.x_train[rows].copy(), dataset.y_train[rows]
        half = len(x) // 2
        sides = (x[:half], y[:half]), (x[half:], y[half:])
        how = Inversion(steps=self.steps)
        triggers = invert(baseline, "patch", *sides, how, training.seed, part(progress, 0.0, 0.6))
        label = int(triggers.values[:-1].argmin()) if self.suspect is None else self.suspect
        planted = rng.permutation(len(x))[: max(1, round(self.share * len(x)))]
        x[planted] = triggers.show(x[planted], label, dataset.bounds)
        model = copied(baseline.model)
        history = finetuned(model, x, y, self.epochs, self.learning_rate, training, None, part(progress, 0.6, 1))
        return Trained(model, history, time.perf_counter() - started)


class WithoutSuspects(Defense):
    """Train again without the images whose activations form a separate cluster in their class (Chen et al. 2018)."""

    name: Literal["without-suspects"] = "without-suspects"
    mends: ClassVar[bool] = True
    silhouette: float = Field(0.25, ge=-1, le=1, description="From which two clusters of a class count as apart")
    share: float = Field(0.35, gt=0, lt=0.5, description="Of a class that a cluster may have and be suspected")

    def apply(
        self, dataset: Dataset, training: Training, baseline: CompiledClassifier, progress: Progress = silent
    ) -> Trained:
        """Suspect by the baseline's last hidden layer, drop, train."""
        started = time.perf_counter()
        progress("last hidden layer", 0.0)
        features = hidden(baseline.model, dataset.x_train)
        dropped = clustered(features, dataset.y_train, training.seed, self.silhouette, self.share)
        kept = np.setdiff1d(np.arange(len(dataset.x_train)), dropped)
        looking = time.perf_counter() - started
        x, y = dataset.x_train[kept], dataset.y_train[kept]
        trained = train(dataset, training, x=x, y=y, progress=part(progress, 0.2, 1.0))
        return Trained(trained.model, trained.history, trained.seconds + looking)


def copied(model: keras.Model) -> keras.Model:
    """The same network with weights of its own."""
    import keras

    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    return made


def finetuned(
    model: keras.Model,
    x: Any,
    y: Any,
    epochs: int,
    learning_rate: float,
    training: Training,
    repair: Repair | None = None,
    progress: Progress = silent,
    *,
    loss: Any = None,
    weights: list[float] | None = None,
) -> dict[str, list[float]]:
    """Fit a model on from its weights; the history of its losses.

    `loss` is Keras' (the cross-entropy when not given), `weights` are those of several losses, one for each output.
    """
    import keras

    class Tell(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if repair:
                repair()
            progress(f"fine-tuning: epoch {epoch + 1} of {epochs}", (epoch + 1) / epochs)

    keras.utils.set_random_seed(training.seed)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, loss_weights=weights)
    history = model.fit(x, y, batch_size=training.batch_size, epochs=epochs, callbacks=[Tell()], verbose=0).history
    return {name: [float(value) for value in values] for name, values in history.items()}


def convolutions(model: keras.Model) -> list[Any]:
    """Those of a model and of the models in it, in order."""
    import keras

    return [layer for layer in layers(model) if isinstance(layer, keras.layers.Conv2D)]


def _last_convolution(model: keras.Model) -> Any:
    layers = convolutions(model)
    if not layers:
        raise ModelError("fine-pruning needs a network with convolutions", where="model")
    return layers[-1]


def _activity(model: keras.Model, layer: Any, x: Any) -> np.ndarray:
    """The mean activation of each channel on images."""
    import keras

    if layer not in model.layers:
        raise ModelError("the last convolution is in a nested model", where="model", fix="give the model itself")
    seen = keras.Model(model.inputs, layer.output).predict(x, batch_size=512, verbose=0)
    activity: np.ndarray = np.abs(seen).mean(axis=(0, 1, 2))
    return activity


def _silence(layer: Any, channels: np.ndarray) -> None:
    """Set the weights of a convolution's channels to zero."""
    weights = [one.copy() for one in layer.get_weights()]
    for one in weights:
        one[..., channels] = 0
    layer.set_weights(weights)


def _accuracy(model: keras.Model, x: Any, y: Any) -> float:
    return float((model.predict(x, batch_size=512, verbose=0).argmax(axis=1) == y).mean())
