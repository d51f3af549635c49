"""The square attack: scores alone, and every kept point is better than the one before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from art.attacks.evasion import SquareAttack

from gauntlet.attacks import Square, one_hot
from gauntlet.attacks.base import global_seed
from gauntlet.attacks.search import margin
from gauntlet.attacks.square import _L2Squares, _LinfSquares, _Squares, bumps
from gauntlet.attacks.streams import Streams
from gauntlet.data.datasets import Dataset
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Images, Labels, ThreatModel, lengths
from tests.gauntlet.attacking import Seen, fooled

N = 24


@pytest.fixture(scope="module")
def images(digits: Dataset) -> tuple[Images, Labels]:
    return digits.x_test[:N], digits.y_test[:N]


def _search(
    model: Any, images: tuple[Images, Labels], norm: Any, eps: float, steps: int, channels: int = 1
) -> _Squares:
    x, y = images
    x = np.repeat(x, channels, axis=-1)
    kind, attack = {"inf": _LinfSquares, "2": _L2Squares}[norm], Square(norm=norm, max_iter=steps)
    return kind(model, x, y, None, ThreatModel(norm=norm, eps=eps), Streams(0, np.arange(len(x))), steps, 1, attack)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.1), ("2", 2.0)])
def test_the_margin_of_what_is_kept_never_grows(
    norm: Any, eps: float, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    shown = Seen(classifier, "scores")
    search, rows = _search(shown, images, norm, eps, 30), np.arange(N)
    state = search.start(rows, rows * 0) | {"row": rows, "step": rows * 0}
    margins = []
    for _ in range(30):
        assert lengths(state["x"] - search.clean, norm).max() <= eps + 1e-5
        assert (state["x"].min() >= 0, state["x"].max() <= 1) == (True, True)
        search.move(state, search.ask(state))
        state["step"] += 1
        margins.append(state["margin"].copy())
    assert (np.diff(margins, axis=0) <= 0).all()
    assert (margins[-1] < margins[0]).mean() > 0.9
    np.testing.assert_allclose(margin(classifier.predict(state["kept"]), images[1]), margins[-1], atol=1e-6)
    assert len(shown.asked) == 30


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.3), ("2", 4.0)])
def test_more_queries_fool_more(
    norm: Any, eps: float, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    few, many = (fooled(classifier, Square(norm=norm, max_iter=n), *images, eps).mean() for n in (2, 120))
    assert many > few + 0.2


def test_it_stops_at_its_queries(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    made = Square(max_iter=25, num_random_init=2).run(classifier, *images, 0.02, seed=0)
    left = classifier.labels(made.images) == images[1]
    assert (made.calls[left] == 50).all()
    assert (made.calls <= 50).all()


def test_in_linf_every_pixel_is_at_the_border_of_its_budget(
    classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    grey = np.full_like(images[0], 0.5)
    delta = Square(max_iter=20).run(classifier, grey, images[1], 0.1, seed=0).images - grey
    np.testing.assert_allclose(np.abs(delta), 0.1, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_in_l2_the_whole_budget_is_spent(channels: int, images: tuple[Images, Labels]) -> None:
    search, rows = _search(None, images, "2", 0.5, 30, channels), np.arange(N)
    search.clean = np.full_like(search.clean, 0.5)
    points = search._first(rows, search.clean)
    for step in range(10):
        np.testing.assert_allclose(lengths(points - search.clean, "2"), 0.5, rtol=1e-4)
        points = search._next(rows, points, search.clean, rows * 0 + step)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
def test_bumps_are_opposite_and_of_length_one(side: int) -> None:
    upright, turned = bumps(side, np.array([False, True]))[..., 0]
    np.testing.assert_allclose((upright**2).sum(), 1, rtol=1e-6)
    np.testing.assert_array_equal(upright.T, turned)
    half = side // 2
    assert (upright[:half] >= 0).all()
    assert (upright[half:] <= 0).all()


def test_squares_shrink_as_in_the_paper() -> None:
    sides = [Square(max_iter=10_000).side(query, 28, 28) for query in range(10_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == round(np.sqrt(0.8 * 28 * 28))
    assert sides[-1] == max(1, round(np.sqrt(0.8 * 28 * 28 / 2**9)))
    assert Square(max_iter=100).side(50, 28, 28) == sides[5_000]


def test_arts_fools_about_as_many(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = images
    with global_seed(0):
        attack = SquareAttack(classifier, eps=0.13, max_iter=100, p_init=0.8, nb_restarts=1, verbose=False)
        theirs = (classifier.labels(attack.generate(x, y=one_hot(y, 10))) != y).mean()
    ours = fooled(classifier, Square(max_iter=100), x, y, 0.13).mean()
    assert ours >= theirs - 0.15
    assert ours > 0.15
