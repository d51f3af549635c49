"""Descent along finite differences: exact on a linear model, and it sees a step that has no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gauntlet.attacks import FiniteDifferences, Pgd
from gauntlet.attacks.differences import groups_of
from gauntlet.threat import Images
from gauntlet.validity.canaries import before
from tests.gauntlet.attacking import Seen, fooled

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier

N = 24


@pytest.mark.parametrize(
    ("shape", "side", "groups"),
    [((4, 4, 1), 2, 4), ((4, 4, 3), 2, 12), ((5, 7, 1), 3, 9), ((2, 9, 1), 3, 6), ((3, 3, 2), 14, 18)],
)
def test_groups_are_squares_of_one_channel(shape: tuple[int, int, int], side: int, groups: int) -> None:
    numbers = groups_of(shape, side)
    assert sorted(np.unique(numbers)) == list(range(groups))
    for group in range(groups):
        rows, columns, channels = np.nonzero(numbers == group)
        assert len(set(channels)) == 1
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert np.ptp(rows) < -(-shape[0] // min(side, shape[0])) + 1


class Linear:
    """Two classes, the sign of a weighted sum of the pixels."""

    access, nb_classes, input_shape, clip_values = "scores", 2, (4, 4, 1), (0.0, 1.0)
    weights = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)

    def predict(self, x: Images, **_: Any) -> Images:
        total = (x * self.weights).sum(axis=(1, 2, 3)) + 10
        return np.stack([total, -total], axis=1)


def test_of_a_linear_model_one_estimate_finds_the_worst_point() -> None:
    x = np.random.default_rng(1).uniform(size=(3, 4, 4, 1)).astype(np.float32)
    made = FiniteDifferences(max_iter=1).run(Linear(), x, np.zeros(3, np.int64), 0.3, 0)  # type: ignore[arg-type]
    worst = np.where(Linear.weights > 0, np.maximum(x - 0.3, 0), np.minimum(x + 0.3, 1))
    np.testing.assert_allclose(made.images, worst, atol=1e-6)
    assert made.calls.tolist() == [1 + 2 * 16 + 16] * 3


def test_who_finds_no_better_point_stops() -> None:
    """After the worst point of a linear model there is none: a second estimate, and no third."""
    x = np.full((1, 4, 4, 1), 0.5, np.float32)
    made = FiniteDifferences(max_iter=50).run(Linear(), x, np.zeros(1, np.int64), 0.3, 0)  # type: ignore[arg-type]
    assert made.calls.tolist() == [1 + 2 * (2 * 16 + 16)]


def test_what_is_wrong_already_is_asked_about_once(classifier: CompiledClassifier, digits: Dataset) -> None:
    shown, wrong = Seen(classifier, "scores"), (digits.y_test[:2] + 1) % 10
    made = FiniteDifferences().run(shown, digits.x_test[:2], wrong, 0.1, 0)
    assert (made.calls.tolist(), [len(points) for points in shown.asked]) == ([1, 1], [1, 1])


def test_a_step_without_a_gradient_is_seen(model: keras.Model, digits: Dataset) -> None:
    """Pixels that are black or white: gradients are zero, and random starts alone fool next to nothing."""
    import keras

    from gauntlet.models.classifier import CompiledClassifier

    step = CompiledClassifier(before(model, lambda x: keras.ops.cast(x > 0.5, "float32") + 0.0 * x))
    x, y = digits.x_test[:N], digits.y_test[:N]
    ours, gradients = (fooled(step, attack, x, y, 0.2).mean() for attack in (FiniteDifferences(), Pgd()))
    assert ours > gradients + 0.2
