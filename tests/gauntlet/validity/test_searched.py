"""Step functions: who is believed without gradients, and what is said of who is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import gauntlet
from gauntlet.attacks import FiniteDifferences, Square
from gauntlet.validity import probes
from gauntlet.validity.canaries import before
from gauntlet.validity.searched import LEAST_QUERIES, searches
from gauntlet.validity.verdicts import doubts, verdict
from tests.gauntlet.validity.judging import FGSM, HIDDEN, PGD, SQUARE, attacked, evidence, retry

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

DIFFERENCES = FiniteDifferences()
N = 40


@pytest.fixture(autouse=True)
def _little_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"SAMPLE": 32, "EXPOSED": 32, "QUERIES": 100}.items():
        monkeypatch.setattr(probes, name, number)


def step(model: keras.Model) -> keras.Model:
    """`model` on black and white images: no gradient comes through."""
    import keras

    return before(model, lambda x: keras.ops.cast(x > 0.5, "float32") + 0.0 * x)


def judged(model: keras.Model, digits: Dataset, eps: float, *attacks: str) -> gauntlet.Report:
    tried = ("noise-uniform", "fgsm", "pgd:max_iter=10", *attacks)
    return gauntlet.evaluate(model, digits.x_test[:N], digits.y_test[:N], eps, attacks=tried, n_classes=10)


@pytest.mark.slow
def test_an_honest_step_function_is_valid_with_the_search_that_its_verdict_asks_for(
    model: keras.Model, digits: Dataset
) -> None:
    report = judged(step(model), digits, 0.03)
    assert report.verdict == "SUSPECT"
    assert "100.0 % of the images have no loss gradient; no search without gradients was tried" in report.reasons
    (advice,) = {doubt.advice for doubt in report.doubts if doubt.advice}
    assert advice == DIFFERENCES
    again = judged(step(model), digits, 0.03, advice.title)
    assert (again.verdict, again.reasons) == ("VALID", ())
    assert again.robust_accuracy <= report.robust_accuracy


@pytest.mark.slow
def test_who_hides_gradients_from_a_weak_search_is_not_believed(model: keras.Model, digits: Dataset) -> None:
    """The gradient of the network itself would find what a search of 400 queries does not."""
    import keras

    stopped = before(model, lambda x: keras.ops.stop_gradient(x) + 0.0 * x)
    report = judged(stopped, digits, 0.1, f"square:max_iter={LEAST_QUERIES}")
    assert report.verdict != "VALID"
    (reason,) = [reason for reason in report.reasons if "no loss gradient" in reason]
    assert "in another search finite-differences breaks" in reason
    assert {doubt.advice for doubt in report.doubts} == {None, DIFFERENCES}


SEARCH = attacked(SQUARE, 0.1, 40, calls=LEAST_QUERIES)
STEP = {"zero_gradients": 1.0, "detached": 1.0, "unstable": 1.0}
MORE = retry(64, 8, 0.5, DIFFERENCES, after=SEARCH)
NO_MORE = retry(64, 0, 0.4, DIFFERENCES, after=SEARCH)


def test_a_number_that_rests_on_a_search_needs_no_gradient() -> None:
    gradients = attacked(FGSM, 0.1, 90, linf=0.0), attacked(PGD, 0.1, 90)
    assert verdict(doubts(evidence(*gradients, SEARCH, searched=(NO_MORE,), **STEP)))[0] == "VALID"
    assert verdict(doubts(evidence(SEARCH, searched=(NO_MORE,), **STEP)))[0] == "VALID"


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ((attacked(PGD, 0.1, 90), SEARCH), {"searched": (MORE,)}),
        ((attacked(PGD, 0.1, 90), SEARCH), {}),  # nothing was held against it
        ((attacked(PGD, 0.1, 90),), {"searched": ()}),
        ((SEARCH,), {"searched": (NO_MORE,), "zero_gradients": 0.4}),  # most images have a gradient
    ],
)
def test_a_number_that_rests_on_nothing_is_not_believed(results: tuple, found: dict) -> None:  # type: ignore[type-arg]
    reasons = verdict(doubts(evidence(*results, **STEP | found)))[1]
    assert any("no loss gradient" in reason for reason in reasons)


def test_a_short_sample_and_a_black_box_are_no_search() -> None:
    short = attacked(Square(max_iter=60), 0.1, 40, calls=60)
    hidden = attacked(SQUARE, 0.1, 40, calls=LEAST_QUERIES, **HIDDEN)
    assert searches([short, hidden, attacked(PGD, 0.1, 90), SEARCH]) == [SEARCH]
