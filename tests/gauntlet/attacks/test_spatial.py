"""Rotations and translations: the right pixels move, the worst move of each image is kept."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.attacks import Spatial
from gauntlet.attacks.spatial import Move, moved
from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Images, Labels
from tests.gauntlet.attacking import Seen, fooled


@pytest.fixture(scope="module")
def images(digits: Dataset) -> tuple[Images, Labels]:
    return digits.x_test[:48], digits.y_test[:48]


def _colour(side: int = 9) -> Images:
    return np.random.default_rng(0).random((2, side, side, 3)).astype(np.float32)


def test_no_move_leaves_images_alone() -> None:
    x = _colour()
    np.testing.assert_allclose(moved(x, Move(0, 0, 0), 0.0), x, atol=1e-6)


def test_a_shift_goes_down_and_right_and_fills_with_the_low_bound() -> None:
    x = _colour(10)
    shifted = moved(x, Move(0, 0.2, 0.1), -1.0)
    np.testing.assert_allclose(shifted[:, 2:, 1:], x[:, :-2, :-1], atol=1e-6)
    assert (shifted[:, :2] == -1).all()
    assert (shifted[:, :, :1] == -1).all()


def test_half_a_pixel_is_the_mean_of_two() -> None:
    x = _colour(10)
    shifted = moved(x, Move(0, 0, 0.05), 0.0)
    np.testing.assert_allclose(shifted[:, :, 1:], (x[:, :, 1:] + x[:, :, :-1]) / 2, atol=1e-6)


@pytest.mark.parametrize("side", [9, 10])
def test_a_quarter_turn_is_counter_clockwise_about_the_centre(side: int) -> None:
    x = _colour(side)
    inner = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(moved(x, Move(90, 0, 0), 0.0)[inner], np.rot90(x, axes=(1, 2))[inner], atol=1e-5)


def test_the_grid_holds_both_ends_and_nothing_at_all() -> None:
    moves = Spatial().moves(1.0)
    assert len(moves) == 11 * 5 * 5
    assert {move.degrees for move in moves} >= {-30.0, 0.0, 30.0}
    np.testing.assert_allclose(np.unique([round(move.down, 9) for move in moves]), [-0.1, -0.05, 0, 0.05, 0.1])
    assert moves[-1] == Move(0, 0, 0)
    assert max(abs(move.degrees) for move in Spatial().moves(0.5)) == 15
    assert Spatial(angles=1, shifts=1).moves(1.0) == [Move(0, 0, 0)]


def test_a_greater_strength_fools_more(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    case = Spatial(angles=5, shifts=3)
    rates = [fooled(classifier, case, *images, strength).mean() for strength in (0.05, 0.2, 1.0)]
    assert rates == sorted(rates)
    assert rates[-1] > rates[0] + 0.3


def test_a_fooled_image_is_done_and_the_others_see_the_whole_grid(
    classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    x, y = images
    made = Spatial(angles=5, shifts=3).run(classifier, x, y, 0.1, seed=0)
    left = classifier.labels(made.images) == y
    assert (~left).any()
    assert (made.calls[left] == 45).all()
    assert made.calls[~left].min() < 45


def test_scores_tell_which_move_came_nearest(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = (part[:12] for part in images)
    case = Spatial(angles=3, shifts=3)
    made = case.run(classifier, x, y, 0.05, seed=0)
    blind = case.run(Seen(classifier, "labels"), x, y, 0.05, seed=0)
    np.testing.assert_array_equal(made.calls, blind.calls)
    left = classifier.labels(made.images) == y
    assert left.any()
    tried = np.stack([classifier.look(moved(x, move, 0.0), y).loss for move in case.moves(0.05)])
    # The cross-entropy of the lowest margin need not be the highest, but is above that of most.
    assert (classifier.look(made.images, y).loss >= np.median(tried, axis=0))[left].all()
    np.testing.assert_allclose(blind.images[left], x[left], atol=1e-6)  # the last move is none


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.5, float("nan")])
def test_a_strength_is_a_share(strength: float) -> None:
    with pytest.raises(SettingError, match=r"eps of spatial: a strength of .* is not in \(0, 1\]"):
        Spatial().check_budget(strength)
