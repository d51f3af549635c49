"""An autoencoder learns images, and a classifier behind it is one model: attacked, saved and loaded as one."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from gauntlet.attacks import Pgd
from gauntlet.data.datasets import Dataset
from gauntlet.defenses.autoencoder import Autoencoder, Sampling, behind
from gauntlet.defenses.training import VaeReconstruction
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.digest import digest
from gauntlet.models.files import load_file
from gauntlet.training.fit import Trained, Training

both = pytest.mark.parametrize("sampling", ["mean", "average"])
SETTINGS = {"epochs": 4, "batch_size": 32, "learning_rate": 1e-3, "seed": 0}


@pytest.fixture(scope="module")
def defended(digits: Dataset, classifier: CompiledClassifier) -> Trained:
    """The shared model behind an autoencoder."""
    defense = VaeReconstruction(epochs=12, batch_size=32)
    return defense.apply(digits, Training(seed=0), classifier)


def fitted(x: np.ndarray, seed: int = 0) -> tuple[Autoencoder, dict[str, list[float]]]:
    keras.utils.set_random_seed(seed)
    network = Autoencoder(x.shape[1:], hidden=32, latent=4)
    return network, network.fit(x, **SETTINGS | {"seed": seed})


def test_the_reconstruction_error_falls(defended: Trained, digits: Dataset) -> None:
    losses = defended.history
    assert losses["reconstruction_loss"][-1] < 0.6 * losses["reconstruction_loss"][0]
    parts = np.add(losses["reconstruction_loss"], losses["kl_loss"])
    np.testing.assert_allclose(losses["loss"], parts, rtol=1e-5)
    images = defended.model.get_layer("reconstruction").predict(digits.x_test, verbose=0)
    blank = ((digits.x_test - digits.x_train.mean(axis=0)) ** 2).sum(axis=(1, 2, 3)).mean()
    assert ((digits.x_test - images) ** 2).sum(axis=(1, 2, 3)).mean() < 0.7 * blank
    assert images.min() >= 0
    assert images.max() <= 1


def test_a_seed_gives_the_same_weights(small: Dataset) -> None:
    (first, told), (again, told_again), (other, _) = (fitted(small.x_train, seed) for seed in (1, 1, 2))
    assert told == told_again
    for mine, same in zip(first.encoder.get_weights(), again.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, same)
    assert not np.array_equal(first.encoder.get_weights()[0], other.encoder.get_weights()[0])


def test_the_weight_of_the_divergence_counts(small: Dataset) -> None:
    ends = []
    for weight in (0.0, 10.0):
        keras.utils.set_random_seed(0)
        network = Autoencoder(small.input_shape, hidden=32, latent=4)
        ends.append(network.fit(small.x_train, kl_weight=weight, **SETTINGS)["kl_loss"][-1])
    assert ends[1] < 0.2 * ends[0]


def test_colour_images_keep_their_shape() -> None:
    x = np.random.default_rng(0).random((64, 9, 7, 3), dtype=np.float32)
    network, _ = fitted(x)
    assert network.reconstruction()(x).shape == x.shape


def test_an_average_is_over_the_drawn_codes(small: Dataset) -> None:
    network, _ = fitted(small.x_train)
    x, draws = small.x_test[:8], np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)
    mean, deviation = (np.asarray(part) for part in network.encoder(x))
    expected = np.mean([np.asarray(network.decoder(mean + deviation * draw)) for draw in draws], axis=0)
    images = np.asarray(network.reconstruction("average", samples=3, seed=5)(x))
    np.testing.assert_allclose(images.reshape(8, -1), expected, atol=1e-5)


@pytest.mark.slow
@both
def test_a_saved_model_gives_the_same_logits(
    sampling: Sampling, model: keras.Model, small: Dataset, tmp_path: Path
) -> None:
    network, _ = fitted(small.x_train)
    composed = behind(network.reconstruction(sampling, samples=3), model)
    composed.save(tmp_path / "composed.keras")
    loaded = load_file(tmp_path / "composed.keras")
    assert digest(loaded) == digest(composed)
    np.testing.assert_array_equal(*(m.predict(small.x_test, verbose=0) for m in (composed, loaded)))


@both
def test_the_gradient_passes_through_the_autoencoder(
    sampling: Sampling, model: keras.Model, classifier: CompiledClassifier, small: Dataset
) -> None:
    network, _ = fitted(small.x_train)
    composed = CompiledClassifier(behind(network.reconstruction(sampling, samples=3), model))
    x, y = small.x_test[:4].astype(np.float64), small.y_test[:4]
    ours, plain = (c.loss_gradient(small.x_test[:4], y) for c in (composed, classifier))
    assert (np.abs(ours).max(axis=(1, 2, 3)) > 1e-6).all()
    assert np.abs(ours - plain).max() > 1e-3
    # the slope along the gradient is what a step of that size really changes
    direction = ours / np.sqrt((ours**2).sum(axis=(1, 2, 3), keepdims=True))
    change = _losses(composed, x + 0.01 * direction, y) - _losses(composed, x - 0.01 * direction, y)
    np.testing.assert_allclose(change / 0.02, (ours * direction).sum(axis=(1, 2, 3)), rtol=0.2)


def _losses(classifier: CompiledClassifier, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax

    logits = classifier.predict(x.astype(np.float32)).astype(np.float64)
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]


def test_the_baseline_is_left_alone(model: keras.Model, classifier: CompiledClassifier, small: Dataset) -> None:
    before, nodes = digest(model), len(model._inbound_nodes)
    defended = VaeReconstruction(epochs=1).apply(small, Training(), classifier).model
    defended.set_weights([np.zeros_like(weights) for weights in defended.get_weights()])
    assert digest(model) == before
    assert len(model._inbound_nodes) == nodes


def test_white_box_hurts_more_than_transfer(defended: Trained, classifier: CompiledClassifier, digits: Dataset) -> None:
    target, attack = CompiledClassifier(defended.model), Pgd(max_iter=10).without_early_stop()
    x, y = digits.x_test[:120], digits.y_test[:120]
    correct = target.labels(x) == y
    made = [attack.run(model, x, y, 0.15, 0).images for model in (target, classifier)]
    white_box, transfer = ((correct & (target.labels(images) == y)).mean() for images in made)
    assert white_box < transfer - 0.3
