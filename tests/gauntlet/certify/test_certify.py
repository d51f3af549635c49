"""Certificates hold: nothing that is certified is broken, whatever the layer, the norm and the attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as nn

from gauntlet.attacks import attack
from gauntlet.certify import CERTIFIERS, Certifier, Crown, Interval, Smoothing, certifier, certify
from gauntlet.certify import prover as proving
from gauntlet.certify.bounds import Region, intervals
from gauntlet.certify.linear import lowest
from gauntlet.certify.network import Network
from gauntlet.certify.prover import Prover
from gauntlet.data.datasets import Dataset
from gauntlet.errors import InputError, ModelError
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Norm

SHAPE = (8, 8, 1)
BODIES: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [nn.Flatten(), nn.Dense(16, activation="relu"), nn.Dense(16, activation="relu")],
    "convolution": lambda: [nn.Conv2D(4, 3, strides=2, activation="relu"), nn.Flatten()],
    "same padding": lambda: [nn.Conv2D(4, 3, strides=2, padding="same", activation="relu"), nn.Flatten()],
    "depthwise": lambda: [nn.DepthwiseConv2D(3, depth_multiplier=2), nn.ReLU(), nn.Flatten()],
    "largest of four": lambda: [nn.Conv2D(4, 3, activation="relu"), nn.MaxPooling2D(), nn.Flatten()],
    "overlapping maxima": lambda: [nn.Conv2D(3, 3), nn.MaxPooling2D(3, 2, padding="same"), nn.ReLU(), nn.Flatten()],
    "averages": lambda: [nn.Conv2D(4, 3, activation="relu"), nn.AveragePooling2D(3, 2, padding="same"), nn.Flatten()],
    "global average": lambda: [nn.Conv2D(6, 3, activation="relu"), nn.GlobalAveragePooling2D()],
    "batch norm": lambda: [nn.Conv2D(4, 3), nn.BatchNormalization(), nn.ReLU(), nn.Flatten()],
    "rescaled": lambda: [nn.Rescaling(2.0, -1.0), nn.Flatten(), nn.Dense(12, activation="relu")],
    "normalised": lambda: [nn.Normalization(mean=0.3, variance=0.2), nn.Flatten(), nn.Dense(12, activation="relu")],
    "leaky": lambda: [nn.Flatten(), nn.Dense(12), nn.LeakyReLU(0.1), nn.Dense(8, activation="leaky_relu")],
    "sigmoid": lambda: [nn.Flatten(), nn.Dense(12, activation="sigmoid")],
    "tanh": lambda: [nn.Flatten(), nn.Dense(12), nn.Activation("tanh"), nn.Dropout(0.5)],
    "padded and moved": lambda: [nn.ZeroPadding2D(1), nn.Permute((2, 1, 3)), nn.Reshape((100,)), nn.Dense(9, "relu")],
    "nested": lambda: [keras.Sequential([keras.Input(SHAPE), nn.Flatten(), nn.Dense(9, "relu")]), nn.Dense(9, "relu")],
}
NORMS: dict[Norm, float] = {"inf": 0.03, "2": 0.2}
every_body = pytest.mark.parametrize("body", BODIES)
every_norm = pytest.mark.parametrize("norm", NORMS)


def made(body: str, seed: int = 0, classes: int = 3) -> keras.Model:
    """A network of random weights; batch norms have statistics that do something."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(SHAPE), *BODIES[body](), nn.Dense(classes)])
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, nn.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.normal(1, 0.5, shape), *rng.normal(0, 0.3, (2, *shape)), rng.uniform(0.3, 2, shape)])
    return model


def residual(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    images = keras.Input(SHAPE)
    hidden = nn.Conv2D(4, 3, padding="same", activation="relu")(images)
    again = nn.Conv2D(4, 3, padding="same")(hidden)
    hidden = nn.ReLU()(nn.Add()([hidden, again]))
    hidden = nn.Flatten()(nn.Concatenate()([hidden, nn.MaxPooling2D(3, 1, padding="same")(hidden)]))
    return keras.Model(images, nn.Dense(3)(hidden))


def points(n: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *SHAPE)).astype(np.float32)


