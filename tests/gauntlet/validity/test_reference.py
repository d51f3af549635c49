"""The reference model's truth is the truth, and an instrument that misses it or exceeds it is found out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gauntlet.evaluation.outcome import Attacked
from gauntlet.validity import canaries, reference

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset


@pytest.fixture(scope="module")
def results(digits: Dataset) -> list[Attacked]:
    return reference.measured(digits, seed=0)


def test_the_instrument_finds_the_truth(digits: Dataset, results: list[Attacked]) -> None:
    assert reference.wrong(digits, results) == []


def test_the_smallest_margin_is_reached_and_never_undercut(digits: Dataset) -> None:
    w, b = reference.weights(digits)
    x, y = digits.x_test[:20].reshape(20, -1).astype(float), digits.y_test[:20]
    least, rng = reference.margins(digits, 0.1)[:20], np.random.default_rng(0)
    for _ in range(200):
        moved = np.clip(x + rng.uniform(-0.1, 0.1, x.shape), *digits.bounds)
        scores = moved @ w.T + b
        own = scores[np.arange(20), y].copy()
        scores[np.arange(20), y] = -np.inf
        assert (own - scores.max(axis=1) >= least - 1e-9).all()


def test_less_budget_leaves_more_margin(digits: Dataset) -> None:
    by_budget = [reference.margins(digits, eps) for eps in (0.0, 0.05, 0.1)]
    assert (np.diff(by_budget, axis=0) <= 0).all()


def test_an_attack_that_became_weak_is_found(digits: Dataset, results: list[Attacked]) -> None:
    weak = [replace(one, predictions=one.clean_predictions) for one in results if one.attack.adversary]
    lines = reference.wrong(digits, weak)
    assert len(lines) == len(weak) == 3
    assert all("where the truth is" in line for line in lines)


def test_an_attack_that_does_more_than_it_may_is_found(digits: Dataset, results: list[Attacked]) -> None:
    fooled = (results[-1].labels + 1) % digits.n_classes
    (line,) = reference.wrong(digits, [replace(results[-1], predictions=fooled)])
    assert "that nothing within the budget breaks" in line


@pytest.mark.slow
def test_it_is_one_of_the_canaries(digits: Dataset) -> None:
    (row,) = canaries.run(digits, names=[reference.NAME])
    assert (row.name, row.verdict, row.ok) == ("reference", "VALID", True)
