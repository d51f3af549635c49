"""Whatever a model's last step is, the same decisions give the same robust accuracy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as nn
from keras import ops
from scipy.special import expit, log_softmax, softmax

from gauntlet.attacks import ApgdCe, Attack, Fgsm, Pgd
from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError
from gauntlet.models.adapter import Adapted, adapt
from gauntlet.models.blackbox import open_blackbox
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.outputs import LOGITS, SIGMOID, TANH, kind_of

N, EPS = 60, 0.08
ATTACKS: tuple[Attack, ...] = (Fgsm(), Pgd(max_iter=10), ApgdCe(max_iter=10))


class Plain:
    """A linear classifier of digits whose logits are small enough that no squashing saturates."""

    def __init__(self, digits: Dataset, centroids: tuple[np.ndarray, np.ndarray]) -> None:
        self.x, self.y = digits.x_test[:N], digits.y_test[:N]
        self.weights = [part / 40 for part in centroids]
        self.logits = self.x.reshape(N, -1) @ self.weights[0] + self.weights[1]
        self.logits -= self.logits.mean()
        self.weights[1] = self.weights[1] - (self.x.reshape(N, -1) @ self.weights[0] + self.weights[1]).mean()

    def network(self, tail: Callable[[Any], Any] = lambda z: z, activation: Any = None, head: int = 10) -> keras.Model:
        images = keras.Input((28, 28, 1))
        dense = nn.Dense(head, activation=activation)
        scores = dense(nn.Flatten()(images))
        weights, bias = self.weights
        if head == 1:  # odd against even
            weights, bias = weights[:, 1:2] - weights[:, 0:1], bias[1:2] - bias[0:1]
        dense.set_weights([weights, bias])
        return keras.Model(images, tail(scores))

    def adapt(self, network: keras.Model, **more: Any) -> Adapted:
        return adapt(network, self.x, self.y, 10, "0..1", **more)

    def left(self, adapted: Adapted) -> list[int]:
        """Images that each attack leaves correct."""
        model = CompiledClassifier(adapted.model)
        made = (attack.run(model, self.x, self.y, EPS, 0).images for attack in ATTACKS)
        return [int((model.labels(images) == self.y).sum()) for images in made]


@pytest.fixture(scope="module")
def plain(digits: Dataset, centroids: tuple[np.ndarray, np.ndarray]) -> Plain:
    return Plain(digits, centroids)


@pytest.fixture(scope="module")
def truth(plain: Plain) -> list[int]:
    left = plain.left(plain.adapt(plain.network()))
    assert left[0] < N
    return left


class Subclassed(keras.Model):
    """A model without a graph."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x)


def nested(inner: keras.Model) -> keras.Model:
    return keras.Sequential([keras.Input((28, 28, 1)), inner])


DRESSES: dict[str, Callable[[Plain], keras.Model]] = {
    "sigmoid": lambda plain: plain.network(activation="sigmoid"),
    "sigmoid as an operation": lambda plain: plain.network(ops.sigmoid),
    "tanh": lambda plain: plain.network(activation="tanh"),
    "softmax as an operation": lambda plain: plain.network(ops.softmax),
    "softmax in a nested model": lambda plain: nested(plain.network(activation="softmax")),
    "softmax twice nested": lambda plain: nested(nested(plain.network(nn.Softmax()))),
    "log-softmax": lambda plain: plain.network(ops.log_softmax),
    "temperature": lambda plain: plain.network(lambda z: ops.softmax(z / 50)),
    "scaled": lambda plain: plain.network(lambda z: z * 1e-3),
    "clipped": lambda plain: plain.network(lambda z: ops.clip(z, -50, 50)),
    "softplus": lambda plain: plain.network(ops.softplus),
    "rounded": lambda plain: plain.network(lambda z: ops.round(z * 1e4) / 1e4),
    "maps": lambda plain: plain.network(lambda z: nn.Reshape((1, 1, 10))(ops.softmax(z))),
    "a dict": lambda plain: (lambda m: keras.Model(m.inputs[0], {"class": m.outputs[0]}))(plain.network(ops.sigmoid)),
    "a sigmoid without a graph": lambda plain: Subclassed(plain.network(ops.sigmoid)),
    "a tanh without a graph": lambda plain: Subclassed(plain.network(ops.tanh)),
}


@pytest.mark.parametrize("make", DRESSES.values(), ids=DRESSES)
def test_the_same_decisions_give_the_same_robust_accuracy(
    make: Callable[[Plain], keras.Model], plain: Plain, truth: list[int]
) -> None:
    adapted = plain.adapt(make(plain))
    assert adapted.model.output_shape == (None, 10)
    assert np.abs(np.array(plain.left(adapted)) - truth).max() <= 1


