"""p-values are right when nothing is there, and small when something is."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.backdoor.statistics import LEAST, against_others, against_references


def test_false_alarms_come_as_often_as_the_level_says() -> None:
    rng, n = np.random.default_rng(0), 2_000
    drawn = [against_references(rng.normal(0, 1, 10), rng.normal(0, 1, (8, 10)), 0.01).p for _ in range(n)]
    other = [against_others(rng.normal(0, 1, 10), 0.01).p for _ in range(n)]
    assert (np.array(other) < 0.05).mean() == pytest.approx(0.05, abs=0.006)  # 20,000 of them, 3 standard errors
    assert 0.02 < (np.array(drawn) < 0.05).mean() < 0.05  # what is taken off a model as a whole makes it careful
    for p_values in (np.array(drawn), np.array(other)):
        assert (10 * p_values.min(axis=1) < 0.05).mean() < 0.065


def test_a_model_whose_triggers_are_all_smaller_is_not_accused() -> None:
    rng, n = np.random.default_rng(0), 500
    drawn = [against_references(rng.normal(-3, 1, 11), rng.normal(0, 1, (8, 11)), 0.01).p for _ in range(n)]
    assert (11 * np.array(drawn).min(axis=1) < 0.05).mean() < 0.065
    one = rng.normal(-3, 1, 11)
    one[4] -= 9
    tested = against_references(one, rng.normal(0, 1, (8, 11)), 0.01)
    assert tested.p.argmin() == 4
    assert tested.p[4] < 1e-6


def test_the_critical_value_is_where_p_is_the_level() -> None:
    rng = np.random.default_rng(1)
    references, values = rng.normal(3, 1, (6, 5)), rng.normal(3, 1, 5)
    lowest = int((values - references.mean(axis=0)).argmin())  # lower still, it moves no median
    lowered = values.copy()
    lowered[lowest] = against_references(values, references, 0.001).critical[lowest]
    assert against_references(lowered, references, 0.001).p[lowest] == pytest.approx(0.001)
    tested = against_others(values, 0.001)
    for k in range(5):
        lowered = values.copy()
        lowered[k] = tested.critical[k]
        assert against_others(lowered, 0.001).p[k] == pytest.approx(0.001)


def test_each_class_is_held_against_its_own_usual_value() -> None:
    usual = np.array([1.0, 5.0, 3.0, 4.0, 2.0])
    references = usual + np.random.default_rng(2).normal(0, 0.1, (8, 5))
    values = usual.copy()
    values[1] -= 1  # still above what class 0 usually has
    assert against_references(values, references, 0.01).p.argmin() == 1
    assert against_references(values, references, 0.01).p[1] < 1e-6
    assert against_others(values, 0.01, usual).p[1] < 1e-3
    assert against_others(values, 0.01).p[1] > 0.1


def test_no_scatter_at_all_is_no_certainty() -> None:
    same = np.ones((8, 3))
    tested = against_references(np.array([1.0, 1.0, 1.0 - LEAST]), same, 0.01)
    assert tested.p[0] == pytest.approx(0.5)
    assert 0.1 < tested.p[2] < 0.25
