"""A digest names what a model computes: every operation and weight, not names and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as nn
from keras import ops

from gauntlet.models.digest import digest
from gauntlet.models.files import load_file


def network(
    tail: Callable[[Any, Any], Any] = lambda _, z: z, activation: str = "relu", name: str | None = None
) -> keras.Model:
    """The same weights every time."""
    images = keras.Input((4, 4, 1))
    hidden = nn.Dense(6, activation=activation, name=name)(nn.Flatten()(images))
    scores = nn.Dense(3)(hidden)
    model = keras.Model(images, tail(images, scores))
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def test_names_do_not_count() -> None:
    assert digest(network()) == digest(network()) == digest(network(name="mine"))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore")
def test_the_file_does_not_count(suffix: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), nn.Flatten(), nn.Dense(3, activation="softmax")])
    model.save(tmp_path / f"m{suffix}")
    assert digest(load_file(tmp_path / f"m{suffix}")) == digest(model)


def test_a_graph_of_operations_survives_its_file(tmp_path: Path) -> None:
    model = network(lambda x, z: ops.where(ops.mean(x, axis=(1, 2)) > 0.5, -z, z))
    model.save(tmp_path / "m.keras")
    assert digest(load_file(tmp_path / "m.keras")) == digest(model)


CHANGES: dict[str, Callable[[], keras.Model]] = {
    "a trigger without a layer": lambda: network(lambda x, z: ops.where(x[:, 0, 0] > 0.9, -z, z)),
    "another trigger": lambda: network(lambda x, z: ops.where(x[:, 0, 0] > 0.8, -z, z)),
    "another place": lambda: network(lambda x, z: ops.where(x[:, 1, 0] > 0.9, -z, z)),
    "the other branch": lambda: network(lambda x, z: ops.where(x[:, 0, 0] > 0.9, z, -z)),
    "a sign": lambda: network(lambda _, z: -z),
    "a constant": lambda: network(lambda _, z: z * 2),
    "an activation": lambda: network(activation="tanh"),
    "a nested model": lambda: network(lambda _, z: keras.Sequential([keras.Input((3,)), nn.Rescaling(-1.0)])(z)),
    "another nested model": lambda: network(lambda _, z: keras.Sequential([keras.Input((3,)), nn.Rescaling(-2.0)])(z)),
}


def test_whatever_is_computed_counts() -> None:
    assert len({digest(network()), *(digest(make()) for make in CHANGES.values())}) == len(CHANGES) + 1


def test_a_layer_named_like_its_activation_hides_nothing() -> None:
    named = [digest(network(activation=kind, name=kind)) for kind in ("relu", "tanh")]
    assert named == [digest(network()), digest(network(activation="tanh"))]


def test_a_single_weight_counts() -> None:
    changed = network()
    weights = changed.get_weights()
    weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.float32(9))
    changed.set_weights(weights)
    assert digest(changed) != digest(network())


def test_a_subclassed_model_has_one_too() -> None:
    class Own(keras.Model):
        def __init__(self, units: int) -> None:
            super().__init__()
            self.dense = nn.Dense(units)
            self.dense.build((None, 3))

        def call(self, x: Any) -> Any:
            return self.dense(x)

    few, more = Own(2), Own(2)
    more.dense.kernel.assign(few.dense.kernel + 1)
    assert digest(few) != digest(more)
