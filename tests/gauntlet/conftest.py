"""One data set, one small cut of it and one trained model, shared by all tests of the package."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.quiet import load_tensorflow
from tests.frozen import frozen

if TYPE_CHECKING:
    import keras

    from gauntlet.models.classifier import CompiledClassifier


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """All digits: 1,437 training and 360 test images of 28 × 28 pixels."""
    return read_dataset("digits")


@pytest.fixture(scope="session")
def small(digits: Dataset) -> Dataset:
    """600 training and 120 test images of the digits."""
    return replace(
        digits,
        x_train=digits.x_train[:600],
        y_train=digits.y_train[:600],
        x_test=digits.x_test[:120],
        y_test=digits.y_test[:120],
    )


@pytest.fixture(scope="session")
def model() -> keras.Model:
    """A small 3×3 CNN that knows its digits; nobody may change its weights."""
    load_tensorflow()
    return frozen()


@pytest.fixture(scope="session")
def classifier(model: keras.Model) -> CompiledClassifier:
    """That model, ready to be attacked."""
    from gauntlet.models.classifier import CompiledClassifier

    return CompiledClassifier(model)


@pytest.fixture(scope="module")
def centroids(digits: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Weights (784, 10) and bias (10,) of the nearest class mean: a linear model that needs no training."""
    flat = digits.x_train.reshape(len(digits.x_train), -1)
    means = np.stack([flat[digits.y_train == k].mean(axis=0) for k in range(10)])
    return means.T * 0.5, -0.25 * (means**2).sum(axis=1)
