"""Data of one's own through the flows: every flow takes it, and what it comes in makes no difference."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.attack import AttackConfig
from flows.cli import COMMANDS
from flows.command import Settings, declared
from gauntlet.data.stated import Stated
from gauntlet.errors import DataError
from tasks.context import Context
from tests.gauntlet.data import making as m

SIDE = 12


def shapes(n_train: int = 90, n_test: int = 30) -> dict[str, Any]:
    """Three classes that can be told apart: where an image is bright."""
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for part, n in (("train", n_train), ("test", n_test)):
        y = np.sort(np.arange(n) % 3)
        x = rng.integers(0, 60, (n, SIDE, SIDE, 3))
        for image, label in zip(x, y, strict=True):
            image[4 * label : 4 * label + 4, :, label] += 190
        made |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on the images, as a file."""
    import keras

    data = shapes()
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(data["x_train"] / 255, data["y_train"], epochs=30, verbose=0)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    network.save(path)
    return path


NO_DATA = ("scan", "audit", "completion", "move-store", "tidy")
"""Commands that look at code, logs, the shell and the store."""


@pytest.mark.parametrize("module", [it for name, it in COMMANDS.items() if "flows" in it and name not in NO_DATA])
def test_every_flow_on_data_takes_all_that_is_stated(module: str) -> None:
    importlib.import_module(module)
    command = declared(module)
    assert command is not None
    assert {"dataset", *Stated.model_fields} <= set(command.config.model_fields)


def test_the_tasks_are_told_all_of_it() -> None:
    assert set(Stated.model_fields) <= set(Context(dataset="digits").params())


FORMS = ("folder of PNG", "zip of a folder", "parquet of the hub", "npz")


@pytest.mark.slow
def test_an_attack_gives_the_same_whatever_the_data_comes_in(model: Path, store: str, tmp_path: Path) -> None:
    from flows.attack import attack

    found = {}
    for form in FORMS:
        (place := tmp_path / form).mkdir()
        told: dict[str, Any] = {"attack": ["pgd:max_iter=5"], "eps": [0.05, 0.1], "tracking_uri": store}
        result = attack(model=str(model), dataset=str(m.FORMS[form](place, shapes())), **told)
        found[form] = [(one["eps"], one["robust_accuracy"]) for one in result["results"]], result["clean_accuracy"]
    assert len(set(map(str, found.values()))) == 1
    assert found["npz"][1] > 0.9
    assert min(accuracy for _, accuracy in found["npz"][0]) < found["npz"][1]


def larger(folder: Path) -> Path:
    """The same images, each of another size."""
    files = m.pictures(shapes())
    for place, name in enumerate(sorted(files)):
        image = Image.open(io.BytesIO(files[name]))
        side = SIDE + place % 7
        files[name] = m.encoded(np.asarray(image.resize((side, side + 1))))
    return m.written(folder / "fruit", files)


def test_the_models_file_decides_how_large_images_are(model: Path, tmp_path: Path) -> None:
    config = AttackConfig(model=str(model), dataset=str(larger(tmp_path)))
    assert config.image_size == f"{SIDE}x{SIDE}"
    assert config.data().input_shape == (SIDE, SIDE, 3)
    assert config.data().prepared == (f"resized to {SIDE} x {SIDE} (bilinear, stretched)",)
    with pytest.raises(DataError, match="--image-size"):
        Settings(dataset=str(tmp_path / "fruit")).data()


def test_a_size_that_is_stated_stands(model: Path, tmp_path: Path) -> None:
    assert AttackConfig(model=str(model), dataset=str(larger(tmp_path)), image_size="9").data().input_shape[0] == 9
    assert AttackConfig(model=str(model), dataset="digits").image_size is None


def test_test_images_alone_are_attacked_and_not_trained_on(tmp_path: Path) -> None:
    tests = {name: array for name, array in shapes().items() if name.endswith("_test")}
    path, model = str(m.npz(tmp_path, tests)), str(tmp_path / "m.keras")
    assert not AttackConfig(dataset=path, model=model).trains
    for config in (Settings(dataset=path), AttackConfig(dataset=path, canaries=True)):
        with pytest.raises(DataError, match="holds test images alone"):
            Settings.check(config)


@pytest.mark.parametrize(("classes", "remarks"), [(None, 1), (4, 0)])
def test_classes_that_are_stated_are_not_remarked(
    classes: int | None, remarks: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shapes()
    shifted = data | {name: data[name] + 1 for name in ("y_train", "y_test")}
    Settings(dataset=str(m.npz(tmp_path, shifted)), classes=classes and classes + 1).check()
    assert capsys.readouterr().err.count("has no training image of class") == remarks
