"""Five lines of Python: numbers, verdict, and one line for what cannot be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

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
    assert [report.settings[name] for name in ("labels", "n_classes", "seed")] == ["as-is", 10, 0]


def test_it_can_be_looked_at(report: gauntlet.Report) -> None:
    assert len(report.frame) == 2 * 2 * 60
    assert report.figure().get_suptitle() == "model: robust accuracy by budget"
    assert report.verdict in report._repr_html_()
    assert "<html" in report.to_html()
    assert "pgd 0.1" in str(report)


@pytest.mark.slow
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


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[Any, Any, dict[str, Any]]]] = {
    "lists": lambda x, y: (x.tolist(), y.tolist(), {}),
    "a column of a frame": lambda x, y: (x[..., 0], pd.DataFrame({"y": y}, index=y), {}),
    "objects": lambda x, y: (x, y.astype(object), {}),
    "tensors": lambda x, y: (tf.constant(x), tf.constant(y), {}),
    "alpha": lambda x, y: (np.concatenate([x, np.ones_like(x)], 3), y, {}),
    "channels first": lambda x, y: (np.moveaxis(x, 3, 1), y, {}),
    "rows": lambda x, y: (x.reshape(len(x), -1), y, {}),
    "from 1 on": lambda x, y: (x, y + 1, {"labels": "map"}),
    "names": lambda x, y: (x, np.array(list("abcdefghij"))[y], {}),
    "numbers as text": lambda x, y: (x, [str(9 + label) for label in y], {"labels": "map"}),
    "sixteenths": lambda x, y: (np.rint(16 * x).astype(np.uint8), y, {"pixel_max": 16}),
}


@pytest.fixture(scope="module")
def plain(model: keras.Model, digits: Dataset) -> tuple[np.ndarray, np.ndarray, gauntlet.Report]:
    """Digits of 16 grey values, as arrays, and their evaluation."""
    x, y = (np.rint(16 * digits.x_test[:60]) / 16).astype(np.float32), digits.y_test[:60]
    return x, y, gauntlet.evaluate(model, x, y, 0.1, attacks="fgsm", n=20)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_images_and_labels_come_in_any_form(
    form: Callable[[np.ndarray, np.ndarray], tuple[Any, Any, dict[str, Any]]],
    model: keras.Model,
    plain: tuple[np.ndarray, np.ndarray, gauntlet.Report],
) -> None:
    x, y, report = plain
    images, labels, more = form(x, y)
    again = gauntlet.evaluate(model, images, labels, 0.1, attacks="fgsm", n=20, **more)
    assert again.data["digest"] == report.data["digest"]
    assert again.robust_accuracy == report.robust_accuracy < report.clean_accuracy.value


def test_few_images_do_not_limit_the_classes(model: keras.Model, digits: Dataset) -> None:
    few = np.flatnonzero(digits.y_test == 9)[:4]
    report = gauntlet.evaluate(model, digits.x_test[few], digits.y_test[few], 0.1, attacks="fgsm", accept_chance=True)
    assert report.loaded.classifier.nb_classes == 10
    assert report.clean_accuracy.n == 4


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
    "no labels": ({"y": None}, "y: nothing was given"),
    "an argument": ({"input_rang": "0..255"}, "input_rang: there is no such argument .*input_range"),
    "a value": ({"input_range": "0-255"}, "input_range: .*'0..255'.* got '0-255'"),
    "a way": ({"labels": "maps"}, "labels: Input should be 'as-is' or 'map', got 'maps'"),
    "no image": ({"n": 0}, "n: .*greater than or equal to 1, got 0"),
    "not a number": ({"eps": np.nan}, "eps: .*greater than 0, got nan"),
    "no attack": ({"attacks": ()}, "attacks: nothing is asked for"),
    "attacks as they are not": ({"attacks": None}, "attacks: .* got None"),
    "one class": ({"n_classes": 1}, "n_classes: .*greater than or equal to 2, got 1"),
    "seed": ({"seed": -1}, "seed"),
    "names": (
        {"x": np.ones((90, 28, 28)), "y": ["cat", "dog"] * 45},
        "the model has 10 outputs, the data set 2 classes",
    ),
    "rows": ({"x": np.ones((4, 785)), "y": np.arange(4)}, r"x: has shape \(4, 785\).*reshape each row"),
    "transparent": ({"x": np.zeros((4, 28, 28, 2)), "y": np.arange(4)}, r"x\[0\]: has transparent .*--background"),
    "ragged": ({"x": [np.ones((28, 28)), np.ones((9, 9))]}, "x: a list cannot be read as one array"),
    "a stream": ({"x": (image for image in np.ones((4, 28, 28)))}, "x: a generator is no array .collect it"),
    "labels from 1": ({"x": np.ones((90, 28, 28)), "y": np.arange(90) % 10 + 1}, "10 outputs, .* 11 .*--labels map"),
    "dark": ({"x": np.ones((4, 28, 28), np.uint8), "y": np.arange(4)}, "x: has pixels up to 1, .*--pixel-max"),
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