def neighbours(x: np.ndarray, eps: float, norm: Norm, draws: int = 60) -> np.ndarray:
    """Images at the edge of the budget, clipped to the pixel range."""
    rng = np.random.default_rng(1)
    moved = rng.choice([-1.0, 1.0], (draws, *x.shape)) if norm == "inf" else rng.normal(size=(draws, *x.shape))
    if norm == "2":
        moved /= np.sqrt((moved**2).sum(axis=(2, 3, 4), keepdims=True))
    return np.asarray(np.clip(x + eps * moved, 0, 1), np.float32)


@every_norm
@pytest.mark.parametrize("body", [*BODIES, "residual"])
def test_no_output_leaves_its_bounds(body: str, norm: Norm) -> None:
    """Every logit of images within the budget lies between the bounds, by intervals and by lines."""
    model = residual() if body == "residual" else made(body)
    x, eps, network = points(), NORMS[norm], Network(model)
    region = Region.around(x, eps, norm)
    result = intervals(network, region)
    k = network.n_classes
    rows = tf.tile(tf.eye(k, dtype=tf.float64)[:, None], [1, len(x), 1])
    low, high = (
        sign * lowest(network, len(network.steps) - 1, sign * rows, result, region).numpy().T for sign in (1, -1)
    )
    error = result[-1].error.numpy()
    for images in neighbours(x, eps, norm):
        logits = model(images, training=False).numpy()
        assert (logits >= np.maximum(low, result[-1].low) - error).all()
        assert (logits <= np.minimum(high, result[-1].high) + error).all()
    assert (error < 1e-3).all()


def test_lines_are_tried_on_the_most_promising_images_first_and_on_no_more_once_many_failed() -> None:
    model, x = made("dense"), points(40)
    target, eps = CompiledClassifier(model), 0.01
    y = target.labels(x)
    everyone = Prover(Network(model), "inf", (0.0, 1.0), 1_000_000).margins(x, y, eps, lines=True) > 0
    by_intervals = Interval().prove(target, x, y, eps, 0)
    assert by_intervals.sum() < everyone.sum() < len(x)
    for patience, least in ((1, by_intervals.sum()), (len(x), everyone.sum()), (0, everyone.sum())):
        some = Crown(patience=patience).prove(target, x, y, eps, 0)
        assert not (some & ~everyone).any()
        assert some.sum() >= least


def test_nothing_is_spent_on_images_of_which_none_can_be_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "NUMBERS", 1)  # a chunk an image
    prover, x = Prover(Network(made("dense")), "inf", (0.0, 1.0)), points(40)
    asked = list[int]()
    linear = prover._linear
    monkeypatch.setattr(prover, "_linear", lambda x, y, eps: asked.append(len(x)) or linear(x, y, eps))
    prover.margins(x, np.zeros(40, np.int64), 0.9, lines=True, patience=5)
    assert sum(asked) == 5


@every_body
def test_without_a_budget_the_bounds_are_the_network(body: str) -> None:
    """Steps, constants and order are those of the model: nothing is lost on the way to float64."""
    model, x = made(body), points()
    low, high, error = (one.numpy() for one in intervals(Network(model), Region.around(x, 0.0, "inf"))[-1])
    logits = model(x, training=False).numpy()
    np.testing.assert_allclose(low, high, atol=1e-9)
    assert (np.abs(logits - low) <= error).all()


