"""Shares known from a sample: three values, and how large a true share must be to be found, exactly and by drawing."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.measurement import wilson
from gauntlet.validity.checks import SHARE, SQUARE, UNBOUNDED
from gauntlet.validity.probes import EXPOSED, QUERIED, RETRIED, SAMPLE
from gauntlet.validity.retries import CONVERGED
from gauntlet.validity.samples import FEW, Sample, chance, detected, raised_from, sample


@pytest.mark.parametrize(
    ("found", "n", "threshold", "side"),
    [
        (20, 256, 0.05, "above"),
        (19, 256, 0.05, "across"),
        (6, 256, 0.05, "across"),
        (5, 256, 0.05, "below"),
        (0, 256, 0.05, "below"),
        (0, 64, 0.05, "across"),
        (256, 256, 0.05, "above"),
        (0, 381, 0.01, "below"),
        (0, 380, 0.01, "across"),
        (3, 3, 1.0, "below"),  # no share is above 1
    ],
)
def test_the_whole_interval_decides(found: int, n: int, threshold: float, side: str) -> None:
    assert Sample(found, n).side(threshold) == side


def test_more_images_of_the_same_share_only_settle_it() -> None:
    for share in (0.0, 0.01, 0.04, 0.06, 0.2, 1.0):
        sides = [sample(share, n).side(SHARE) for n in (100, 400, 1_600, 6_400, 100_000)]
        settled = [side for side in sides if side != "across"]
        assert sides[len(sides) - len(settled) :] == settled
        assert set(settled) == {"above" if share > SHARE else "below"}


def test_the_words_are_those_of_the_interval() -> None:
    low, high = wilson(16, 256)
    assert str(Sample(16, 256)) == f"6.2 % [{100 * low:.1f}, {100 * high:.1f}] of 256 images"


def test_thresholds_of_the_probes() -> None:
    """The least counts, the true shares found 4 times in 5, and the alarms where nothing is wrong: exact binomials."""
    gradients = raised_from(SAMPLE, SHARE)
    assert gradients == 20
    assert detected(SAMPLE, gradients) == pytest.approx(0.0915, abs=5e-4)
    assert chance(0.04, SAMPLE, gradients) == pytest.approx(0.0037, abs=1e-4)  # as 13 were enough: 23 %
    assert chance(0.04, SAMPLE, 13) == pytest.approx(0.23, abs=0.01)
    assert raised_from(EXPOSED, UNBOUNDED, FEW) == 8
    assert Sample(0, EXPOSED).side(UNBOUNDED) == "below"
    assert raised_from(QUERIED, SQUARE / 100 / 0.5, FEW) == 3
    assert detected(QUERIED, 3) == pytest.approx(0.0655, abs=1e-3)
    assert raised_from(RETRIED, CONVERGED / 100 / 0.5) == 6


def test_the_exact_chance_is_that_of_drawing() -> None:
    rng = np.random.default_rng(0)
    for share, n, count in ((0.0915, 256, 20), (0.04, 256, 13), (0.0655, 64, 3)):
        drawn = float((rng.binomial(n, share, 20_000) >= count).mean())
        assert chance(share, n, count) == pytest.approx(drawn, abs=0.015)
    assert chance(detected(256, 20), 256, 20) == pytest.approx(0.8)
    assert detected(10, 11) == 1.0


def test_no_alarm_at_the_threshold_more_often_than_the_interval_allows() -> None:
    for n in (64, 128, 256, 384):
        for threshold in (0.01, 0.02, 0.05):
            assert chance(threshold, n, raised_from(n, threshold)) < 0.05
