"""Fit a model: with progress, validation, best weights, and the same weights for the same seed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.models.architectures import ARCHITECTURES, architecture
from gauntlet.progress import Progress, silent
from gauntlet.threat import Images, Labels
from gauntlet.training.augment import Augmentation, augmented

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

Perturb = Callable[[Any, Any, Any], Any]
"""(model, x, y) to the batch the model is trained on instead of x: tensors, inside the compiled step."""
Objective = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""(model, x, y, step number) to the loss and the logits of a batch: tensors, inside the compiled step."""


class Training(BaseModel):
    """How a model is trained; what is not given is the architecture's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal[tuple(ARCHITECTURES)] = Field("cnn3x3", description="Network")  # type: ignore[valid-type]
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes over the training set; 3 for 60,000 images")
    batch_size: int = Field(128, ge=1, le=65_536, description="Images a step")
    optimizer: Literal["adam", "sgd"] | None = Field(None, description="The architecture's own when not given")
    learning_rate: float | None = Field(None, gt=0, description="The architecture's own when not given")
    momentum: float | None = Field(None, ge=0, lt=1, description="Of sgd; the architecture's own when not given")
    validation_share: float | None = Field(
        None, ge=0, lt=1, description="Share held out; above 0 the best validation weights are kept"
    )
    schedule: Literal["constant", "cosine"] | None = Field(
        None,
        description="Learning rate: constant, or down to 0 by a cosine; else the architecture's own",
    )
    augment: Augmentation | None = Field(
        None, description="Move training images, or mirror and move them (no digits!); else the architecture's own"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the arithmetic while training; bfloat16 where the processor computes in it"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of initial weights, order and dropout")

    def resolved(self, n_train: int) -> Training:
        """The same with every setting filled in, for a training set of `n_train` images."""
        own = architecture(self.architecture)
        mine = {key: value for key, value in self.model_dump().items() if value is not None}
        optimizer = mine.get("optimizer", own.optimizer)
        same = optimizer == own.optimizer
        usual = {
            "epochs": usual_epochs(n_train),
            "optimizer": optimizer,
            "learning_rate": own.learning_rate if same else {"adam": 0.001, "sgd": 0.01}[optimizer],
            "momentum": own.momentum if same else 0.0,
            "validation_share": own.validation_share,
            "schedule": own.schedule,
            "augment": own.augment,
        }
        if mine["precision"] == "auto":
            mine["precision"] = "bfloat16" if computes_in_bfloat16() else "float32"
        return Training(**usual | mine)


def usual_epochs(n_train: int) -> int:
    """3 epochs of MNIST's 60,000 images, more of a smaller set, since steps are what trains; at most 15."""
    return min(15, max(3, round(180_000 / n_train)))


def computes_in_bfloat16() -> bool:
    """Whether the processor has the instructions, and they are not switched off: training is then twice as fast.

    `ONEDNN_MAX_CPU_ISA` and `TF_ENABLE_ONEDNN_OPTS=0` make another processor of this one, which has no such kernels.
    """
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or (limited not in ("ALL", "DEFAULT") and "BF16" not in limited):
        return False
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Trained:
    """A trained model, its history (metric to values, one an epoch) and the seconds that the fit took."""

    model: keras.Model
    history: dict[str, list[float]]
    seconds: float


