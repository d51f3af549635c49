"""FAB: its projection is the nearest point of a plane within the box, and its images lie on the boundary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from gauntlet.attacks import ApgdCe, Fab
from gauntlet.attacks.fab import project_onto_plane
from gauntlet.data.datasets import Dataset
from gauntlet.models.classifier import CompiledClassifier
from tests.gauntlet.attacking import fooled

BOUNDS = (0.0, 1.0)


def _case(seed: int, d: int, n: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in the box, and planes that cut it."""
    rng = np.random.default_rng(seed)
    points, inside, normal = rng.random((n, d)), rng.random((n, d)), rng.normal(size=(n, d))
    return points, normal, (normal * inside).sum(axis=1)


@pytest.mark.parametrize("norm", ["inf", "2"])
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_a_projection_lies_on_the_plane_and_in_the_box(norm: Any, seed: int, d: int) -> None:
    points, normal, offset = _case(seed, d)
    projected = points + project_onto_plane(points, normal, offset, norm, BOUNDS)
    np.testing.assert_allclose((normal * projected).sum(axis=1), offset, atol=1e-9)
    assert projected.min() >= -1e-12
    assert projected.max() <= 1 + 1e-12


def _shortest(point: np.ndarray, normal: np.ndarray, offset: float, norm: str) -> float:
    """The distance of the plane within the box, by a solver."""
    d = len(point)
    if norm == "inf":  # over steps and their length t: least t with -t <= step <= t
        sides = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
        box = [(low, high) for low, high in zip(-point, 1 - point, strict=True)]
        equation = {"A_eq": [[*normal, 0]], "b_eq": [offset - normal @ point]}
        return float(linprog([0] * d + [1], A_ub=sides, b_ub=np.zeros(2 * d), bounds=[*box, (0, None)], **equation).fun)
    plane = {"type": "eq", "fun": lambda z: normal @ z - offset, "jac": lambda _: normal}
    goal = {"fun": lambda z: ((z - point) ** 2).sum(), "jac": lambda z: 2 * (z - point)}
    projected = minimize(x0=point, bounds=[BOUNDS] * d, constraints=[plane], method="SLSQP", tol=1e-12, **goal)
    return float(np.sqrt(projected.fun))


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("seed", range(4))
def test_no_solver_finds_a_shorter_step(norm: Any, seed: int) -> None:
    points, normal, offset = _case(seed, 6)
    steps = project_onto_plane(points, normal, offset, norm, BOUNDS)
    ours = np.abs(steps).max(axis=1) if norm == "inf" else np.sqrt((steps**2).sum(axis=1))
    theirs = [_shortest(*each, norm) for each in zip(points, normal, offset, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_a_plane_beyond_the_box_is_approached_as_far_as_it_goes(norm: Any) -> None:
    points, normal = np.full((1, 3), 0.5), np.array([[1.0, -2.0, 0.5]])
    step = project_onto_plane(points, normal, np.array([100.0]), norm, BOUNDS)
    np.testing.assert_allclose(points + step, [[1, 0, 1]])


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_who_is_on_the_plane_or_has_no_gradient_stays(norm: Any) -> None:
    points = np.full((2, 3), 0.25)
    normal = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(project_onto_plane(points, normal, np.array([1.5, 1.0]), norm, BOUNDS), 0, atol=1e-12)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.07), ("2", 1.2)])
def test_it_fools_about_as_many_as_the_best_of_the_others(
    norm: Any, eps: float, classifier: CompiledClassifier, digits: Dataset
) -> None:
    x, y = digits.x_test[:32], digits.y_test[:32]
    fab = fooled(classifier, Fab(norm=norm, max_iter=15, targets=2), x, y, eps).sum()
    apgd = fooled(classifier, ApgdCe(norm=norm, max_iter=15), x, y, eps).sum()
    assert abs(int(fab) - int(apgd)) <= 2


def test_the_first_image_that_fools_lies_just_behind_the_boundary(
    classifier: CompiledClassifier, digits: Dataset
) -> None:
    x, y = digits.x_test[:16], digits.y_test[:16]
    made = Fab(max_iter=15, targets=2).run(classifier, x, y, 0.2, seed=0)
    wrong = classifier.labels(made.images) != y
    away = np.abs(made.images - x).max(axis=(1, 2, 3))
    assert wrong.all()
    assert away.max() < 0.195  # well inside the budget
    half_way = classifier.labels((x + 0.7 * (made.images - x)).astype(np.float32))
    assert (half_way == y).mean() > 0.8
