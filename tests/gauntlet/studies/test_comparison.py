"""Published against measured: worked examples, and what must hold for any figures."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from gauntlet.studies.comparison import (
    FACTOR,
    LEVEL,
    Interval,
    compare,
    definition,
    difference,
    margin,
    share,
)


def by_counts(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    return difference(share(first[0] / first[1], first[1]), share(second[0] / second[1], second[1]))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # R. G. Newcombe, Stat. Med. 17 (1998) 873-890, table II, method 10
        ((56, 70), (48, 80), (0.2000, 0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.6000, 0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.5714, 0.0582, 0.8062)),
        ((5, 56), (0, 29), (0.0893, -0.0381, 0.1926)),
        ((0, 10), (0, 20), (0.0000, -0.1611, 0.2775)),
        ((0, 10), (0, 10), (0.0000, -0.2775, 0.2775)),
        ((10, 10), (0, 20), (1.0000, 0.6791, 1.0000)),
        ((10, 10), (0, 10), (1.0000, 0.6075, 1.0000)),
    ],
)
def test_newcombes_examples(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float, float]
) -> None:
    assert by_counts(first, second) == pytest.approx(expected, abs=5e-5)


def pairs() -> list[tuple[tuple[int, int], tuple[int, int]]]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 2_000, (300, 2))
    return [((int(rng.integers(0, a + 1)), int(a)), (int(rng.integers(0, b + 1)), int(b))) for a, b in sizes]


def test_it_is_the_librarys_from_limits_instead_of_counts() -> None:
    for first, second in pairs():
        library = confint_proportions_2indep(*first, *second, method="newcomb", alpha=1 - LEVEL)
        assert by_counts(first, second)[1:] == pytest.approx(library, abs=1e-9)


def test_swapped_it_is_the_same_the_other_way_round() -> None:
    for first, second in pairs():
        there, back = by_counts(first, second), by_counts(second, first)
        assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_more_images_of_the_same_shares_only_settle_what_could_not_be_told() -> None:
    """The intervals are nested: a verdict once given stays, and a difference beyond the margin is never confirmed."""
    sizes = (100, 400, 1_600, 10_000, 100_000, 1_000_000)
    for published in (0.01, 0.12, 0.5, 0.88, 0.99):
        for measured in (0.0, 0.01, 0.02, 0.12, 0.14, 0.5, 0.51, 0.88, 0.98, 0.99, 1.0):
            comparison = [compare(published, n, share(measured, n), n=n) for n in sizes]
            verdicts = [one.verdict for one in comparison]
            given = [verdict for verdict in verdicts if verdict != "undecided"]
            assert len(set(given)) <= 1, (published, measured, verdicts)
            assert verdicts[len(verdicts) - len(given) :] == given
            beyond = abs(measured - published) > margin(published) + 1e-9
            assert ("confirmed" not in verdicts) if beyond else ("differs" not in verdicts)
            for few, many in pairwise(comparison):
                assert few.found.low <= many.found.low + 1e-12
                assert many.found.high <= few.found.high + 1e-12


@pytest.mark.parametrize(
    ("published", "measured", "n", "verdict"),
    [
        (0.9902, 0.9898, 10_000, "confirmed"),
        (0.9902, 0.9898, 1_000, "undecided"),  # a wide interval confirms nothing
        (0.1185, 0.25, 20, "undecided"),
        (0.997, 0.988, 10_000, "differs"),  # an error four times as large, 0.9 points away
        (0.988, 0.997, 10_000, "differs"),
        (0.99, 0.985, 10_000, "undecided"),
        (0.1185, 0.2724, 10_000, "differs"),
        (0.5, 0.515, 10_000, "undecided"),
        (0.5, 0.5, 10_000, "confirmed"),
        (0.5, 0.54, 10_000, "differs"),
        (1.0, 1.0, 10_000, "undecided"),  # no number of images confirms an error of nothing
        (1.0, 0.9, 100, "differs"),
    ],
)
def test_a_share_is_confirmed_within_half_its_error(published: float, measured: float, n: int, verdict: str) -> None:
    assert compare(published, 10_000, share(measured, n), n=n).verdict == verdict


def test_the_margin_is_half_of_the_rarer_outcome_and_two_points_at_most() -> None:
    assert [margin(p) for p in (0.99, 0.01, 0.96, 0.5, 0.0, 1.0)] == pytest.approx([0.005, 0.005, 0.02, 0.02, 0, 0])


def test_a_far_copy_is_seldom_confirmed_and_a_faithful_one_mostly() -> None:
    """10,000 images each at a published error of 1 %: `benchmarks.thresholds` has the exact chances."""
    rng, n = np.random.default_rng(0), 10_000

    def confirmed(error: float) -> float:
        counts = rng.binomial(n, [[0.01, error]] * 400)
        return float(np.mean([compare(a / n, n, share(b / n, n), n=n).verdict == "confirmed" for a, b in counts]))

    assert confirmed(0.01) > 0.8
    assert confirmed(0.015) < 0.1
    assert confirmed(0.02) == 0


@pytest.mark.parametrize(
    ("published", "measured", "verdict"),
    [
        (0.03, Interval(0.031, 0.029, 0.0331), "confirmed"),
        (0.03, Interval(0.039, 0.033, 0.0461), "undecided"),
        (0.05, Interval(0.007, 0.006, 0.0082), "differs"),
        (0.03, Interval(0.06, 0.055, 0.0655), "differs"),
        (3.0, Interval(3.1, 3.05, 3.151), "confirmed"),  # the same by any scale
        (3.0, Interval(6.0, 5.9, 6.102), "differs"),
        (0.03, Interval(0.03, 0.03, 0.03), "undecided"),  # without an interval
        (0.0, Interval(0.03, 0.02, 0.045), "undecided"),
    ],
)
def test_losses_are_compared_by_their_ratio(published: float, measured: Interval, verdict: str) -> None:
    comparison = compare(published, 10_000, measured, "loss")
    assert (comparison.scale, comparison.verdict) == ("ratio", verdict)
    assert comparison.allowed == pytest.approx((1 / FACTOR, FACTOR))


def test_the_published_loss_is_as_uncertain_as_the_measured_one() -> None:
    comparison = compare(1.0, 10_000, Interval(1.0, 0.9, 1 / 0.9), "loss").found
    assert (comparison.low, comparison.high) == pytest.approx((0.9 ** math.sqrt(2), 0.9 ** -math.sqrt(2)))


@pytest.mark.parametrize(
    ("published", "value", "unit", "verdict"),
    [(1.24, 1.33, "ratio", "confirmed"), (1.24, 1.35, "ratio", "differs"), (0, 1, "count", "differs")],
)
def test_what_is_no_mean_is_compared_as_it_is(published: float, value: float, unit: Any, verdict: str) -> None:
    assert compare(published, 10_000, Interval(value, value, value), unit).verdict == verdict


def test_the_page_states_the_numbers_of_the_code() -> None:
    assert all(text in definition() for text in ("0.5 ×", "2 points", "1 / 1.5 to 1.5", "± 0.1", "method 10"))
