"""The threat model: what is projected is allowed, and what is not allowed is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from gauntlet.errors import AttackError
from gauntlet.threat import Budget, Images, Norm, ThreatModel, default_budgets, lengths

NORMS: tuple[Norm, ...] = ("inf", "2")
norms = pytest.mark.parametrize("norm", NORMS)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Images, Images]:
    """Clean images in [0, 1], and anything finite of the same shape."""
    shape = draw(st.tuples(*(st.integers(1, 4) for _ in range(4))))
    clean = draw(arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
    return clean, draw(arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32)))


def threat(norm: Norm = "inf", eps: float = 0.25) -> ThreatModel:
    return ThreatModel(norm=norm, eps=eps)


def grey(value: float = 0.5, n: int = 2) -> Images:
    return np.full((n, 2, 2, 1), value, np.float32)


@given(pairs(), st.sampled_from(NORMS), st.floats(0.01, 10))
def test_a_projection_is_within_the_budget_and_the_bounds(pair: tuple[Images, Images], norm: Norm, eps: float) -> None:
    clean, anything = pair
    projected = threat(norm, eps).project(anything, clean)
    assert projected.dtype == np.float32
    assert projected.min() >= 0
    assert projected.max() <= 1
    assert lengths(projected - clean, norm).max() <= eps + 1e-5
    threat(norm, eps).check(projected, clean)


@given(pairs(), st.sampled_from(NORMS), st.floats(0.01, 10))
def test_a_projection_leaves_alone_what_is_allowed(pair: tuple[Images, Images], norm: Norm, eps: float) -> None:
    clean, anything = pair
    once = threat(norm, eps).project(anything, clean)
    np.testing.assert_allclose(threat(norm, eps).project(once, clean), once, atol=1e-6)


def test_a_projection_goes_to_the_nearest_point() -> None:
    clean, far = grey(0.5, n=1), grey(0.9, n=1)
    np.testing.assert_allclose(threat("inf", 0.1).project(far, clean), 0.6, atol=1e-6)
    # four pixels of 0.4 are 0.8 long; a budget of 0.2 leaves a quarter of each
    np.testing.assert_allclose(threat("2", 0.2).project(far, clean), 0.6, atol=1e-6)


@norms
def test_a_projection_does_not_write_to_its_input(norm: Norm) -> None:
    clean, far = grey(0.5), grey(2.0)
    threat(norm).project(far, clean)
    assert (clean == 0.5).all()
    assert (far == 2.0).all()


def _with(images: Images, value: float) -> Images:
    images[1, 0, 0, 0] = value
    return images


REFUSED: dict[str, tuple[Callable[[], Images], str]] = {
    "NaN": (lambda: _with(grey(), np.nan), "1 of 2 adversarial images hold NaN"),
    "infinite": (lambda: _with(grey(), np.inf), "1 of 2 adversarial images hold NaN or infinite"),
    "shape": (lambda: grey(n=1), r"expected images of shape \(2, 2, 2, 1\), .* returned \(1, 2, 2, 1\)"),
    "below": (lambda: _with(grey(), -0.01), "pixels from -0.01 to 0.5 leave the bounds"),
    "above": (lambda: _with(grey(), 1.01), "pixels from 0.5 to 1.01 leave the bounds"),
    "budget": (lambda: _with(grey(), 0.8), "perturbation of norm 0.3 exceeds the budget 0.25"),
}


@norms
@pytest.mark.parametrize(("broken", "message"), REFUSED.values(), ids=REFUSED)
def test_a_broken_promise_is_refused(broken: Callable[[], Images], message: str, norm: Norm) -> None:
    with pytest.raises(AttackError, match=message):
        threat(norm).check(broken(), grey())


@norms
def test_the_whole_budget_may_be_spent(norm: Norm) -> None:
    threat(norm).check(_with(grey(), 0.75), grey())


def test_the_norms_differ_where_they_should() -> None:
    brighter = grey(0.7)  # by 0.2 in each of four pixels: 0.2 in L∞, 0.4 in L2
    threat("inf").check(brighter, grey())
    with pytest.raises(AttackError, match=r"norm 0.4 exceeds the budget 0.25 \(L2\)"):
        threat("2").check(brighter, grey())


def test_lengths_are_per_image() -> None:
    delta = np.array([[0.3, -0.4], [0.0, 0.0]], np.float32).reshape(2, 2, 1, 1)
    np.testing.assert_allclose(lengths(delta, "inf"), [0.4, 0.0])
    np.testing.assert_allclose(lengths(delta, "2"), [0.5, 0.0])


@pytest.mark.parametrize("eps", [-0.1, float("nan")])
def test_a_budget_is_not_negative(eps: float) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        ThreatModel(eps=eps)


@pytest.mark.parametrize(("norm", "channels"), [(norm, channels) for norm in NORMS for channels in (1, 3)])
def test_default_budgets_rise_and_suit_the_norm(norm: Norm, channels: int) -> None:
    budgets = default_budgets(norm, channels)
    assert list(budgets) == sorted(set(budgets))
    assert budgets[0] > 0
    assert budgets[-1] <= (0.3 if norm == "inf" else 2.0)


def test_default_budgets_are_those_of_the_literature() -> None:
    assert default_budgets("inf", 1) == (0.1, 0.2, 0.3)
    assert default_budgets("inf", 3)[-1] == pytest.approx(8 / 255)


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("1/2", 0.5), ("0.3", 0.3), (0.3, 0.3), (1, 1.0)])
def test_a_budget_may_be_written_as_a_fraction(text: object, value: float) -> None:
    assert TypeAdapter(Budget).validate_python(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["8/0", "8/", "eight", "1/2/3", "-8/255", "0/255", "9" * 400 + "/1", ""])
def test_no_budget_is_refused_as_input(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Budget).validate_python(text)
