"""Files that Keras 2 wrote: written here as it wrote them, since it does not run beside Keras 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from gauntlet.data.datasets import Dataset
from gauntlet.models import trial
from gauntlet.models.files import load_file
from gauntlet.models.outputs import run
from tests.frozen import network

SHAPE = [None, 28, 28, 1]


@pytest.fixture(autouse=True)
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """These files were written here."""
    monkeypatch.setattr(trial, "passed", lambda *_: None)


INPUT = {
    "class_name": "InputLayer",
    "config": {"batch_input_shape": SHAPE, "dtype": "float32", "sparse": False, "ragged": False, "name": "first_input"},
}
ZEROS = {"class_name": "Zeros", "config": {}}
GLOROT = {"class_name": "GlorotUniform", "config": {"seed": None}}


def conv(name: str, filters: int, **more: Any) -> dict[str, Any]:
    settings = {
        "name": name, "trainable": True, "dtype": "float32", "filters": filters, "kernel_size": [3, 3],
        "strides": [1, 1], "padding": "valid", "data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1,
        "activation": "relu", "use_bias": True, "kernel_initializer": GLOROT, "bias_initializer": ZEROS,
        "kernel_regularizer": None, "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None,
        "bias_constraint": None,
    }  # fmt: skip
    return {"class_name": "Conv2D", "config": settings | more}


def dense(name: str, units: int, activation: str = "linear", **more: Any) -> dict[str, Any]:
    settings = {
        "name": name, "trainable": True, "dtype": "float32", "units": units, "activation": activation, "use_bias": True,
        "kernel_initializer": GLOROT, "bias_initializer": ZEROS, "kernel_regularizer": None, "bias_regularizer": None,
        "activity_regularizer": None, "kernel_constraint": None, "bias_constraint": None,
    }  # fmt: skip
    return {"class_name": "Dense", "config": settings | more}


def plain(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32"} | settings}


def digits_layers() -> list[dict[str, Any]]:
    """The network of `tests.frozen`."""
    pool = {"pool_size": [2, 2], "padding": "valid", "strides": [2, 2], "data_format": "channels_last"}
    return [
        conv("conv2d", 8),
        conv("conv2d_1", 16),
        plain("MaxPooling2D", "max_pooling2d", **pool),
        plain("Dropout", "dropout", rate=0.25, noise_shape=None, seed=None),
        plain("Flatten", "flatten", data_format="channels_last"),
        dense("dense", 32, "relu"),
        plain("Dropout", "dropout_1", rate=0.25, noise_shape=None, seed=None),
        dense("dense_1", 10),
    ]


def first(layers: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """With more settings on the first layer."""
    return [{**layers[0], "config": layers[0]["config"] | more}, *layers[1:]]


def sequential(layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}


def functional(layers: list[dict[str, Any]], name: str = "Functional") -> dict[str, Any]:
    """The same as a graph, in the way Keras 2 wrote calls."""
    before, chain = "first_input", [INPUT | {"name": "first_input", "inbound_nodes": []}]
    for layer in layers:
        chain.append(layer | {"name": layer["config"]["name"], "inbound_nodes": [[[before, 0, 0, {}]]]})
        before = layer["config"]["name"]
    ends = {"input_layers": [["first_input", 0, 0]], "output_layers": [[before, 0, 0]]}
    return {"class_name": name, "config": {"name": "model", "layers": chain} | ends}


def written(path: Path, config: dict[str, Any], weights: dict[str, list[np.ndarray]]) -> Path:
    """As `model.save('FILE.h5')` of Keras 2 does; weights by layer, in the order kernel, bias."""
    names = [layer["config"]["name"] for layer in config["config"]["layers"]]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"], file.attrs["backend"] = "2.4.0", "tensorflow"
        groups = file.create_group("model_weights")
        groups.attrs["layer_names"] = [name.encode() for name in names]
        groups.attrs["backend"], groups.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for name in names:
            group = groups.create_group(name)
            held = weights.get(name, [])
            parts = [f"{name}/{part}:0" for part in _parts(len(held))]
            group.attrs["weight_names"] = [part.encode() for part in parts]
            for part, array in zip(parts, held, strict=True):
                group.create_dataset(part, data=array)
    return path


def _parts(n: int) -> list[str]:
    return {0: [], 1: ["kernel"], 2: ["kernel", "bias"], 4: ["gamma", "beta", "moving_mean", "moving_variance"]}[n]


@pytest.fixture(scope="module")
def weights(model: keras.Model) -> dict[str, list[np.ndarray]]:
    names = ["conv2d", "conv2d_1", "dense", "dense_1"]
    arrays = model.get_weights()
    return {name: arrays[2 * at : 2 * at + 2] for at, name in enumerate(names)}


FORMS = {
    "an input layer and a first layer that both say the shape": sequential(
        [INPUT, *first(digits_layers(), batch_input_shape=SHAPE)]
    ),
    "a first layer that says the shape": sequential(first(digits_layers(), batch_input_shape=SHAPE)),
    "an input layer alone": sequential([INPUT, *digits_layers()]),
    "a list of layers": {"class_name": "Sequential", "config": sequential([INPUT, *digits_layers()])["config"]},
    "a functional model": functional(digits_layers()),
    "a functional model called Model": functional(digits_layers(), "Model"),
    "a functional model whose first layer says the shape": functional(first(digits_layers(), batch_input_shape=SHAPE)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_keras_2_gives_the_same_logits(
    name: str, weights: dict[str, list[np.ndarray]], model: keras.Model, digits: Dataset, tmp_path: Path
) -> None:
    network = load_file(written(tmp_path / "m.h5", FORMS[name], weights))
    x = digits.x_test[:16]
    np.testing.assert_allclose(run(network, x), run(model, x), atol=1e-5)


def test_settings_that_keras_3_no_longer_has_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    norm = {"axis": [3], "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True, "beta_initializer": ZEROS}
    depth = {
        "kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "data_format": "channels_last", "groups": 1,
        "dilation_rate": [1, 1], "activation": "relu", "use_bias": True, "bias_initializer": ZEROS,
        "depth_multiplier": 1, "depthwise_initializer": GLOROT,
    }  # fmt: skip
    layers = [
        INPUT,
        plain("BatchNormalization", "bn", **norm),
        plain("DepthwiseConv2D", "deep", **depth),
        plain("LeakyReLU", "leaky", alpha=0.25),
        plain("GlobalAveragePooling2D", "pool", data_format="channels_last"),
        dense("dense", 3),
    ]
    held = {
        "bn": [np.full(1, n, np.float32) for n in (2.0, 0.5, 0.1, 0.9)],
        "deep": [rng.normal(size=(3, 3, 1, 1)).astype(np.float32), np.zeros(1, np.float32)],
        "dense": [rng.normal(size=(1, 3)).astype(np.float32), np.zeros(3, np.float32)],
    }
    network = load_file(written(tmp_path / "m.h5", sequential(layers), held))
    x = rng.uniform(size=(4, 28, 28, 1)).astype(np.float32)
    normal = ((x - 0.1) / np.sqrt(0.901) * 2 + 0.5).astype(np.float32)
    hidden = keras.ops.depthwise_conv(normal, held["deep"][0], padding="same")
    expected = np.maximum(np.asarray(hidden), 0).mean(axis=(1, 2)) @ held["dense"][0]
    np.testing.assert_allclose(np.asarray(network(x)), expected, atol=1e-4)


def test_mixed_precision_becomes_float32(
    weights: dict[str, list[np.ndarray]], model: keras.Model, digits: Dataset, tmp_path: Path
) -> None:
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    layers = [layer | {"config": layer["config"] | {"dtype": policy}} for layer in digits_layers()]
    network = load_file(written(tmp_path / "m.h5", sequential([INPUT, *layers]), weights))
    x = digits.x_test[:16]
    np.testing.assert_allclose(run(network, x), run(model, x), atol=1e-5)


def test_weights_of_another_shape_are_refused(weights: dict[str, list[np.ndarray]], tmp_path: Path) -> None:
    from gauntlet.errors import ModelError

    wrong = weights | {"dense_1": [np.zeros((32, 9), np.float32), np.zeros(9, np.float32)]}
    path = written(tmp_path / "m.h5", sequential([INPUT, *digits_layers()]), wrong)
    with pytest.raises(ModelError, match="not a readable Keras model"):
        load_file(path)


def test_the_frozen_network_is_the_one_written_here() -> None:
    kinds = [type(layer).__name__ for layer in network().layers]
    assert kinds == [layer["class_name"] for layer in digits_layers()]


def test_it_is_tried_in_a_process_of_its_own(weights: dict[str, list[np.ndarray]], tmp_path: Path) -> None:
    assert load_file(written(tmp_path / "m.h5", FORMS[next(iter(FORMS))], weights)).count_params() == 75_338
