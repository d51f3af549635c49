"""Searches for the smallest perturbation: how near they come, and what they say when they find none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from gauntlet.attacks import ApgdCe, Attack, Crafted, CwL2, Ddn, DeepFool, Fmn, HopSkipJump
from gauntlet.attacks.minimum import into_ball_and_box
from gauntlet.data.datasets import Dataset
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Images, Labels, Norm, lengths
from tests.gauntlet.attacking import Seen, fooled

N = 12


class Smallest:
    """What an attack found on the first test images, once for each attack; on fewer if it asks one by one."""

    def __init__(self, classifier: CompiledClassifier, x: Images, y: Labels) -> None:
        self.classifier, self.x, self.y = classifier, x, y
        self._made: dict[Attack, Crafted] = {}

    def __call__(self, case: Attack) -> Crafted:
        if case not in self._made:
            n = self.n(case)
            self._made[case] = case.smallest(self.classifier, self.x[:n], self.y[:n], 1.0, 0)
        return self._made[case]

    @staticmethod
    def n(case: Attack) -> int:
        return 5 if case.access == "labels" else N

    def distances(self, case: Any) -> np.ndarray:
        """Of the images that are correct clean; infinite where none was found."""
        made, x, y = self(case), self.x[: self.n(case)], self.y[: self.n(case)]
        away = np.where(self.classifier.labels(made.images) != y, lengths(made.images - x, case.norm), np.inf)
        return away[self.classifier.labels(x) == y]

    def median(self, case: Attack) -> float:
        return float(np.median(self.distances(case)))


@pytest.fixture(scope="module")
def smallest(classifier: CompiledClassifier, digits: Dataset) -> Smallest:
    return Smallest(classifier, digits.x_test[:N], digits.y_test[:N])


CW = CwL2(max_iter=80, binary_search_steps=3)
DDN, FMN, FMN2 = Ddn(max_iter=60), Fmn(max_iter=60), Fmn(norm="2", max_iter=60)
FOOL, FOOL2 = DeepFool(), DeepFool(norm="2")
HOP, HOP2 = HopSkipJump(max_iter=4), HopSkipJump(norm="2", max_iter=4)


@pytest.mark.parametrize("case", [CW, DDN, FMN, FMN2, FOOL, FOOL2, HOP, HOP2], ids=lambda c: f"{c.name}-{c.norm}")
def test_every_image_is_fooled(case: Attack, smallest: Smallest) -> None:
    assert np.isfinite(smallest.distances(case)).all()


def test_who_searches_longer_comes_nearer_than_one_linearised_step(smallest: Smallest) -> None:
    for case in (CW, DDN, FMN2):
        assert smallest.distances(case).mean() < smallest.distances(FOOL2).mean(), case.name
    assert smallest.distances(FMN).mean() < smallest.distances(FOOL).mean()


def test_labels_alone_come_less_near_but_not_far(smallest: Smallest) -> None:
    assert smallest.median(FMN) < smallest.median(HOP) < 6 * smallest.median(FMN)
    assert smallest.median(DDN) < smallest.median(HOP2) < 4 * smallest.median(DDN)


@pytest.mark.parametrize(("case", "norm"), [(FMN, "inf"), (DDN, "2"), (FMN2, "2")])
def test_a_budget_of_the_median_distance_fools_half_by_other_means(
    case: Attack, norm: Norm, smallest: Smallest
) -> None:
    wrong = fooled(smallest.classifier, ApgdCe(norm=norm, max_iter=30), smallest.x, smallest.y, smallest.median(case))
    assert wrong.mean() == pytest.approx(0.5, abs=2.1 / N)


def test_an_image_that_is_wrong_already_stays_as_it_is(smallest: Smallest) -> None:
    wrong = (smallest.classifier.labels(smallest.x) + 1) % 10
    few = (CwL2(max_iter=5), Ddn(max_iter=5), Fmn(max_iter=5), Fmn(norm="2", max_iter=5), FOOL, FOOL2, HOP)
    for case in few:
        made = case.smallest(smallest.classifier, smallest.x[:3], wrong[:3], 1.0, 0)
        assert lengths(made.images - smallest.x[:3], "2").max() < 1e-3, case.name


def test_where_none_is_found_the_clean_image_comes_back(smallest: Smallest) -> None:
    x, y = smallest.x[:3], smallest.y[:3]
    for case in (CwL2(max_iter=1, initial_const=1e-6), Ddn(max_iter=1), Fmn(max_iter=1), Fmn(norm="2", max_iter=1)):
        np.testing.assert_array_equal(case.smallest(smallest.classifier, x, y, 1.0, 0).images, x)


def test_the_budget_does_not_matter_to_the_search(smallest: Smallest) -> None:
    other = FMN.smallest(smallest.classifier, smallest.x, smallest.y, 0.001, 5)
    np.testing.assert_array_equal(other.images, smallest(FMN).images)


def test_calls_are_those_of_the_batch(smallest: Smallest) -> None:
    # One for each step, and one to look at the result.
    assert set(smallest(DDN).calls) == {61}
    assert set(smallest(FMN2).calls) == {61}
    assert set(smallest(CW).calls) == {3 * 80 + 1}
    assert len(set(smallest(FOOL).calls)) == 1


# --- the projection of fmn --------------------------------------------------------------------------------------


def _case(seed: int, d: int = 6) -> tuple[Images, Images, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = rng.random((5, d, 1, 1)).astype(np.float32)
    return rng.normal(size=clean.shape).astype(np.float32), clean, rng.random(5) * 1.5


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_it_is_within_ball_and_box(seed: int, d: int) -> None:
    delta, clean, radius = _case(seed, d)
    held = into_ball_and_box(delta, clean, radius, (0.0, 1.0))
    assert (lengths(held, "2") <= radius + 1e-5).all()
    assert ((clean + held).min() >= -1e-6, (clean + held).max() <= 1 + 1e-6) == (True, True)


@pytest.mark.parametrize("seed", range(3))
def test_no_solver_finds_a_nearer_one(seed: int) -> None:
    delta, clean, radius = _case(seed)
    ours = into_ball_and_box(delta, clean, radius, (0.0, 1.0))
    for n in range(len(clean)):
        start, image = delta[n].ravel().astype(np.float64), clean[n].ravel().astype(np.float64)
        ball: Any = {"type": "ineq", "fun": lambda z, r=radius[n]: r**2 - z @ z, "jac": lambda z: -2 * z}
        goal = {"fun": lambda z, s=start: ((z - s) ** 2).sum(), "jac": lambda z, s=start: 2 * (z - s)}
        box = list(zip(-image, 1 - image, strict=True))
        best = minimize(x0=ours[n].ravel(), bounds=box, constraints=[ball], method="SLSQP", tol=1e-12, **goal).fun
        assert ((ours[n].ravel() - start) ** 2).sum() <= best + 1e-3


def test_what_fits_is_left_alone() -> None:
    clean = np.full((2, 3, 3, 1), 0.5, np.float32)
    delta = np.full_like(clean, 0.1)
    np.testing.assert_allclose(into_ball_and_box(delta, clean, np.array([9.0, 9.0]), (0.0, 1.0)), delta, atol=1e-7)


# --- hopskipjump --------------------------------------------------------------------------------------------------


def test_labels_are_all_it_sees_and_its_queries_are_counted(smallest: Smallest) -> None:
    shown = Seen(smallest.classifier, "labels")
    made = HOP.smallest(shown, smallest.x[:2], smallest.y[:2], 1.0, 0)
    np.testing.assert_array_equal(made.images, smallest(HOP).images[:2])
    assert made.calls.sum() == sum(map(len, shown.asked))
    assert made.calls.max() < HOP._most()


def test_more_steps_come_nearer(smallest: Smallest) -> None:
    assert smallest.median(HOP) < smallest.median(HopSkipJump(max_iter=1))


class Told(Seen):
    """A model of class 0 whose answers to some queries, by their number from 1 on, are class 1."""

    nb_classes, input_shape, clip_values = 3, (8, 8, 1), (0.0, 1.0)

    def __init__(self, *ones: int) -> None:
        super().__init__(type(self), "labels")
        self._ones, self._seen = ones, 0

    def labels(self, x: Images) -> Labels:
        self.asked.append(x)
        self._seen += len(x)
        return np.full(len(x), int(self._seen in self._ones), np.int64)


GREY = np.full((1, 8, 8, 1), 0.5, np.float32)


def test_a_model_of_one_class_cannot_be_fooled() -> None:
    made = HopSkipJump(init_size=7).smallest(Told(), GREY, np.zeros(1, np.int64), 1.0, 0)
    np.testing.assert_array_equal(made.images, GREY)
    assert made.calls.tolist() == [8]


def test_a_search_that_would_never_end_is_left() -> None:
    # The second query finds a start, the fourth is ART's look at it; no step from there is ever wrong again.
    case, told = HopSkipJump(max_iter=1, max_eval=10, init_eval=10, init_size=5), Told(2, 4)
    made = case.smallest(told, GREY, np.zeros(1, np.int64), 1.0, 0)
    assert made.calls.tolist() == [case._most()] == [215]
    np.testing.assert_array_equal(made.images, told.asked[1])
