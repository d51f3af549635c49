"""Models of several inputs: one takes the images, the others a number that is told."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError, SettingError
from gauntlet.models.adapter import adapt
from gauntlet.models.feeds import Feeds, chosen_input, feeds
from gauntlet.models.loaded import Expected
from gauntlet.models.outputs import run

SHAPES = {"pixels": (28, 28, 1), "mask": (28, 28, 1), "age": (1,)}
N = 256


def conditioned(model: keras.Model, last: str = "linear") -> keras.Model:
    """The network behind a mask, its scores scaled by 1 + age; with age 1 and mask 0 it is the network, doubled."""
    pixels, mask, age = (keras.Input(shape, name=name) for name, shape in SHAPES.items())
    scores = model(keras.layers.multiply([pixels, 1 - mask])) * (1 + age)
    return keras.Model([age, mask, pixels], keras.layers.Activation(last)(scores))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        (None, Feeds()),
        ("pixels", Feeds("pixels")),
        ("mask=1", Feeds(None, {"mask": 1.0})),
        ("age=.5, pixels,mask = 1", Feeds("pixels", {"age": 0.5, "mask": 1.0})),
    ],
)
def test_inputs_are_spelt_in_one_flag(text: str | None, means: Feeds) -> None:
    assert feeds(text) == means


@pytest.mark.parametrize("text", ["", "a,b", "a=", "a=x", "=1", "a,", "mask=nan", "mask=inf"])
def test_what_names_no_inputs_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="names no inputs"):
        feeds(text)


def test_the_input_that_the_images_fit_is_theirs() -> None:
    def fits(shape: object) -> bool:
        return shape == (28, 28, 1)

    assert chosen_input({"age": (1,), "pixels": (28, 28, 1)}, fits) == "pixels"
    assert chosen_input(SHAPES, fits, feeds("mask=1")) == "pixels"
    with pytest.raises(ModelError, match=r"has 3 inputs, pixels \(28, 28, 1\).* fit 2 of them \(name theirs"):
        chosen_input(SHAPES, fits)
    with pytest.raises(ModelError, match="no input 'image'"):
        chosen_input(SHAPES, fits, feeds("image"))
    with pytest.raises(ModelError, match="no input 'weight'"):
        chosen_input(SHAPES, fits, feeds("pixels,weight=2"))


@pytest.mark.parametrize("last", ["linear", "softmax"])
def test_the_others_are_filled(last: str, model: keras.Model, digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    adapted = adapt(conditioned(model, last), x, y, 10, inputs=feeds("pixels,age=1"))
    assert adapted.fed == "age = 1, mask = 0"
    np.testing.assert_allclose(run(adapted.model, x), 2 * run(model, x), atol=1e-4)


def test_layers_may_be_called_as_operations_are(model: keras.Model, digits: Dataset) -> None:
    pixels, mask = (keras.Input((28, 28, 1), name=name) for name in ("pixels", "mask"))
    layers = [keras.layers.Add(name=name) for name in ("add", "sum", "tile", "cast", "zeros_like")]
    both = pixels
    for layer in layers:
        both = layer([both, keras.layers.Rescaling(0.0)(mask)])
    x, y = digits.x_test[:N], digits.y_test[:N]
    adapted = adapt(keras.Model([pixels, mask], model(both)), x, y, 10, inputs=feeds("pixels"))
    np.testing.assert_allclose(run(adapted.model, x), run(model, x), atol=1e-4)


def test_it_is_told_and_can_be_attacked(model: keras.Model, digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    loaded = Expected(input="pixels").opened(conditioned(model), x, y, 10)
    assert loaded.notes == ("other inputs of the model were filled: age = 0, mask = 0",)
    gradient = loaded.white_box.look(x, y).gradient * loaded.temperature
    twin = Expected().opened(model, x, y, 10)
    np.testing.assert_allclose(gradient, twin.white_box.look(x, y).gradient * twin.temperature, atol=1e-3)


def test_of_a_function_no_input_is_named(digits: Dataset) -> None:
    with pytest.raises(ModelError, match="takes images alone"):
        Expected(input="pixels").opened(lambda x: x.mean(axis=(1, 2)), digits.x_test[:N], digits.y_test[:N], 10)
