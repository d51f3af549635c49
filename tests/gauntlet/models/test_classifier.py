"""The compiled classifier gives what ART's own gives, only sooner."""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from art.estimators.classification import TensorFlowV2Classifier

from gauntlet.attacks import one_hot
from gauntlet.data.datasets import Dataset
from gauntlet.errors import ModelError
from gauntlet.models import classifier as module
from gauntlet.models.classifier import CHUNK, CompiledClassifier

N = 16


@pytest.fixture(scope="module")
def plain(model: keras.Model) -> TensorFlowV2Classifier:
    """ART's own; its loss is a mean over the batch unless told otherwise, ours is per image."""
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    return TensorFlowV2Classifier(model, 10, (28, 28, 1), loss_object=loss, clip_values=(0.0, 1.0))


def test_predictions_are_arts(classifier: CompiledClassifier, plain: TensorFlowV2Classifier, digits: Dataset) -> None:
    ours, theirs = (c.predict(digits.x_test[:N]) for c in (classifier, plain))
    assert ours.shape == (N, 10)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(14, 56, 1), (28, 28, 3), (28, 28), (784,)])
def test_other_shapes_are_refused_and_another_thread_does_not_wait(
    shape: tuple[int, ...], classifier: CompiledClassifier
) -> None:
    with pytest.raises(ModelError, match=r"expected images of shape \(28, 28, 1\), got"):
        classifier.predict(np.zeros((N, *shape), np.float32))
    other = threading.Thread(target=classifier.predict, args=(np.zeros((N, 28, 28, 1), np.float32),), daemon=True)
    other.start()
    other.join(60)
    assert not other.is_alive()


def test_labels_are_the_largest_logits(classifier: CompiledClassifier, digits: Dataset) -> None:
    labels = classifier.labels(digits.x_test[:N])
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, classifier.predict(digits.x_test[:N]).argmax(axis=1))


def test_loss_gradients_are_arts(
    classifier: CompiledClassifier, plain: TensorFlowV2Classifier, digits: Dataset
) -> None:
    x, y = digits.x_test[:N], one_hot(digits.y_test[:N], 10)
    theirs = plain.loss_gradient(x, y)
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(classifier.loss_gradient(x, y), theirs, atol=1e-5)


def test_a_loss_gradient_does_not_depend_on_the_rest_of_the_batch(
    classifier: CompiledClassifier, digits: Dataset
) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    alone = classifier.loss_gradient(x[3:4], y[3:4])
    np.testing.assert_allclose(classifier.loss_gradient(x, y)[3:4], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("label", "n_labels"),
    [(None, 10), (3, 1), (0, 1), (np.arange(N) % 10, 1)],
    ids=["every class", "one class", "class 0", "a class per image"],
)
def test_class_gradients_are_arts(
    label: Any, n_labels: int, classifier: CompiledClassifier, plain: TensorFlowV2Classifier, digits: Dataset
) -> None:
    x = digits.x_test[:N]
    theirs = plain.class_gradient(x, label)
    assert theirs.shape == (N, n_labels, 28, 28, 1)
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(classifier.class_gradient(x, label), theirs, atol=1e-5)


@pytest.mark.parametrize("n", [CHUNK, CHUNK + 2, 2 * CHUNK + 1])
def test_chunks_give_what_one_batch_gives(
    n: int, classifier: CompiledClassifier, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits.x_test[:n], digits.y_test[:n]
    chunked = classifier.predict(x), classifier.loss_gradient(x, y), classifier.class_gradient(x, y)
    monkeypatch.setattr(module, "CHUNK", 10 * CHUNK)
    whole = (
        classifier.predict(x, batch_size=10 * CHUNK),
        classifier.loss_gradient(x, y),
        classifier.class_gradient(x, y),
    )
    for ours, expected in zip(chunked, whole, strict=True):
        assert len(ours) == n
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("n", [N, CHUNK + 2])
def test_a_tensor_gives_a_tensor_and_an_array_an_array(n: int, classifier: CompiledClassifier, digits: Dataset) -> None:
    x, y = digits.x_test[:n], digits.y_test[:n]
    array = classifier.loss_gradient(x, one_hot(y, 10))
    tensor = classifier.loss_gradient(tf.constant(x), tf.one_hot(y, 10))
    assert isinstance(array, np.ndarray)
    assert tf.is_tensor(tensor)
    np.testing.assert_allclose(tensor.numpy(), array, atol=1e-6)


def test_labels_may_be_numbers_or_one_hot(classifier: CompiledClassifier, digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    expected = classifier.loss_gradient(x, one_hot(y, 10))
    np.testing.assert_array_equal(classifier.loss_gradient(x, y), expected)
    np.testing.assert_array_equal(classifier.loss_gradient(tf.constant(x), tf.constant(y)).numpy(), expected)


def test_dropout_is_off(classifier: CompiledClassifier, digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    np.testing.assert_array_equal(classifier.predict(x), classifier.predict(x))
    np.testing.assert_array_equal(classifier.loss_gradient(x, y), classifier.loss_gradient(x, y))


def test_gradients_with_dropout_on_are_refused(classifier: CompiledClassifier, digits: Dataset) -> None:
    x, y = digits.x_test[:N], digits.y_test[:N]
    with pytest.raises(ModelError, match="training_mode is not served"):
        classifier.loss_gradient(x, y, training_mode=True)
    with pytest.raises(ModelError, match="training_mode is not served"):
        classifier.class_gradient(x, 0, training_mode=True)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [((784,), []), ((28, 28, 1), []), ((28, 28), [keras.layers.Flatten()])],
    ids=["flat images", "maps for logits", "images without channels"],
)
def test_a_model_that_is_not_images_to_logits_is_refused(shape: tuple[int, ...], layers: list[keras.Layer]) -> None:
    network = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(10)])
    with pytest.raises(ModelError, match=r"expected images in, logits out; got \(None, "):
        CompiledClassifier(network)


def test_bounds_are_those_given() -> None:
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    compiled = CompiledClassifier(network, bounds=(-1.0, 1.0))
    np.testing.assert_array_equal(np.asarray(compiled.clip_values), (-1, 1))
    assert compiled.input_shape == (4, 4, 1)
    assert compiled.nb_classes == 3