@every_norm
@pytest.mark.parametrize("name", ["interval", "crown"])
def test_nothing_that_is_certified_is_broken(
    trained: CompiledClassifier, digits: Dataset, name: str, norm: Norm
) -> None:
    x, y = digits.x_test[:100], digits.y_test[:100]
    eps = {"inf": 0.01, "2": 0.1}[norm]
    proven = certifier(f"{name}:norm={norm}").prove(trained, x, y, eps, 0)
    for text in (f"pgd:norm={norm},max_iter=20", f"apgd-ce:norm={norm},max_iter=20", f"fgsm:norm={norm}"):
        images = attack(text).run(trained, x, y, eps, 0).images
        assert (trained.labels(images) == y)[proven].all()
    assert name == "interval" or proven.mean() > 0.5


def test_lines_prove_more_than_intervals_and_less_at_larger_budgets(
    trained: CompiledClassifier, digits: Dataset
) -> None:
    x, y = digits.x_test[:100], digits.y_test[:100]
    before = np.ones(len(x), bool)
    for eps in (1e-6, 0.005, 0.01, 0.02, 0.05):
        intervals_, lines = (one.prove(trained, x, y, eps, 0) for one in (Interval(), Crown()))
        assert not (intervals_ & ~lines).any()
        assert not (lines & ~before).any()
        before = lines
    assert not before.all()


def test_an_image_has_the_same_status_in_any_batch(trained: CompiledClassifier, digits: Dataset) -> None:
    x, y = digits.x_test[:40], digits.y_test[:40]
    whole = Crown().prove(trained, x, y, 0.01, 0)
    parts = [Crown().prove(trained, x[rows], y[rows], 0.01, 0) for rows in (slice(0, 7), slice(7, 40))]
    assert (whole == np.concatenate(parts)).all()


def test_a_wrong_image_and_a_tie_are_not_certified() -> None:
    """Two classes with the same weights tie everywhere; an argmax says the first, a proof says neither."""
    model = keras.Sequential([keras.Input(SHAPE), nn.Flatten(), nn.Dense(2)])
    column = np.random.default_rng(0).normal(size=(64, 1))
    model.layers[-1].set_weights([np.repeat(column, 2, axis=1), np.zeros(2)])
    target = CompiledClassifier(model)
    for label in (0, 1):
        assert not Crown().prove(target, points(), np.full(6, label), 1e-6, 0).any()


