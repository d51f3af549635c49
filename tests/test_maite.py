"""Adapters to and from MAITE, against its own protocols and its own `evaluate`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import maite.tasks
import numpy as np
import pytest
from maite.protocols import generic

import gauntlet
from gauntlet import maite as ours
from gauntlet.data.datasets import read_dataset
from gauntlet.errors import InputError
from tests.frozen import frozen

N = 120


@pytest.fixture(scope="module")
def report() -> gauntlet.Report:
    digits = read_dataset("digits")
    asked: dict[str, Any] = {"attacks": ["fgsm", "pgd:max_iter=10"], "n": 60}
    return gauntlet.evaluate(frozen(), digits.x_test[:N], digits.y_test[:N], eps=[0.05, 0.1], **asked)


@pytest.fixture(scope="module")
def data() -> ours.Data:
    digits = read_dataset("digits")
    return ours.Data(digits.x_test[:N], digits.y_test[:N], digits.class_names, "digits")


def test_they_are_what_maite_says(report: gauntlet.Report, data: ours.Data) -> None:
    assert isinstance(data, generic.Dataset)
    assert isinstance(ours.Model(report.loaded.classifier.predict), generic.Model)
    assert isinstance(ours.Accuracy(), generic.Metric)
    image, target, datum = data[-1]
    assert (image.shape, target.shape, target.sum(), datum) == ((1, 28, 28), (10,), 1, {"id": N - 1})
    assert len(list(data)) == N  # it ends by itself, as MAITE's loaders need


@pytest.mark.parametrize("batch_size", [1, 50])
def test_maites_evaluate_gives_the_accuracy_of_the_report(
    batch_size: int, report: gauntlet.Report, data: ours.Data
) -> None:
    model, metric = ours.Model(report.loaded.classifier.predict, "mine"), ours.Accuracy()
    metrics, _, _ = maite.tasks.evaluate(model=model, metric=metric, dataset=data, batch_size=batch_size)
    clean = report.clean_accuracy
    assert metrics == {"accuracy": clean.value, "accuracy_low": clean.low, "accuracy_high": clean.high, "n": N}


def test_there_and_back_is_the_same(report: gauntlet.Report, data: ours.Data) -> None:
    digits = read_dataset("digits")
    x, y = ours.arrays(data)
    np.testing.assert_array_equal(x, digits.x_test[:N])
    np.testing.assert_array_equal(y, digits.y_test[:N])
    predict = ours.function(ours.Model(report.loaded.classifier.predict))
    np.testing.assert_array_equal(predict(x), report.loaded.classifier.predict(x))


def test_a_model_of_theirs_is_attacked_by_its_scores(report: gauntlet.Report, data: ours.Data) -> None:
    theirs = ours.function(ours.Model(report.loaded.classifier.predict))
    metrics = gauntlet.evaluate(theirs, *ours.arrays(data), 0.1, attacks="square:max_iter=5", n=20)
    assert (metrics.results[0].knowledge, metrics.clean_accuracy.value) == ("black-box", report.clean_accuracy.value)


def test_whole_numbers_are_pixels_of_the_same_images(report: gauntlet.Report, data: ours.Data) -> None:
    model = ours.Model(report.loaded.classifier.predict)
    whole = [np.rint(255 * data[place][0]).astype(np.uint8) for place in range(20)]
    near = [(image / 255).astype(np.float32) for image in whole]
    np.testing.assert_array_equal(model(whole), model(near))


def test_a_metric_of_theirs_measures_a_report(report: gauntlet.Report) -> None:
    metrics = ours.measure(ours.Accuracy(), report)
    assert metrics["clean"]["accuracy"] == report.clean_accuracy.value
    for result in report.results:
        share = (result.predictions == result.labels).mean()
        assert metrics[result.accuracy("model").label]["accuracy"] == pytest.approx(share)
    assert len(metrics) == 1 + len(report.results) == 5


class Theirs:
    """A data set and a model with mistakes."""

    def __init__(self, shapes: Sequence[tuple[int, ...]] = ((1, 4, 4),), target: Any = (1.0, 0.0)) -> None:
        self.shapes, self.target, self.metadata = shapes, target, {"id": "theirs"}

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, place: int) -> Any:
        return np.zeros(self.shapes[place]), np.asarray(self.target), {"id": place}

    def __call__(self, batch: Sequence[Any]) -> list[np.ndarray]:
        return [np.zeros(2)] * (len(batch) - 1)


WRONG: dict[str, tuple[Any, str]] = {
    "sizes": (lambda: ours.arrays(Theirs([(1, 4, 4), (1, 5, 5)])), "theirs: images of shapes .* expected one shape"),
    "axes": (lambda: ours.arrays(Theirs([(4, 4)])), r"theirs: images of shapes \[\(4, 4\)\]"),
    "nothing": (lambda: ours.arrays(Theirs([])), r"theirs: images of shapes \[\]"),
    "targets": (lambda: ours.arrays(Theirs(target=1)), r"theirs: a target of shape \(\), expected \(k,\)"),
    "answers": (lambda: ours.function(Theirs())(np.zeros((3, 4, 4, 1))), "theirs: 2 answers of shapes"),
    "labels": (lambda: ours.Data(np.zeros((1, 4, 4, 1)), np.array([2]), ["a", "b"]), "labels from 2 to 2, 2 classes"),
    "arrays": (lambda: ours.Data(np.zeros((1, 4, 4)), np.array([0]), ["a"]), r"arrays: images \(1, 4, 4\)"),
    "metric": (lambda: ours.Accuracy().compute(), "accuracy: no image was counted"),
}


@pytest.mark.parametrize(("call", "says"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_one_line(call: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_nothing_of_gauntlet_needs_maite() -> None:
    script = "import sys, gauntlet.maite\nprint('maite' in sys.modules, 'torch' in sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "False False\n"
