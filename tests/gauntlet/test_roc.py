"""What scores are worth: values by hand, and intervals that cover the truth."""

import numpy as np
import pytest
from scipy.stats import norm

from gauntlet.errors import SettingError
from gauntlet.roc import after_rejection, area, evaluate_detector, rate, sensitivity

LOW, HIGH = np.linspace(0.0, 0.4, 100), np.linspace(0.6, 1.0, 50)


def test_perfect_scores() -> None:
    result = evaluate_detector(LOW, HIGH, 0.5)
    assert (result.auc.value, result.tpr_at_fpr_1.value, result.tpr_at_fpr_5.value) == (1, 1, 1)
    assert (result.tpr_at_threshold.value, result.fpr_at_threshold.value) == (1, 0)
    assert (result.n_clean, result.n_attacked) == (100, 50)
    assert 0.9 < result.auc.low < 1 == result.auc.high  # a finite sample proves no perfection


def test_inverted_scores() -> None:
    result = evaluate_detector(HIGH, LOW, 0.5)
    assert (result.auc.value, result.tpr_at_fpr_5.value) == (0, 0)
    assert (result.tpr_at_threshold.value, result.fpr_at_threshold.value) == (0, 1)
    assert result.auc.low == 0 < result.auc.high < 0.1


def test_random_scores() -> None:
    rng = np.random.default_rng(0)
    result = evaluate_detector(rng.random(4_000), rng.random(4_000), 0.5)
    assert result.auc.low < 0.5 < result.auc.high
    assert result.tpr_at_fpr_5.value == pytest.approx(0.05, abs=0.02)


def test_equal_scores_tell_nothing() -> None:
    result = evaluate_detector(np.zeros(10), np.zeros(10), 0.0)
    assert result.auc.value == 0.5
    assert result.tpr_at_fpr_5.value == 0
    assert result.tpr_at_threshold.value == 0  # flagged is above, not at


def test_rates_at_false_positives_by_hand() -> None:
    clean = np.arange(100.0)  # 1 % is the image at 99, 5 % those from 95 on
    attacked = np.array([99.5, 98.5, 98.5, 97.5, 94.5, 94.5, 94.0, 10.0])
    result = evaluate_detector(clean, attacked, 97.5)
    assert result.tpr_at_fpr_1.value == 3 / 8
    assert result.tpr_at_fpr_5.value == 6 / 8
    assert result.tpr_at_threshold.value == 3 / 8
    assert result.fpr_at_threshold.value == 2 / 100
    beaten = sum((one > clean).mean() + 0.5 * (one == clean).mean() for one in attacked) / 8
    assert result.auc.value == pytest.approx(beaten)
    assert result.tpr_at_fpr_5.low < 6 / 8 < result.tpr_at_fpr_5.high


def test_the_interval_of_an_area_is_hanley_and_mcneils_where_samples_are_large() -> None:
    a, n = 0.893, 2_000
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    error = np.sqrt((a * (1 - a) + (n - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / n**2)
    result = area(a, n, n)
    assert result.high - result.low == pytest.approx(2 * 1.96 * error, rel=0.02)
    assert result.low < a < result.high


@pytest.mark.parametrize("auc", [0.0, 1e-12, 0.02, 0.5, 0.98, 1 - 1e-12, 1.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (10, 500), (500, 10)])
def test_an_area_lies_in_its_interval(auc: float, n: int, m: int) -> None:
    result, mirrored = area(auc, n, m), area(1 - auc, n, m)
    assert 0 <= result.low <= auc <= result.high <= 1
    assert result.high - result.low > 1e-3
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - result.high, 1 - result.low), abs=1e-6)


@pytest.mark.parametrize(
    ("clean", "attacked", "says"), [([], [1.0], "0 clean"), ([1.0], [], "0 attacked"), ([1.0], [np.nan], "1 of 1")]
)
def test_scores_of_nothing_are_refused(clean: list[float], attacked: list[float], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        evaluate_detector(np.array(clean), np.array(attacked), 0.5)


def test_a_rejected_image_is_not_served() -> None:
    scores, correct = np.array([0.1, 0.2, 0.5, 0.6, 0.9]), np.array([True, False, True, True, False])
    service = after_rejection(scores, correct, 0.5)
    assert (service.rejected, service.n) == (2, 5)
    assert service.accuracy.value == 2 / 5
    assert service.accuracy_accepted is not None
    assert service.accuracy_accepted.value == 2 / 3
    assert after_rejection(scores, correct, 0.0).accuracy_accepted is None


@pytest.mark.parametrize("shift", [0.5, 2.0, 4.0])
def test_a_rate_whose_threshold_is_of_the_same_sample_covers_the_truth(shift: float) -> None:
    rng, nights, n, level = np.random.default_rng(0), 200, 1_000, 0.01
    truth = float(norm.sf(norm.isf(level) - shift))
    covered = plain = 0
    for _ in range(nights):
        result = sensitivity(rng.normal(size=n), rng.normal(shift, 1, n), level)
        wilson = rate(result.value * n, n)
        covered += result.low <= truth <= result.high
        plain += wilson.low <= truth <= wilson.high
    assert plain < 0.8 * nights < 0.9 * nights <= covered


def test_a_rate_of_one_leaves_an_interval() -> None:
    result = sensitivity(LOW, HIGH, 0.01)
    assert result.low < 1 == result.high
