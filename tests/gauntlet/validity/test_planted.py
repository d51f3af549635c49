"""Adversarial images that are planted: a sound evaluation finds them, a broken one misses them and is told so."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from gauntlet.attacks import attack
from gauntlet.data.datasets import Dataset
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.validity.canaries import quantised_inputs, stopped_gradient
from gauntlet.validity.checks import misses_planted
from gauntlet.validity.evidence import Evaluation
from gauntlet.validity.planted import Planted, _draws, _separating, head_on, planted
from gauntlet.validity.probes import Probes
from tests.frozen import frozen

EPS = 0.03
BROKEN: dict[str, Any] = {
    "gradient stopped": stopped_gradient,
    "quantised": quantised_inputs,
}


def tried(model: keras.Model, digits: Dataset, text: str) -> list[Planted]:
    """What is planted in a model that the attack leaves images of, and whether that attack finds it."""
    target = CompiledClassifier(model)
    x, y = digits.x_test[:64], digits.y_test[:64]
    clean = target.labels(x)
    battery = Battery(attack=(attack(text),), eps=(EPS,))
    results = run(battery, Job(target, x, y, clean, 0), lambda _: np.arange(len(x)))
    right = clean == y
    return list(planted(target, x[right], results, 0))


def test_a_sound_battery_finds_what_is_planted(digits: Dataset) -> None:
    (result,) = tried(frozen(), digits, "pgd:max_iter=20")
    assert result.n >= 40
    assert result.missed <= 1
    assert not list(misses_planted(Evaluation([], 10, Probes(planted=(result,)))))


def test_an_attack_that_hardly_moves_misses_it(digits: Dataset) -> None:
    (result,) = tried(frozen(), digits, "pgd:max_iter=2,eps_step=0.0001,num_random_init=0")
    (doubt,) = misses_planted(Evaluation([], 10, Probes(planted=(result,))))
    assert result.missed == result.n
    assert doubt.verdict == "SUSPECT"
    assert doubt.reason == f"the attacks miss {result.n} of {result.n} adversarial images planted at 0.03"


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_gradients_that_lead_nowhere_miss_it(digits: Dataset, kind: str) -> None:
    (result,) = tried(BROKEN[kind](frozen()), digits, "pgd:max_iter=20")
    assert result.sample.side(0.1) == "above"


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_what_is_planted_is_within_the_budget_and_alone(digits: Dataset, norm: str) -> None:
    """By construction: one point of the other class at the edge, all other draws and the image of the first."""
    head, image = head_on(frozen()), digits.x_test[0]
    draws = _draws(image, norm, 0.5, (0.0, 1.0), np.random.default_rng(0))
    away = (draws - image).reshape(len(draws), -1).astype(np.float64)
    sizes = np.abs(away).max(axis=1) if norm == "inf" else np.sqrt((away**2).sum(axis=1))
    weights = _separating(head.features.predict(draws, verbose=0))
    assert weights is not None
    head.last.set_weights(list(weights))
    assert (sizes <= 0.5 + 1e-6).all()
    assert head.model.predict(draws, verbose=0).argmax(axis=1).tolist() == [1] + [0] * (len(draws) - 1)


def test_nothing_is_planted_among_points_that_hide_it() -> None:
    rng = np.random.default_rng(0)
    assert _separating(np.concatenate([np.zeros((1, 3)), rng.normal(size=(100, 3))])) is None