def test_a_network_that_is_linear_is_certified_exactly() -> None:
    """The smallest margin of a linear model over a box is a sum over pixels: proven just below it, not above."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input(SHAPE), nn.Flatten(), nn.Dense(2)])
    weights = rng.normal(size=(64, 2)).astype(np.float32)
    model.layers[-1].set_weights([weights, np.zeros(2)])
    x = 0.3 + 0.4 * points(1)  # no pixel reaches its bounds
    scores = x.reshape(1, -1).astype(np.float64) @ weights
    y = scores.argmax(axis=1)
    slope = weights[:, y[0]].astype(np.float64) - weights[:, 1 - y[0]]
    reach = {"inf": np.abs(slope).sum(), "2": np.sqrt((slope**2).sum())}
    for norm, gradient in reach.items():
        edge = float(np.ptp(scores) / gradient)
        for share, expected in ((0.99, True), (1.01, False)):
            result = certifier(f"crown:norm={norm}").prove(CompiledClassifier(model), x, y, share * edge - 1e-5, 0)
            assert result.tolist() == [expected], (norm, share)


REFUSED = {
    "softmax layer": ([nn.Flatten(), nn.Dense(4), nn.Softmax(), nn.Dense(3)], "Softmax"),
    "gelu": ([nn.Flatten(), nn.Dense(4, activation="gelu"), nn.Dense(3)], "the activation gelu"),
    "bounded": ([nn.Flatten(), nn.Dense(4), nn.ReLU(6.0), nn.Dense(3)], "a bounded ReLU"),
    "attention": ([nn.Reshape((8, 8)), nn.LSTM(4), nn.Dense(3)], "LSTM"),
}


@pytest.mark.parametrize(("layers", "says"), REFUSED.values(), ids=REFUSED)
def test_a_layer_without_bounds_is_named(layers: list[Any], says: str) -> None:
    target = CompiledClassifier(keras.Sequential([keras.Input(SHAPE), *layers]))
    with pytest.raises(ModelError, match=says) as caught:
        Crown().check(target)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_library_is_told_the_way() -> None:
    class Other:
        access, model, clip_values = "gradients", object(), (0.0, 1.0)

    with pytest.raises(ModelError, match=r"need the layers of a Keras model \(export it to ONNX"):
        Crown().check(Other())  # type: ignore[arg-type]


def test_half_precision_is_refused() -> None:
    model = keras.Sequential([keras.Input(SHAPE), nn.Flatten(), nn.Dense(4, dtype="mixed_bfloat16"), nn.Dense(3)])
    with pytest.raises(ModelError, match="computes in bfloat16"):
        Interval().check(CompiledClassifier(model))


# --- smoothing ----------------------------------------------------------------------------------------------


def test_a_smoothed_model_that_never_changes_is_certified_as_far_as_its_draws_reach() -> None:
    """All draws alike: the bound is alpha^(1/n), and the radius follows (Cohen et al. 2019, section 3.2.2)."""
    model = keras.Sequential([keras.Input(SHAPE), nn.Flatten(), nn.Dense(2)])
    model.layers[-1].set_weights([np.zeros((64, 2)), np.array([1.0, 0.0])])
    settings = Smoothing(sigma=0.5, draws=200, first=10, alpha=0.001)
    radius = 0.5 * 1.8218  # 0.5 Phi^-1(0.001 ** (1 / 200)), Phi^-1(0.96605) = 1.826
    target, x = CompiledClassifier(model), points(3)
    result = settings.radius(target, x[0], 0, 0, 0)
    assert result == pytest.approx(radius, rel=0.01)
    assert settings.radius(target, x[0], 1, 0, 0) == -1
    assert settings.prove(target, x, np.array([0, 0, 1]), result, 0).tolist() == [True, True, False]
    assert not settings.prove(target, x, np.zeros(3, np.int64), result + 1e-6, 0).any()


# --- every certificate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CERTIFIERS.values(), ids=CERTIFIERS)
def test_a_certificate_counts_all_images(kind: type[Certifier], trained: CompiledClassifier, digits: Dataset) -> None:
    index = np.arange(10, 40)
    result = certify(kind(), trained, digits.x_test, digits.y_test, 0.005, 0, index)
    again = certify(kind(), trained, digits.x_test, digits.y_test, 0.005, 0, index)
    accuracy = result.accuracy("model")
    assert (result.proven == again.proven).all()
    assert (accuracy.n, accuracy.value) == (30, result.proven.mean())
    assert accuracy.label == f"certified {result.certifier.name}{' L2' if result.certifier.norm == '2' else ''} 0.005"
    assert result.frame()["index"].tolist() == index.tolist()


@pytest.mark.parametrize("name", CERTIFIERS)
def test_every_setting_says_what_it_is(name: str) -> None:
    fields = CERTIFIERS[name].model_fields
    assert all(field.description for key, field in fields.items() if key != "name")


def test_a_model_that_hides_its_gradients_is_refused_and_told_what_to_take() -> None:
    class Hidden:
        access = "labels"

    with pytest.raises(InputError, match=r"needs gradients .* \(take smoothing\)"):
        Crown().check(Hidden())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> CompiledClassifier:
    """A small dense network, trained a little."""
    keras.utils.set_random_seed(0)
    layers = [nn.Flatten(), nn.Dense(24, activation="relu"), nn.Dense(24, activation="relu"), nn.Dense(10)]
    model = keras.Sequential([keras.Input(digits.input_shape), *layers])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.x_train, digits.y_train, epochs=15, batch_size=64, verbose=0)
    return CompiledClassifier(model)
