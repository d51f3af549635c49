"""The exact status: what a search of a tiny network's whole budget finds, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as nn

from gauntlet.certify import Certified, Crown, Exact, certifier, certify, programme
from gauntlet.data.datasets import Dataset
from gauntlet.errors import InputError, ModelError
from gauntlet.models.classifier import CompiledClassifier
from tests.frozen import frozen

SHAPE = (1, 2, 1)
"""Two pixels: the whole budget can be searched on a grid."""
BODIES: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [nn.Flatten(), nn.Dense(8, "relu"), nn.Dense(8, "relu")],
    "leaky": lambda: [nn.Flatten(), nn.Dense(8), nn.LeakyReLU(0.2), nn.Dense(6, "relu")],
    "largest of two": lambda: [nn.Conv2D(6, 1), nn.MaxPooling2D((1, 2)), nn.ReLU(), nn.Flatten(), nn.Dense(6, "relu")],
    "padded maxima": lambda: [nn.Conv2D(5, 1), nn.MaxPooling2D((1, 2), 1, padding="same"), nn.Flatten()],
    "padded corners": lambda: [
        nn.Conv2D(5, 1),
        nn.MaxPooling2D(2, 2, padding="same"),
        nn.Flatten(),
        nn.Dense(6, "relu"),
    ],
    "batch norm": lambda: [nn.Conv2D(6, 1), nn.BatchNormalization(), nn.ReLU(), nn.Flatten(), nn.Dense(6, "relu")],
}
EPS = 0.15


def made(body: str, seed: int) -> CompiledClassifier:
    """A network of random weights, made steep enough to have a boundary nearby."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(SHAPE), *BODIES[body](), nn.Dense(3)])
    rng = np.random.default_rng(seed)
    model.set_weights(
        [rng.uniform(0.2, 1, w.shape) if (w > 0).all() else rng.normal(0, 1, w.shape) for w in model.get_weights()]
    )
    return CompiledClassifier(model)


def grid(x: np.ndarray, eps: float) -> np.ndarray:
    """All images (1, 2, 1) of the budget, on a grid with its corners."""
    axes = [np.linspace(max(0, pixel - eps), min(1, pixel + eps), 61) for pixel in x.ravel()]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, *SHAPE).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
def test_the_status_is_that_of_a_search_of_the_whole_budget(body: str) -> None:
    statuses = []
    for seed in range(3):
        target = made(body, seed)
        x = np.random.default_rng(seed).uniform(0.1, 0.9, (8, *SHAPE)).astype(np.float32)
        y = target.labels(x)
        status = Exact().decide(target, x, y, EPS, 0)
        scores = [np.sort(np.delete(s, label, 1).max(1) - s[:, label]) for s, label in _scores(target, x, y)]
        for row, lead in enumerate(scores):  # how far another class leads, at most: by the grid
            assert not (status.proven[row] and lead[-1] >= 0)
            assert lead[-1] < 0 or status.broken[row]
            assert lead[-1] > -0.02 or status.proven[row]
        statuses += status.proven.tolist()
    assert 0 < np.mean(statuses) < 1


def near_the_boundary() -> tuple[CompiledClassifier, np.ndarray, np.ndarray]:
    """A network, images of which some can be broken and some not, and the classes it gives them."""
    target = made("leaky", 1)
    x = np.random.default_rng(5).random((20, *SHAPE)).astype(np.float32)
    target.model.layers[-1].bias.assign_sub(np.median(target.predict(x), axis=0))
    return target, x, target.labels(x)


def _scores(target: CompiledClassifier, x: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, int]]:
    return [(target.predict(grid(image, EPS)), int(label)) for image, label in zip(x, y, strict=True)]


def test_a_programme_that_is_not_the_network_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    target, x, y = near_the_boundary()
    monkeypatch.setattr(programme, "_wider", lambda low, high: (low + 10, high + 10))
    assert (Exact().decide(target, x, y, EPS, 0).proven == Crown().prove(target, x, y, EPS, 0)).all()


def test_a_counterexample_is_within_the_budget_and_misclassified() -> None:
    target, x, y = near_the_boundary()
    status = certify(Exact(), target, x, y, EPS, 0, np.arange(20))
    assert 0 < status.broken.sum() < 20
    assert (np.abs(status.examples - x[status.broken]) <= EPS + 1e-6).all()
    assert ((status.examples >= 0) & (status.examples <= 1)).all()
    assert (target.labels(status.examples) != y[status.broken]).all()
    assert set(status.frame()["status"]) == {"certified", "broken"}


def test_it_proves_what_lines_prove_and_more(digits: Dataset) -> None:
    target = CompiledClassifier(_small(digits))
    x, y = digits.x_test[:30], digits.y_test[:30]
    lines = Crown().prove(target, x, y, 0.03, 0)
    status = Exact(seconds=60).decide(target, x, y, 0.03, 0)
    assert not (lines & ~status.proven).any()
    assert lines.sum() < status.proven.sum() < 30
    assert (status.proven | status.broken).all()


def test_without_time_an_image_stays_open() -> None:
    target, x, y = near_the_boundary()
    status: Certified = certify(Exact(seconds=1e-9), target, x, y, EPS, 0, np.arange(20))
    assert not status.broken.any()
    assert "open" in set(status.frame()["status"])


def test_what_it_cannot_take_is_refused_in_one_line() -> None:
    curved = keras.Sequential([keras.Input(SHAPE), nn.Flatten(), nn.Dense(4, "tanh", name="curve"), nn.Dense(3)])
    with pytest.raises(ModelError, match=r"layer 'curve' is not piecewise linear, which exact needs \(take crown\)"):
        Exact().check(CompiledClassifier(curved))
    with pytest.raises(ModelError, match=r"networks of up to 10,000 units, this one has 21,568"):
        Exact().check(CompiledClassifier(frozen()))
    with pytest.raises(InputError, match="norm: Input should be 'inf', got '2'"):
        certifier("exact:norm=2")


def _small(digits: Dataset) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [nn.AveragePooling2D(4), nn.Flatten(), nn.Dense(16, "relu"), nn.Dense(16, "relu"), nn.Dense(10)]
    model = keras.Sequential([keras.Input(digits.input_shape), *layers])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.x_train, digits.y_train, epochs=15, batch_size=32, verbose=0)
    return model


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output is for results: `--json` must stay JSON."""
    target, x, y = near_the_boundary()
    Exact().decide(target, x, y, EPS, 0)
    assert capfd.readouterr().out == ""
