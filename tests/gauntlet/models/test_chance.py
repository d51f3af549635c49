"""Chance level is independence from the labels, not a low accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.errors import ModelError
from gauntlet.models.adapter import RANGES, Expects, Fit, find_way, fit
from gauntlet.models.chance import balanced_accuracy, dependence, informative

RARE = np.array([0] * 970 + [1] * 30)
"""97 images of one class to 3 of another."""


def test_a_weighted_model_that_is_less_often_right_than_the_majority_knows_its_classes() -> None:
    predictions = RARE.copy()
    predictions[:44], predictions[970:973] = 1, 0  # 95.3 % right, balanced accuracy 92.7 %
    assert (predictions == RARE).mean() == pytest.approx(0.953)
    assert balanced_accuracy(predictions, RARE) == pytest.approx(0.927, abs=1e-3)
    assert informative(predictions, RARE, 2)
    assert not informative(np.zeros(1000, int), RARE, 2)  # 97.0 % right


def test_a_rare_class_that_is_always_right_counts_whatever_it_costs_the_others() -> None:
    """30 of 30 rare images would all be called rare by chance once in 3,000 times."""
    predictions = RARE.copy()
    predictions[:742] = 1  # 23.5 % of the others are right
    assert informative(predictions, RARE, 2)
    predictions[-3:] = 0  # 27 of 30
    assert not informative(predictions, RARE, 2)


def test_eight_images_all_right_are_no_chance() -> None:
    y = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    assert informative(y, y, 10)
    assert not informative(np.zeros(8, int), np.zeros(8, int), 10)  # nothing can be told of one class


def test_independent_answers_are_rarely_taken_for_knowledge() -> None:
    draw = np.random.default_rng(0)
    stray = [informative(draw.integers(0, 10, 300), draw.integers(0, 10, 300), 10) for _ in range(1_000)]
    assert np.mean(stray) < 0.01


def test_scores_may_know_what_a_shifted_bias_hides() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 200)
    scores = np.stack([y * -1.0 + 5, y * 1.0], axis=1) + draw.normal(size=(200, 2)) / 4  # class 0 every time
    assert (scores.argmax(axis=1) == 0).all()
    assert dependence(scores, y) > 3
    assert fit(scores, y).informative


def test_more_right_images_at_an_absurd_loss_do_not_win() -> None:
    """Two classes, a shifted bias: at [0, 255] the bias vanishes, and wrong images are wrong by hundreds of nats."""
    y = np.arange(100) % 2
    ways = [Expects(name, "hwc") for name in RANGES]
    fits = dict(
        zip(
            ways,
            (
                Fit(0.9, 0.62, y, True, np.full(100, 0.6)),
                Fit(40.0, 0.95, y, True, np.full(100, 0.3)),
                Fit(0.8, 0.5, y, False, np.full(100, 0.7)),
            ),
            strict=True,
        )
    )
    assert find_way(fits.__getitem__, ways, [], y, 2).expects.input_range == "0..1"
    stated = find_way(fits.__getitem__, ways[:1], ways[1:], y, 2)
    assert (stated.expects.input_range, stated.better_range) == ("0..1", None)


def test_chance_can_be_accepted() -> None:
    y = np.arange(40) % 2
    way, fits = Expects("0..1", "hwc"), Fit(0.7, 0.5, np.zeros(40, np.int64), False, np.full(40, 0.7))
    with pytest.raises(ModelError, match="--accept-chance"):
        find_way(lambda _: fits, [way], [], y, 2)
    assert find_way(lambda _: fits, [way], [], y, 2, accept_chance=True).expects == way
