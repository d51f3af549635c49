"""Attacks followed on their way: what they came by and did not return, and losses that still rise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gauntlet.attacks import ApgdCe, Attack, Pgd
from gauntlet.evaluation.outcome import Attacked
from gauntlet.validity import paths, slopes
from gauntlet.validity.evidence import Evaluation
from gauntlet.validity.notes import across
from gauntlet.validity.paths import Followed, rises
from gauntlet.validity.probes import Probes
from gauntlet.validity.slopes import Slopes

if TYPE_CHECKING:
    import keras

    from gauntlet.attacks.base import Crafted
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier

N = 40


class Forgetful(Pgd):
    """Descends, and returns the images it was given."""

    def craft(self, model: Any, x: Any, *rest: Any) -> Crafted:
        """As PGD, but for what it returns."""
        return replace(super().craft(model, x, *rest), images=x)


def left(attack: Attack, digits: Dataset, model: CompiledClassifier, eps: float) -> list[Followed]:
    """An attack is said to have left all of the first correct images at a budget; its way on some of them."""
    rows = np.flatnonzero(model.labels(digits.x_test) == digits.y_test)[:N]
    x, y = digits.x_test[rows], digits.y_test[rows]
    zeros, nothing = np.zeros(N), np.zeros(N, np.int64)
    facts: dict[str, Any] = {"index": np.arange(N), "labels": y, "clean_predictions": y, "predictions": y}
    facts |= {"tried": np.ones(N, bool), "calls": nothing, "linf": zeros, "l2": zeros, "losses": zeros}
    result = Attacked(attack, eps, "white-box", **facts, distance=None, seconds=0.0, images=x)
    return list(paths.followed(model, x, y, [result], 0))


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_an_attack_that_does_not_return_what_it_came_by_is_noticed(
    norm: Any, digits: Dataset, classifier: CompiledClassifier
) -> None:
    eps = {"inf": 0.3, "2": 4.0}[norm]
    (path,) = left(Forgetful(norm=norm, max_iter=20), digits, classifier, eps)
    assert path.n == paths.IMAGES
    assert path.silent >= 20


@pytest.mark.parametrize("attack", [Pgd(max_iter=20), Pgd(max_iter=20, library="art"), ApgdCe(max_iter=20)])
def test_an_attack_that_returns_its_best_is_not_accused(
    attack: Attack, digits: Dataset, classifier: CompiledClassifier
) -> None:
    (path,) = left(attack, digits, classifier, 0.1)
    assert path.silent == 0


def test_an_attack_of_tiny_steps_is_on_its_way(digits: Dataset, classifier: CompiledClassifier) -> None:
    slow = Pgd(max_iter=20, eps_step=0.002, num_random_init=0)
    (path,) = left(slow, digits, classifier, 0.1)
    assert path.rising > path.n / 4


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        (np.linspace(5, 1, 40), True),
        (np.linspace(5, 4, 40), False),
        (np.concatenate([np.linspace(5, 1, 20), np.full(20, 1.0)]), False),
        (np.linspace(5, -1, 40), False),
        (np.array([3.0, 1.0]), False),
    ],
    ids=["falling", "slowly", "has stopped", "broken", "too short"],
)
def test_a_curve_goes_on_at_the_pace_of_its_last_quarter(margins: np.ndarray, expected: bool) -> None:
    assert rises(margins) is expected


def test_a_point_within_two_budgets_is_of_neither() -> None:
    x = np.array([0.0, 0.3, 1.0], np.float32).reshape(3, 1, 1, 1)
    points = np.array([0.05, 0.15, 0.95, 0.5], np.float32).reshape(4, 1, 1, 1)
    np.testing.assert_array_equal(paths._owners(points, x, "inf", 0.16), [0, -1, 2, -1])


def test_scores_that_jump_beside_the_images_are_seen(
    model: keras.Model, digits: Dataset, classifier: CompiledClassifier
) -> None:
    import keras

    from gauntlet.models.classifier import CompiledClassifier

    ops = keras.ops
    pixels = keras.Input(model.input_shape[1:])
    stairs = ops.floor(2_000 * ops.sum(pixels, axis=(1, 2))) % 2
    apart = np.linspace(-8, 8, 10, dtype=np.float32)
    jumpy = CompiledClassifier(keras.Model(pixels, model(pixels) + stairs * apart))
    rows = np.flatnonzero(jumpy.labels(digits.x_test) == digits.y_test)[:32]
    x, y = digits.x_test[rows], digits.y_test[rows]
    assert slopes.unstable(Slopes(jumpy, x, y)) > 0.3
    assert slopes.unstable(Slopes(classifier, x, y)) == 0


def test_what_following_left_open_is_a_note() -> None:
    zeros, nothing = np.zeros(N), np.zeros(N, np.int64)
    facts: dict[str, Any] = {"index": np.arange(N), "labels": nothing, "clean_predictions": nothing}
    facts |= {"predictions": nothing, "calls": nothing, "linf": zeros, "l2": zeros, "losses": zeros}
    facts |= {"tried": nothing == 0, "distance": None, "seconds": 0.0, "images": np.zeros((N, 1, 1, 1), np.float32)}
    after = Attacked(Pgd(), 0.1, "white-box", **facts)
    one = Followed(after, 24, silent=3, rising=1, robust=0.5)
    lines = list(across(Evaluation([], 10, Probes(followed=(one,), unstable=15 / 256))))
    assert [line.split(" on ")[0] for line in lines] == [
        "undecided: scores that jump beside the image",
        "undecided: pgd at 0.1 came by adversarial images and returned others",
        "undecided: 1 of 24 images that pgd at 0.1 leaves were",
    ]
    assert not list(across(Evaluation([], 10, Probes(followed=(Followed(after, 24, 0, 0, 0.5),)))))