def train(
    dataset: Dataset,
    training: Training,
    *,
    x: Images | None = None,
    y: Labels | Images | None = None,
    perturb: Perturb | None = None,
    objective: Objective | None = None,
    start: keras.Model | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train a model on the data set's training images, or on `x` and `y` instead; fresh, or from `start`'s weights.

    `perturb` changes every batch, `objective` is a loss of its own. `y` are classes (n,), or probabilities
    (n, n_classes), which cannot be split for a validation share.
    Deterministic: the same seed on the same machine gives the same weights, bit for bit.
    """
    import keras

    training = training.resolved(len(dataset.x_train))
    keras.utils.set_random_seed(training.seed)
    network = _network(training, dataset)
    if start is not None and [w.shape for w in start.weights] == [w.shape for w in network.weights]:
        network.set_weights(start.get_weights())
    x, y = (dataset.x_train, dataset.y_train) if x is None or y is None else (x, y)
    x, y, held_out = _hold_out(x, y, training)
    fitted = _fitted(network, *_on_augmented(training, perturb, objective))
    losses = {1: keras.losses.SparseCategoricalCrossentropy, 2: keras.losses.CategoricalCrossentropy}
    fitted.compile(
        optimizer=_optimizer(training, len(x)),
        loss=losses[y.ndim](from_logits=True),
        metrics=["accuracy"],
    )
    started = time.perf_counter()
    history = fitted.fit(
        x,
        y,
        batch_size=training.batch_size,
        epochs=training.epochs,
        validation_data=held_out,
        callbacks=_callbacks(training, network, len(x), progress),
        verbose=0,
    )
    seconds = time.perf_counter() - started
    return Trained(_in_float32(network, training, dataset), _plain(history.history), seconds)


def _network(training: Training, dataset: Dataset) -> keras.Model:
    """A fresh model that computes in the training's precision; its weights are float32 in either."""
    import keras

    usual = keras.config.dtype_policy()
    if training.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return architecture(training.architecture).build(dataset.input_shape, dataset.n_classes)
    finally:
        keras.config.set_dtype_policy(usual)


def _in_float32(network: keras.Model, training: Training, dataset: Dataset) -> keras.Model:
    """The same weights in a model that computes in float32: what is measured and attacked never rounds."""
    if training.precision == "float32":
        return network
    exact = architecture(training.architecture).build(dataset.input_shape, dataset.n_classes)
    exact.set_weights(network.get_weights())
    return exact


def _optimizer(training: Training, n: int) -> keras.optimizers.Optimizer:
    import keras

    rate: Any = training.learning_rate
    if training.schedule == "cosine":
        steps = (training.epochs or 1) * -(-n // training.batch_size)
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    if training.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=training.momentum)


def _on_augmented(
    training: Training, perturb: Perturb | None, objective: Objective | None
) -> tuple[Perturb | None, Objective | None]:
    """The same on augmented images; a fit without either gets a change of batches that does nothing else."""
    kind = training.augment or "none"
    if kind == "none":
        return perturb, objective
    if objective is not None:
        return None, lambda network, x, y, step: objective(network, augmented(x, kind), y, step)
    return lambda network, x, y: perturb(network, augmented(x, kind), y) if perturb else augmented(x, kind), None


def _hold_out(x: Images, y: Any, training: Training) -> tuple[Images, Any, tuple[Images, Any] | None]:
    if not training.validation_share:
        return x, y, None
    from gauntlet.data.splits import stratified_split

    kept, validation = stratified_split(y, training.validation_share, training.seed)
    return x[kept], y[kept], (x[validation], y[validation])


def _fitted(network: keras.Model, perturb: Perturb | None, objective: Objective | None) -> keras.Model:
    """What is fitted: the network itself, or one that shares its weights."""
    if objective is not None:
        return _with_objective(network, objective)
    return network if perturb is None else _perturbed(network, perturb)


def _with_objective(network: keras.Model, objective: Objective) -> keras.Model:
    """A model that shares `network`'s weights and is trained by a loss of its own; made here, as Keras loads slowly."""
    import keras
    import tensorflow as tf

    class Objected(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.means = [keras.metrics.Mean("loss"), keras.metrics.SparseCategoricalAccuracy("accuracy")]

        @property
        def metrics(self) -> list[keras.metrics.Metric]:
            return self.means

        def call(self, x: Any, training: bool = False) -> Any:
            return self.network(x, training=training)

        def train_step(self, data: Any) -> Any:
            x, y = data
            weights = self.network.trainable_variables
            with tf.GradientTape() as tape:
                loss, logits = objective(self.network, x, y, self.optimizer.iterations)
            self.optimizer.apply(tape.gradient(loss, weights), weights)
            self.means[0].update_state(loss, sample_weight=tf.shape(x)[0])
            self.means[1].update_state(y, logits)
            return {mean.name: mean.result() for mean in self.means}

    return Objected()


def _perturbed(network: keras.Model, perturb: Perturb) -> keras.Model:
    """A model that shares `network`'s weights and trains on perturbed batches; made here, as Keras loads slowly."""
    import keras

    class Perturbed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def call(self, x: Any, training: bool = False) -> Any:
            return self.network(x, training=training)

        def train_step(self, data: Any) -> Any:
            x, y = data
            return super().train_step((perturb(self.network, x, y), y))

    return Perturbed()


def _callbacks(training: Training, network: keras.Model, n: int, progress: Progress) -> list[keras.callbacks.Callback]:
    import keras

    steps = -(-n // training.batch_size)
    report = max(1, steps // 20)

    class Tell(keras.callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            if (batch + 1) % report == 0 or batch + 1 == steps:
                done = (self.epoch + (batch + 1) / steps) / (training.epochs or 1)
                progress(
                    f"epoch {self.epoch + 1}/{training.epochs}, loss {(logs or {}).get('loss', np.nan):.3f}",
                    done,
                )

    class KeepBest(keras.callbacks.Callback):
        """The shared network's weights of the best validation loss, put back at the end."""

        best, weights = np.inf, None

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            loss = (logs or {})["val_loss"]
            if loss < self.best:
                self.best, self.weights = loss, network.get_weights()

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            if self.weights is not None:
                network.set_weights(self.weights)

    return [Tell(), *([KeepBest()] if training.validation_share else [])]


def _plain(history: dict[str, list[Any]]) -> dict[str, list[float]]:
    return {name: [float(value) for value in values] for name, values in history.items()}
