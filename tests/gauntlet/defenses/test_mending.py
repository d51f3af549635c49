"""What takes a backdoor out: pruning, unlearning, training without suspects, on a model that has one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.backdoor.features import hidden, layers
from gauntlet.backdoor.suspects import activation_clusters, clustered, spectral_scores
from gauntlet.data.datasets import Dataset
from gauntlet.defenses.mending import FinePruning, Unlearning, WithoutSuspects, copied
from gauntlet.defenses.relearning import UPHILL, AntiBackdoorLearning, AttentionDistillation, attentions, unlearned
from gauntlet.errors import ModelError
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.poisoning import CornerTrigger, Poisoned
from gauntlet.training.fit import Trained, Training

TRIGGER = CornerTrigger(target=3, rate=0.08)
TRAINING = Training(epochs=6, batch_size=32)


@pytest.fixture(scope="module")
def poisoned(digits: Dataset) -> tuple[Dataset, Poisoned]:
    """The digits as an attacker hands them over."""
    made = TRIGGER.poison(digits.x_train, digits.y_train, seed=0)
    return replace(digits, x_train=made.x, y_train=made.y), made


@pytest.fixture(scope="module")
def backdoored(poisoned: tuple[Dataset, Poisoned]) -> CompiledClassifier:
    """A small network trained on them."""
    data, _ = poisoned
    keras.utils.set_random_seed(0)
    nn = keras.layers
    stack = [nn.Conv2D(16, 5, 2, "same", activation="relu"), nn.Conv2D(32, 3, 2, "same", activation="relu")]
    stack += [nn.Flatten(), nn.Dense(64, activation="relu"), nn.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.x_train, data.y_train, batch_size=32, epochs=12, verbose=0)
    return CompiledClassifier(model)


def success(model: CompiledClassifier, data: Dataset) -> float:
    others = data.y_test != TRIGGER.target
    return float((model.labels(TRIGGER.trigger(data.x_test[others])) == TRIGGER.target).mean())


def accuracy(model: CompiledClassifier, data: Dataset) -> float:
    return float((model.labels(data.x_test) == data.y_test).mean())


def test_the_model_has_a_backdoor(backdoored: CompiledClassifier, digits: Dataset) -> None:
    assert success(backdoored, digits) > 0.9
    assert accuracy(backdoored, digits) > 0.9


def test_unlearning_takes_the_backdoor_out_and_keeps_the_accuracy(
    backdoored: CompiledClassifier, digits: Dataset
) -> None:
    weights = backdoored.model.get_weights()
    mended = CompiledClassifier(Unlearning(steps=160, epochs=3).apply(digits, TRAINING, backdoored).model)
    assert success(mended, digits) < 0.3
    assert accuracy(mended, digits) > accuracy(backdoored, digits) - 0.05
    for before, after in zip(weights, backdoored.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_fine_pruning_leaves_channels_silent_and_keeps_the_accuracy(
    backdoored: CompiledClassifier, digits: Dataset
) -> None:
    mended = FinePruning(tolerated=0.1).apply(digits, TRAINING, backdoored).model
    kernel, bias = next(one for one in reversed(mended.layers) if isinstance(one, keras.layers.Conv2D)).get_weights()
    silent = ~kernel.any(axis=(0, 1, 2)) & (bias == 0)
    assert 0 < silent.sum() < 32
    assert accuracy(CompiledClassifier(mended), digits) > accuracy(backdoored, digits) - 0.05


def test_training_without_suspects_suspects_poison_and_trains_without_it(
    poisoned: tuple[Dataset, Poisoned], backdoored: CompiledClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = poisoned
    trained_on: list[np.ndarray] = []

    def train(*_: Any, x: np.ndarray, y: np.ndarray, **__: Any) -> Trained:
        trained_on.extend([x, y])
        return Trained(backdoored.model, {"loss": [0.0]}, 1.0)

    monkeypatch.setattr("gauntlet.defenses.mending.train", train)
    WithoutSuspects(silhouette=0.2, share=0.45).apply(data, TRAINING, backdoored)
    dropped = clustered(hidden(backdoored.model, data.x_train), data.y_train, TRAINING.seed, 0.2, 0.45)
    assert len(dropped) > 0
    assert np.isin(dropped, made.index).mean() > 2 * len(made.index) / len(data.x_train)
    kept = np.setdiff1d(np.arange(len(data.x_train)), dropped)
    np.testing.assert_array_equal(trained_on[1], data.y_train[kept])
    np.testing.assert_array_equal(trained_on[0], data.x_train[kept])


@pytest.mark.slow
def test_attention_distillation_takes_the_backdoor_out_and_keeps_the_accuracy(
    backdoored: CompiledClassifier, digits: Dataset
) -> None:
    mended = CompiledClassifier(AttentionDistillation().apply(digits, TRAINING, backdoored).model)
    assert success(mended, digits) < 0.5
    assert accuracy(mended, digits) > accuracy(backdoored, digits) - 0.05


def test_attention_is_where_a_convolution_is_active(backdoored: CompiledClassifier, small: Any) -> None:
    first, second = attentions(backdoored.model).predict(small.x_test[:6], verbose=0)
    assert (first.shape, second.shape) == ((6, 14 * 14), (6, 7 * 7))
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    inner = keras.Model(backdoored.model.inputs, backdoored.model.layers[0].output)
    maps = (inner.predict(small.x_test[:6], verbose=0) ** 2).mean(axis=-1).reshape(6, -1)
    np.testing.assert_allclose(first, maps / np.linalg.norm(maps, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.slow
def test_anti_backdoor_learning_needs_no_clean_image(
    poisoned: tuple[Dataset, Poisoned], backdoored: CompiledClassifier, digits: Dataset
) -> None:
    data, _ = poisoned
    learned = CompiledClassifier(AntiBackdoorLearning(isolated=0.03).apply(data, TRAINING, backdoored).model)
    assert success(learned, digits) < success(backdoored, digits) - 0.1
    assert accuracy(learned, digits) > 0.9


def test_what_is_unlearned_loses_until_chance() -> None:
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 9.0]], np.float32)
    losses = np.asarray(unlearned(keras.ops.array([0, UPHILL - 0, UPHILL - 0]), logits))
    right = np.log1p(np.exp(-2.0))
    np.testing.assert_allclose(losses, [right, -right, -np.log(2)], rtol=1e-5)


def test_a_network_without_convolutions_is_not_pruned(digits: Dataset) -> None:
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    with pytest.raises(ModelError, match="needs a network with convolutions"):
        FinePruning().apply(digits, TRAINING, CompiledClassifier(model))
    with pytest.raises(ModelError, match="needs convolutions"):
        attentions(model)
    with pytest.raises(ModelError, match="no hidden layer"):
        hidden(model, digits.x_test[:2])


def test_layers_and_hidden_activations_are_found_in_nested_models(backdoored: CompiledClassifier, small: Any) -> None:
    images = keras.Input((28, 28, 1))
    nested = keras.Model(images, backdoored.model(keras.layers.Rescaling(1.0)(images)))
    assert layers(nested)[-5:] == layers(backdoored.model)[-5:]
    np.testing.assert_allclose(hidden(nested, small.x_test[:6]), hidden(backdoored.model, small.x_test[:6]), atol=1e-5)
    assert hidden(nested, small.x_test[:6]).shape == (6, 64)
    assert copied(backdoored.model) is not backdoored.model


# --- suspects -----------------------------------------------------------------------------------------------


def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes of 200; 30 images of the second lie elsewhere."""
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(400, 20)).astype(np.float32), np.repeat([0, 1], 200)
    index = np.arange(200, 230)
    features[index, 3] += 9
    return features, y, index


def test_spectral_scores_are_largest_for_what_lies_apart() -> None:
    features, y, index = planted()
    scores = spectral_scores(features, y)
    assert set(np.argsort(-scores)[:30]) == set(index)
    assert scores[y == 0].max() < scores[index].min()


def test_clusters_are_apart_in_the_poisoned_class_only() -> None:
    features, y, index = planted()
    clusters = activation_clusters(features, y)
    assert clusters[1].silhouette > 0.3 > clusters[0].silhouette
    assert clusters[1].share == pytest.approx(0.15)
    np.testing.assert_array_equal(clustered(features, y, 0, 0.3, 0.35), index)
    assert clustered(features, y, 0, 0.3, 0.1).size == 0


def test_a_class_of_few_images_is_left_alone() -> None:
    features, y, _ = planted()
    assert set(activation_clusters(features[:205], y[:205])) == {0}
