"""The same decisions in another dress give the same number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from gauntlet.attacks import ApgdCe, Fgsm, Pgd
from gauntlet.data.datasets import Dataset
from gauntlet.models.adapter import Adapted, adapt
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.scale import calibrated, divided, temperature
from tests.gauntlet.attacking import fooled

N, EPS = 100, 0.1
ATTACKS = (Fgsm(), Pgd(max_iter=10), ApgdCe(max_iter=10))
nn = keras.layers

Dress = Callable[[keras.Model], keras.Model]


def times(factor: float, plus: float = 0.0) -> Dress:
    """Another last layer: logits · factor + plus."""

    def dress(model: keras.Model) -> keras.Model:
        copy = keras.models.clone_model(model)
        *before, kernel, bias = model.get_weights()
        copy.set_weights([*before, factor * kernel, factor * bias + plus])
        return copy

    return dress


def on_pixels(scale: float, offset: float) -> Dress:
    """The model that takes pixels · scale + offset."""

    def dress(model: keras.Model) -> keras.Model:
        images = keras.Input(model.input_shape[1:])
        return keras.Model(images, model(nn.Rescaling(1 / scale, -offset / scale)(images)))

    return dress


def behind(step: Callable[[keras.KerasTensor], keras.KerasTensor]) -> Dress:
    """The model with one more step."""
    return lambda model: keras.Model(model.inputs[0], step(model.outputs[0]))


def in_front(step: Callable[[keras.KerasTensor], keras.KerasTensor]) -> Dress:
    """The model with one step on the images that changes none."""

    def dress(model: keras.Model) -> keras.Model:
        images = keras.Input(model.input_shape[1:])
        return keras.Model(images, model(step(images)))

    return dress


def channels_first(model: keras.Model) -> keras.Model:
    """The model that takes (channels, height, width)."""
    height, width, channels = model.input_shape[1:]
    images = keras.Input((channels, height, width))
    return keras.Model(images, model(nn.Permute((2, 3, 1))(images)))


def normalised(model: keras.Model) -> keras.Model:
    """A batch norm behind the first convolution, whose weights undo what it does."""
    layers = [type(layer).from_config(layer.get_config()) for layer in model.layers]
    first = layers[0]
    first.activation = keras.activations.linear
    norm = nn.BatchNormalization(epsilon=1e-3)
    copy = keras.Sequential([keras.Input(model.input_shape[1:]), first, norm, nn.ReLU(), *layers[1:]])
    for mine, theirs in zip(layers, model.layers, strict=True):
        mine.set_weights(theirs.get_weights())
    kernel, bias = model.layers[0].get_weights()
    rng = np.random.default_rng(0)
    gamma, mean, variance = rng.uniform(0.5, 2, bias.shape), rng.normal(size=bias.shape), rng.uniform(1, 4, bias.shape)
    scale = gamma / np.sqrt(variance + 1e-3)
    first.set_weights([kernel / scale, bias / scale + mean])
    norm.set_weights([gamma, np.zeros_like(mean), mean, variance])
    return copy


DRESSES: dict[str, Dress] = {f"times {factor:g}": times(factor) for factor in (1e-6, 1e-3, 0.02, 0.7, 3, 50, 1e3)}
DRESSES |= {"plus 100": times(1, 100), "softmax": behind(nn.Softmax()), "log-softmax": behind(keras.ops.log_softmax)}
DRESSES |= {"times 1000, softmax": lambda model: behind(nn.Softmax())(times(1e3)(model))}
DRESSES |= {"0..255": on_pixels(255, 0), "-1..1": on_pixels(2, -1), "nested": lambda model: keras.Sequential([model])}
DRESSES |= {"channels first": channels_first, "batch norm": normalised}
DRESSES |= {"cut at 0": in_front(nn.ReLU()), "cut at 0 and 1": in_front(nn.ReLU(max_value=1.0))}
DRESSES |= {"a square's root": in_front(lambda images: keras.ops.sqrt(images * images))}
DRESSES |= {"of length one": behind(lambda logits: logits / keras.ops.norm(logits, axis=1, keepdims=True))}
DRESSES |= {"functional": lambda model: keras.Model(model.inputs[0], model.outputs[0])}


def _adapted(model: keras.Model, digits: Dataset) -> Adapted:
    return adapt(model, digits.x_test, digits.y_test, 10)


def _broken(model: keras.Model, digits: Dataset) -> list[float]:
    network = _adapted(model, digits)
    classifier = CompiledClassifier(divided(network.model, network.temperature))
    x, y = digits.x_test[:N], digits.y_test[:N]
    return [fooled(classifier, attack, x, y, EPS).mean() for attack in ATTACKS]


@pytest.fixture(scope="module")
def plain(model: keras.Model, digits: Dataset) -> list[float]:
    """What each attack breaks of the model as it is."""
    return _broken(model, digits)


@pytest.mark.parametrize("dress", DRESSES)
def test_the_same_decisions_give_the_same_number(
    dress: str, model: keras.Model, digits: Dataset, plain: list[float]
) -> None:
    assert 0.1 < min(plain) < max(plain) < 0.95  # else nothing could differ
    np.testing.assert_allclose(_broken(DRESSES[dress](model), digits), plain, atol=0.0101)


def test_other_names_of_the_classes_give_the_same_number(
    model: keras.Model, digits: Dataset, plain: list[float]
) -> None:
    order = np.random.default_rng(0).permutation(10)  # class k is called order[k]
    renamed = keras.models.clone_model(model)
    *before, kernel, bias = model.get_weights()
    renamed.set_weights([*before, kernel[:, np.argsort(order)], bias[np.argsort(order)]])
    theirs = replace(digits, y_test=order[digits.y_test])
    np.testing.assert_allclose(_broken(renamed, theirs), plain, atol=0.0101)


@pytest.mark.parametrize("factor", [1e-3, 1, 1e3])
def test_pixels_are_not_taken_for_larger_because_the_scores_are_small(
    factor: float, model: keras.Model, digits: Dataset
) -> None:
    """Squared error on one-hot labels gives scores of about 1: pixels 255 times as large would lower the loss."""
    *before, _, _ = model.layers
    hidden = keras.Model(model.inputs[0], before[-1].output).predict(digits.x_train, verbose=0)
    hidden = np.hstack([hidden, np.ones((len(hidden), 1), np.float32)])
    weights = np.linalg.lstsq(hidden, np.eye(10)[digits.y_train], rcond=None)[0]
    squared = keras.models.clone_model(model)
    squared.set_weights([*model.get_weights()[:-2], factor * weights[:-1], factor * weights[-1]])
    network = _adapted(squared, digits)
    assert (network.input_range, network.better_range) == ("0..1", None)


def test_a_temperature_is_one_of_ten_steps_a_decade() -> None:
    logits = np.array([[0.0, 8.0, -3.0], [8.5, 0.0, 0.2], [1.0, 1.0, 10.0]])
    assert temperature(logits) == 1
    for power in (-3, -0.5, 2):
        assert temperature(logits * 10**power) == pytest.approx(10**power)
    assert temperature(np.zeros((3, 2))) == 1


def test_calibration_finds_the_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (5_000, 4))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from their softmax: the best temperature is 1
    at_one = -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()
    for factor in (1e-3, 1, 40):
        assert calibrated(logits * factor, y).mean() == pytest.approx(at_one, rel=2e-3)
    assert calibrated(np.zeros((6, 3)), np.zeros(6, np.int64)) == pytest.approx(np.full(6, np.log(3)))
