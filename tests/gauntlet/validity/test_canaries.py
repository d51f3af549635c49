"""Models broken on purpose are doubted for the right reason; honest ones are not doubted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gauntlet.attacks import ApgdCe, Fgsm, Pgd, Square, UniformNoise
from gauntlet.evaluation.battery import Battery
from gauntlet.training.fit import Training
from gauntlet.validity import canaries, probes
from gauntlet.validity.canaries import CANARIES, HONEST

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

TRAINING = Training(epochs=4, batch_size=32, seed=0)
SMALL = Battery(
    attack=(UniformNoise(), Fgsm(), Pgd(max_iter=10), ApgdCe(max_iter=20), Square(max_iter=50)), eps=(0.1, 0.2), n=40
)


@pytest.fixture(autouse=True)
def _little_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"GRADIENTS": 4_000, "SAMPLE": 128, "RETRIED": 64, "EXPOSED": 32}.items():
        monkeypatch.setattr(probes, name, number)


@pytest.mark.slow
@pytest.mark.parametrize("name", CANARIES)
def test_what_is_broken_is_doubted_for_the_right_reason(name: str, digits: Dataset, model: keras.Model) -> None:
    row = canaries.one(name, digits, TRAINING, model, tried=SMALL)
    assert row.ok, f"{row.verdict}: {row.reasons}"
    assert row.verdict in CANARIES[name].verdicts
    assert CANARIES[name].reason in row.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_what_is_honest_is_not_doubted(name: str, digits: Dataset, model: keras.Model) -> None:
    row = canaries.one(name, digits, TRAINING, model, tried=SMALL)
    assert (row.verdict, row.reasons) == ("VALID", ())
    assert row.ok


def test_they_come_one_after_the_other_and_say_so(small: Dataset) -> None:
    said = list[float]()
    short = TRAINING.model_copy(update={"epochs": 2})
    rows = canaries.run(small, short, lambda _, share: said.append(share), names=("range-0-255", "constant"))
    assert [(row.name, row.verdict, row.ok) for row in rows] == [
        ("constant", "INVALID", True),
        ("range-0-255", "INVALID", True),
    ]
    assert said == sorted(said)


def test_an_honest_model_that_is_doubted_and_a_broken_one_that_is_not_fail(
    monkeypatch: pytest.MonkeyPatch, digits: Dataset, model: keras.Model
) -> None:
    monkeypatch.setattr(canaries, "evaluate", lambda *_: ("SUSPECT", ("moonlight",)))
    broken, honest = (canaries.one(name, digits, TRAINING, model) for name in ("constant", "cnn3x3"))
    assert (broken.ok, honest.ok) == (False, False)
    assert broken.reason == "moonlight"
    monkeypatch.setattr(canaries, "evaluate", lambda *_: ("VALID", ()))
    assert replace(canaries.one("noise-layer", digits, TRAINING, model), reasons=()).ok is False


def test_data_sorted_by_class_is_cut_to_all_classes(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "LARGEST", (300, 100))
    rows, asked = np.argsort(digits.y_train, kind="stable"), np.argsort(digits.y_test, kind="stable")
    by_class = replace(digits, x_train=digits.x_train[rows], y_train=digits.y_train[rows])
    by_class = replace(by_class, x_test=digits.x_test[asked], y_test=digits.y_test[asked])
    cut = canaries._cut(by_class)
    assert (len(cut.y_train), len(cut.y_test)) == (300, 100)
    assert set(cut.y_train) == set(cut.y_test) == set(range(10))
    np.testing.assert_array_equal(canaries._cut(digits).x_test, digits.x_test[:100])
