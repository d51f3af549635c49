"""SavedModel folders, whoever saved them: white-box through their serving signature, and inspected before."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError
from gauntlet.models import files, trial
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.files import check_file, load_file
from gauntlet.models.loaded import Expected
from gauntlet.models.outputs import run
from gauntlet.models.savedmodel import Signature

N = 64


class Served(tf.Module):
    """The network behind a signature of a stranger's."""

    def __init__(self, model: keras.Model, kind: str) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def serve(self, images: tf.Tensor) -> Any:
        """By what is odd about it."""
        if self.kind == "reads a file":
            images += tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32) * 0
        if self.kind == "text":
            return self.model(tf.zeros((1, 28, 28, 1))) + tf.cast(tf.strings.length(images)[:, None], tf.float32)
        x = tf.cast(images, tf.float32) / 255 if self.kind == "bytes" else images
        scores = self.model(x, training=False)
        if self.kind == "two outputs":
            return {"scores": tf.nn.softmax(scores), "features": tf.reduce_mean(x, axis=(1, 2))}
        return scores


def saved(model: keras.Model, kind: str, folder: Path) -> Path:
    """A folder of this kind."""
    if kind == "keras":
        model.export(str(folder), verbose=False)
        return folder
    if kind.startswith("version 1"):
        return of_session(folder, resource=kind.endswith("resources"))
    batch = 1 if kind == "one image" else None
    dtype = {"bytes": tf.uint8, "text": tf.string, "half": tf.float16}.get(kind, tf.float32)
    module = Served(model, kind)
    spec = tf.TensorSpec((None,) if kind == "text" else (batch, 28, 28, 1), dtype, name="pixels")
    served = tf.function(module.serve).get_concrete_function(spec)
    signatures = {} if kind == "no signature" else {"serving_default": served}
    tf.saved_model.save(module, str(folder), signatures=signatures or None)
    return folder


def of_session(folder: Path, *, resource: bool) -> Path:
    """As TensorFlow 1 saved them: one layer of a session's graph, and a softmax."""
    kernel, bias = np.random.default_rng(0).normal(size=(784, 10), scale=0.1).astype(np.float32), np.zeros(10, "f")
    old = tf.compat.v1
    with tf.Graph().as_default(), old.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = old.placeholder(tf.float32, (None, 28, 28, 1), name="Placeholder")
        k, b = (old.get_variable(n, initializer=w, use_resource=resource) for n, w in (("k", kernel), ("b", bias)))
        scores = tf.nn.softmax(tf.reshape(images, (-1, 784)) @ k + b)
        session.run(old.global_variables_initializer())
        old.saved_model.simple_save(session, str(folder), {"images": images}, {"scores": scores})
    return folder


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process in which a file is tried takes seconds to start."""
    monkeypatch.setattr(trial, "passed", lambda *_: None)
    monkeypatch.setattr(trial, "ahead", lambda *_: None)


@pytest.mark.parametrize("kind", ["keras", "module", "two outputs", "one image", "half"])
def test_a_folder_is_attacked_with_gradients(kind: str, model: keras.Model, digits: Dataset, tmp_path: Path) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    loaded = Expected().opened(load_file(saved(model, kind, tmp_path / "saved")), x, y, 10)
    twin = Expected().opened(model, x, y, 10)
    assert loaded.outputs == ("probabilities" if kind == "two outputs" else "logits")
    tolerance = 0.15 if kind == "half" else 1e-3
    ours, theirs = (one.white_box.look(x, y) for one in (loaded, twin))
    np.testing.assert_allclose(ours.logits * loaded.temperature, theirs.logits * twin.temperature, atol=tolerance)
    np.testing.assert_allclose(ours.gradient, theirs.gradient, atol=tolerance)


@pytest.mark.parametrize("kind", ["version 1", "version 1, resources"])
def test_what_tensorflow_1_saved_is_read(kind: str, model: keras.Model, digits: Dataset, tmp_path: Path) -> None:
    made = load_file(saved(model, kind, tmp_path / "saved"))
    x, y = digits.x_test[:N], digits.y_test[:N]
    loaded = Expected(accept_chance=True).opened(made, x, y, 10)
    assert loaded.outputs == "probabilities"  # its softmax is taken off
    kernel = np.random.default_rng(0).normal(size=(784, 10), scale=0.1).astype(np.float32)
    logits = loaded.white_box.predict(x) * loaded.temperature
    np.testing.assert_allclose(logits, x.reshape(N, -1) @ kernel, atol=1e-3)


def test_whole_numbers_have_no_gradient(
    model: keras.Model, digits: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = load_file(saved(model, "bytes", tmp_path / "saved"))
    assert isinstance(made, Signature)
    assert "the graph of this SavedModel has no gradients" in capsys.readouterr().err
    x, y = digits.x_test[:N], digits.y_test[:N]
    loaded = Expected().opened(made, x, y, 10)
    assert (loaded.classifier.access, loaded.input_range) == ("scores", "0..255")
    expected = run(model, (np.rint(255 * x) / 255).astype(np.float32))
    np.testing.assert_allclose(loaded.classifier.predict(x), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("reads a file", "ReadFile.*: refused"),
        ("text", "its input pixels is string, no pixels"),
        ("no signature", "it has no signature serving_default"),
    ],
)
def test_what_is_refused(kind: str, says: str, model: keras.Model, tmp_path: Path) -> None:
    folder = saved(model, kind, tmp_path / "saved")
    with pytest.raises(ModelError, match=says):
        load_file(folder)


def cut(folder: Path) -> None:
    """Half of the graph."""
    data = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(data[: len(data) // 2])


def linked(folder: Path) -> None:
    """Numbers that lie elsewhere."""
    (folder / "variables").rename(folder.with_name("elsewhere"))
    (folder / "variables").symlink_to(folder.with_name("elsewhere"))


def without_numbers(folder: Path) -> None:
    """A graph alone."""
    for file in (folder / "variables").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut, "saved_model.pb: not a SavedModel that can be read"),
        (linked, "its files are links: refused"),
        (without_numbers, "not a readable SavedModel"),
    ],
    ids=["cut off", "a link", "no numbers"],
)
def test_a_broken_folder_is_one_line(
    spoil: Callable[[Path], None], says: str, model: keras.Model, tmp_path: Path
) -> None:
    folder = saved(model, "keras", tmp_path / "saved")
    spoil(folder)
    with pytest.raises(ModelError, match=says):
        load_file(folder)


def test_code_beside_the_graph_is_not_read(model: keras.Model, tmp_path: Path) -> None:
    folder = saved(model, "keras", tmp_path / "saved")
    (folder / "assets" / "evil.py").write_text("raise SystemExit")
    check_file(folder)


def test_it_is_told_by_its_content_and_sent_to_workers(model: keras.Model, tmp_path: Path) -> None:
    folder = saved(model, "two outputs", tmp_path / "saved")
    one, same = (CompiledClassifier(_scores(load_file(folder))) for _ in range(2))
    other = CompiledClassifier(_scores(load_file(saved(_changed(model), "two outputs", tmp_path / "other"))))
    assert one.digest() == same.digest() != other.digest()
    one.model.save(tmp_path / "m.keras")
    again = CompiledClassifier(files.load_file(tmp_path / "m.keras", trust=True))
    assert again.digest() == one.digest()


def _scores(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs[0], model.output["scores"])


def _changed(model: keras.Model) -> keras.Model:
    made = keras.models.clone_model(model)
    made.set_weights([weights + 1e-3 for weights in model.get_weights()])
    return made
