"""Five lines of Python: numbers, verdict, and one line for what cannot be evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import gauntlet
from gauntlet.data.datasets import Dataset
from gauntlet.errors import InputError

QUICK: dict[str, Any] = {"attacks": ["fgsm", "pgd:max_iter=10"], "n": 60}


@pytest.fixture(scope="module")
def report(model: keras.Model, digits: Dataset) -> gauntlet.Report:
    return gauntlet.evaluate(model, digits.x_test, digits.y_test, eps=[0.05, 0.1], certify=["interval"], **QUICK)


def test_the_numbers_come_with_n_interval_and_verdict(report: gauntlet.Report) -> None:
    assert [m.eps for m in report.worst_case] == [0.05, 0.1]
    assert report.robust_accuracy == report.worst_case[1].value <= report.worst_case[0].value
    assert all(m.low <= m.value <= m.high and m.n == 60 for m in report.worst_case)
    assert report.clean_accuracy.value > 0.9
    assert report.verdict in ("VALID", "SUSPECT", "INVALID")
    assert (report.verdict == "VALID") == (not report.reasons)


def test_it_can_be_looked_at(report: gauntlet.Report) -> None:
    assert len(report.frame) == 2 * 2 * 60
    assert report.figure().get_suptitle() == "model: robust accuracy by budget"
    assert report.verdict in report._repr_html_()
    assert "<html" in report.to_html()
    assert "pgd 0.1" in str(report)


def test_a_path_a_function_and_other_pixels_give_the_same(
    model: keras.Model, digits: Dataset, tmp_path: Path, report: gauntlet.Report
) -> None:
    """uint8 images and one-hot labels of a file are the same evaluation; a function shows no gradients."""
    model.save(tmp_path / "model.keras")
    whole, hot = np.rint(255 * digits.x_test).astype(np.uint8), np.eye(10)[digits.y_test]
    again = gauntlet.evaluate(tmp_path / "model.keras", whole, hot, eps=[0.05, 0.1], **QUICK)
    ours, theirs = (one.frame.query("attack == 'fgsm'")["correct"].mean() for one in (again, report))
    assert ours == pytest.approx(theirs, abs=0.05)  # pixels are rounded to 255ths
    black = gauntlet.evaluate(
        lambda x: model(x).numpy(), digits.x_test, digits.y_test, 0.1, attacks="square:max_iter=5", n=20
    )
    assert black.results[0].knowledge == "black-box"


def test_a_test_of_ones_own_fails_with_the_reasons(model: keras.Model, digits: Dataset) -> None:
    told = digits.x_test, digits.y_test, 0.1
    with pytest.raises(AssertionError, match=r"robust accuracy at 0.1 is .* % of n = 60, below 99.9 %"):
        gauntlet.assert_robust(model, *told, at_least=0.999, **QUICK)
    with pytest.raises(AssertionError, match="SUSPECT: only single-step attacks"):
        gauntlet.assert_robust(model, *told, at_least=0.0, attacks="fgsm", n=60)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"y": np.zeros(3, int)}, "y: 3 labels for"),
    "classes": ({"n_classes": 3}, "y: labels from 0 to 9 are out of range"),
    "pixels": ({"x": np.full((4, 28, 28), 300.0), "y": np.arange(4)}, "x: has pixels"),
    "attack": ({"attacks": "nothing"}, "attack: unknown attack 'nothing'"),
    "budget": ({"eps": 3.0}, "eps"),
    "certificate": ({"certify": ["nothing"]}, "certifier: unknown certifier 'nothing'"),
    "file": ({"model": "absent.keras"}, "absent.keras"),
    "weights": ({"model": {"dense": 1}}, "a dict is no model .*a function of images such as model.predict_proba"),
    "nothing": ({"model": None}, "a NoneType is no model"),
}


@pytest.mark.parametrize(("changed", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_evaluated_is_one_line(
    model: keras.Model, digits: Dataset, changed: dict[str, Any], says: str
) -> None:
    given = {"model": model, "x": digits.x_test, "y": digits.y_test, "eps": 0.1} | QUICK | changed
    with pytest.raises(InputError, match=says) as caught:
        gauntlet.evaluate(**given)
    assert "\n" not in str(caught.value)


def test_nothing_else_is_offered() -> None:
    assert not hasattr(gauntlet, "nothing")
