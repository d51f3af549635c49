"""What is stated of the channels stands between the image and the model, and is part of its gradient."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.errors import SettingError
from gauntlet.models.adapter import adapt
from gauntlet.models.blackbox import open_blackbox
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.pixels import Channels, channels

STATED = "0.5,0.4,0.3/0.2,0.25,0.3"
MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])


@pytest.fixture(scope="module")
def colours() -> tuple[np.ndarray, np.ndarray]:
    """200 images (200, 4, 4, 3) whose brightest channel is their class."""
    rng, y = np.random.default_rng(0), np.arange(200) % 3
    x = rng.uniform(0, 0.6, (200, 4, 4, 3))
    x[np.arange(200), :, :, y] += 0.35
    return x.astype(np.float32), y


def by_channel() -> keras.Model:
    """Logits are the mean of each channel, as the model sees it: blue first, each normalised."""
    pool = keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input((4, 4, 3)), pool, keras.layers.Dense(3)])
    undone = np.diag(20 * STD)[:, ::-1]  # from the model's order of channels to red, green, blue
    model.set_weights([np.ascontiguousarray(undone, np.float32), (20 * MEAN)[::-1].astype(np.float32)])
    return model


def test_a_keras_model_gets_its_channels(colours: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = colours
    opened = adapt(by_channel(), x, y, 3, "0..1", channels=channels(STATED, bgr=True))
    box = CompiledClassifier(opened.model)
    np.testing.assert_allclose(box.predict(x), 20 * x.mean(axis=(1, 2)), atol=1e-4)
    gradient = box.look(x, y, "difference", (y + 1) % 3).gradient
    expected = np.zeros_like(x)
    expected[np.arange(200), :, :, (y + 1) % 3] = 20 / 16
    expected[np.arange(200), :, :, y] = -20 / 16
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_a_function_gets_its_channels(colours: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = colours
    model = by_channel()
    opened = open_blackbox(lambda z: model(z), x, y, 3, "0..1", "hwc", channels=channels(STATED, bgr=True))
    np.testing.assert_allclose(opened.classifier.predict(x), 20 * x.mean(axis=(1, 2)), atol=1e-4)


def test_means_of_pixels_up_to_255_go_with_that_range() -> None:
    scale, offset = Channels((127.5,), (63.75,)).scaling("0..255")
    np.testing.assert_allclose(np.array([0.0, 0.5, 1.0]) * scale + offset, [-2, 0, 2])


@pytest.mark.parametrize("text", ["", "cifar", "1,2", "0.5/0", "0.5/-1", "nan/1", "0.5,0.5/1", "0.5/inf", "1/2/3"])
def test_what_is_no_normalisation_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="normalize"):
        channels(text)


@pytest.mark.parametrize(
    ("stated", "says"), [(Channels(bgr=True), "red, green"), (Channels((1.0, 2.0), (1.0, 1.0)), "2 means")]
)
def test_channels_must_be_there(stated: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        stated.fit(1)
