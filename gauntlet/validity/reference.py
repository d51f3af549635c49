"""A frozen model whose robust accuracy is known exactly, to compare the measured number with.

Scores linear in the pixels have margins linear in them too, so the smallest margin that any perturbation within an
L∞ budget and the bounds can leave is a sum over pixels. It is computed here in float64 with NumPy alone: a change of
TensorFlow, Keras or ART moves what is measured and not what is true.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import ApgdCe, ApgdDlr, Pgd, UniformNoise
from gauntlet.evaluation.battery import Battery, Job
from gauntlet.evaluation.battery import run as run_battery
from gauntlet.evaluation.outcome import Attacked
from gauntlet.progress import Progress, silent

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

Floats = NDArray[np.float64]

NAME = "reference"
EPS = 0.05
"""Where cross-entropy and margin lead the same way: every strong attack comes close to the truth."""
BAND = 0.01
"""The share of images by which a strong attack may miss it."""
ROUNDING = 1e-4
"""Margins nearer to 0 than this are float32's to decide."""


def battery() -> Battery:
    """The floor, and the strong attacks that must find what is there to be found."""
    return Battery(attack=(UniformNoise(), Pgd(max_iter=20), ApgdCe(max_iter=25), ApgdDlr(max_iter=25)), eps=(EPS,))


def weights(dataset: Dataset) -> tuple[Floats, Floats]:
    """Of the nearest class mean, 2 μ·x - |μ|², in 64ths, which machines round alike: (classes, pixels), (classes,)."""
    x = dataset.x_train.reshape(len(dataset.x_train), -1).astype(np.float64)
    means = np.stack([x[dataset.y_train == label].mean(axis=0) for label in range(dataset.n_classes)])
    return np.round(128 * means) / 64, -np.round(64 * (means**2).sum(axis=1)) / 64


def margins(dataset: Dataset, eps: float) -> Floats:
    """The smallest margin (true class over any other) within L∞ distance `eps` and the bounds; one per test image."""
    w, b = weights(dataset)
    x, y = dataset.x_test.reshape(len(dataset.x_test), -1).astype(np.float64), dataset.y_test
    low, high = dataset.bounds
    down, up = np.maximum(-eps, low - x), np.minimum(eps, high - x)
    scores = x @ w.T + b
    distances = np.full(scores.shape, np.inf)
    for other in range(dataset.n_classes):
        slope = w[y] - w[other]
        lost = np.minimum(slope * down, slope * up).sum(axis=1)
        distances[:, other] = scores[np.arange(len(y)), y] - scores[:, other] + lost
    distances[np.arange(len(y)), y] = np.inf
    return np.asarray(distances.min(axis=1))


def model(dataset: Dataset) -> keras.Model:
    """The same as a Keras model that gives logits."""
    import keras

    w, b = weights(dataset)
    images, dense = keras.Input(dataset.input_shape), keras.layers.Dense(dataset.n_classes)
    made = keras.Model(images, dense(keras.layers.Flatten()(images)))
    dense.set_weights([w.T, b])
    return made


def measured(dataset: Dataset, seed: int, progress: Progress = silent) -> list[Attacked]:
    """What the evaluation measures of it, over all test images."""
    from gauntlet.models.classifier import CompiledClassifier

    classifier = CompiledClassifier(model(dataset), dataset.bounds)
    job = Job(classifier, dataset.x_test, dataset.y_test, classifier.labels(dataset.x_test), seed)
    return run_battery(battery(), job, lambda _: np.arange(len(dataset.y_test)), progress)


def wrong(dataset: Dataset, results: list[Attacked]) -> list[str]:
    """What of the results cannot be, or misses the truth by more than the band; nothing when all is right."""
    return [line for result in results for line in _wrong(dataset, result)]


def _wrong(dataset: Dataset, result: Attacked) -> Iterator[str]:
    name, reachable = result.attack.name, margins(dataset, result.eps)[result.index]
    if impossible := int((~result.robust & (reachable > ROUNDING)).sum()):
        yield f"{name} broke {impossible} images that nothing within the budget breaks"
    # a floor need not find the worst, but wrong without any perturbation is wrong with it
    margin = reachable if result.attack.adversary else margins(dataset, 0.0)[result.index]
    missed, band = result.robust & (margin < -ROUNDING), 0.0 if isinstance(result.attack, ApgdDlr) else BAND
    if missed.mean() > band:
        truth = float((margin > 0).mean())
        yield f"{name} left {100 * result.robust.mean():.1f} % correct where the truth is {100 * truth:.1f} %"