def test_what_was_given_is_recorded(plain: Plain) -> None:
    assert plain.adapt(plain.network(ops.sigmoid)).outputs == "sigmoid"
    assert plain.adapt(Subclassed(plain.network(ops.sigmoid))).outputs == "sigmoid (inverted)"
    mean = nn.Average()([plain.network(ops.softmax).outputs[0]] * 2)
    assert mean is not None
    assert plain.adapt(plain.network()).outputs == "logits"


def test_an_average_of_softmaxes_is_inverted(plain: Plain) -> None:
    images = keras.Input((28, 28, 1))
    both = plain.network(ops.softmax), plain.network(lambda z: ops.softmax(z / 3))
    adapted = plain.adapt(keras.Model(images, nn.Average()([one(images) for one in both])))
    assert adapted.outputs == "probabilities (inverted)"
    np.testing.assert_allclose(np.exp(adapted.model(plain.x)).sum(axis=1), 1, atol=1e-5)


def test_a_step_that_changes_decisions_stays(plain: Plain) -> None:
    adapted = plain.adapt(plain.network(lambda z: z * np.linspace(2, 0.5, 10, dtype=np.float32)))
    expected = plain.logits * np.linspace(2, 0.5, 10)
    np.testing.assert_array_equal(np.asarray(adapted.model(plain.x)).argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.skipif(
    "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="TensorFlow 2.21 asks the processor for float16 kernels, not the limited oneDNN, and crashes without them",
)
def test_half_precision_becomes_float32(plain: Plain) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = plain.network()
    finally:
        keras.config.set_dtype_policy("float32")
    assert plain.adapt(network).model.outputs[0].dtype == "float32"


@pytest.mark.parametrize("activation", [None, "sigmoid", "tanh"])
def test_one_score_is_two_classes(activation: str | None, plain: Plain) -> None:
    few = np.flatnonzero(plain.y < 2)
    x, y = plain.x[few], plain.y[few]
    adapted = adapt(plain.network(activation=activation, head=1), x, y, 2, "0..1")
    scores = np.asarray(adapted.model(x))
    odds = x.reshape(len(x), -1) @ (plain.weights[0][:, 1] - plain.weights[0][:, 0])
    odds += plain.weights[1][1] - plain.weights[1][0]
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], odds, atol=1e-3)


@pytest.mark.parametrize("squash", [lambda z: z, expit, lambda z: expit(z) > 0.5], ids=["logit", "sigmoid", "class"])
def test_one_number_of_a_black_box_is_two_classes(squash: Callable[[np.ndarray], np.ndarray], plain: Plain) -> None:
    few = np.flatnonzero(plain.y < 2)

    def ask(x: np.ndarray) -> np.ndarray:
        z = x.reshape(len(x), -1) @ (plain.weights[0][:, 1] - plain.weights[0][:, 0])
        return squash(z + plain.weights[1][1] - plain.weights[1][0])

    opened = open_blackbox(ask, plain.x[few], plain.y[few], 2, "0..1", "hwc")
    assert (opened.classifier.labels(plain.x[few]) == plain.y[few]).mean() > 0.9


BOXES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": expit,
    "tanh": np.tanh,
    "probabilities": lambda z: softmax(z, axis=1),
    "log-probabilities": lambda z: log_softmax(z, axis=1),
}


@pytest.mark.parametrize(("kind", "squash"), BOXES.items(), ids=BOXES)
def test_squashed_scores_of_a_black_box_are_inverted(
    kind: str, squash: Callable[[np.ndarray], np.ndarray], plain: Plain
) -> None:
    def ask(x: np.ndarray) -> np.ndarray:
        return squash(x.reshape(len(x), -1) @ plain.weights[0] + plain.weights[1])

    opened = open_blackbox(ask, plain.x, plain.y, 10, "0..1", "hwc")
    scores, factor = opened.classifier.predict(plain.x), 2 if kind == "tanh" else 1
    assert opened.outputs == kind
    np.testing.assert_allclose(np.diff(scores, axis=1), factor * np.diff(plain.logits, axis=1), atol=1e-3)


def test_outputs_that_fit_no_class_are_told_by_name(plain: Plain) -> None:
    network = plain.network()
    two = keras.Model(network.inputs[0], {"a": network.outputs[0], "b": network.outputs[0] * 2})
    with pytest.raises(ModelError, match=r"2 outputs, a \(10\), b \(10\); expected one of 10 scores"):
        plain.adapt(two)


def test_kinds_are_told_by_all_values_seen() -> None:
    near, far = np.array([[0.98, 0.01], [0.03, 0.9]]), np.array([[7.0, -3.0]])
    assert kind_of([near]) == SIGMOID
    assert kind_of([near, far]) == LOGITS  # squared error on one-hot labels
    assert kind_of([near, -near]) == TANH
    assert kind_of([1e-6 * far, 1e-2 * far]) == LOGITS  # very small, and two-signed
    assert kind_of([np.zeros((3, 2))]) == LOGITS
