"""The scan of a training set: clean data does not alarm, planted poison does, and what is missed is stated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gauntlet.backdoor.inspections import EVERY, Seen, inspect
from gauntlet.data.datascan import (
    Check,
    DataScan,
    check_balance,
    check_duplicates,
    check_labels,
    check_patches,
    find_patches,
    suspects,
)
from gauntlet.data.datasets import Dataset
from gauntlet.poisoning import Poisoned, poisoning
from gauntlet.training.fit import Training

SETTINGS = DataScan()
IMAGES_ALONE = [one for one in EVERY if not one.trains]


def planted(digits: Dataset, text: str) -> Poisoned:
    return poisoning(text).poison(digits.x_train, digits.y_train, seed=0)


def test_clean_digits_do_not_alarm(digits: Dataset) -> None:
    told: list[float] = []
    checks = inspect(IMAGES_ALONE, Seen(digits, SETTINGS), lambda _, share: told.append(share))
    assert [check.name for check in checks if check.alarm] == []
    assert [check.name for check in checks] == ["class balance", "duplicates", "labels", "patches"]
    assert checks[-1].facts["patch_score"] < SETTINGS.patch_score / 2
    assert told == sorted(told)


# --- patches ------------------------------------------------------------------------------------------------

FOUND = ["corner-trigger:rate=0.01", "corner-trigger:rate=0.05,corner=top-left,target=3", "patch:rate=0.005"]
FOUND += ["corner-trigger:rate=0.02,victims=target,size=3"]


@pytest.mark.parametrize("text", FOUND)
def test_a_planted_trigger_is_found_with_its_images(text: str, digits: Dataset) -> None:
    poisoned = planted(digits, text)
    check = check_patches(poisoned.x, poisoned.y, SETTINGS)
    assert check.alarm
    assert check.suspects.tolist() == poisoned.index.tolist()
    assert check.facts["label"] == poisoning(text).aim(10)


MISSED = {
    "too few images": "corner-trigger:count=4",
    "no class": "patch:rate=0.02,relabel=false",
    "too dark": "patch:rate=0.02,value=0.1",
    "among strokes like it": "patch:rate=0.02,row=12,column=12",
}


@pytest.mark.parametrize("text", MISSED.values(), ids=MISSED.keys())
def test_what_looks_like_the_rest_is_not_found(text: str, digits: Dataset) -> None:
    poisoned = planted(digits, text)
    assert not check_patches(poisoned.x, poisoned.y, SETTINGS).alarm


def test_where_the_trigger_lies_is_said(digits: Dataset) -> None:
    poisoned = planted(digits, "corner-trigger:count=20,corner=bottom-left,size=3,target=1")
    best = find_patches(poisoned.x, poisoned.y, SETTINGS)[0]
    assert best.row + best.size > 25
    assert best.column < 3
    assert (best.label, best.count, best.elsewhere) == (1, 20, 0)


def test_copies_of_one_image_are_no_trigger(digits: Dataset) -> None:
    x = np.concatenate([digits.x_train, np.repeat(digits.x_train[:1], 30, axis=0)])
    y = np.concatenate([digits.y_train, np.repeat(digits.y_train[:1], 30)])
    assert not check_patches(x, y, SETTINGS).alarm


def test_colour_is_looked_at_too(digits: Dataset) -> None:
    coloured = np.repeat(digits.x_train[:600], 3, axis=3)
    poisoned = poisoning("patch:count=20,value=[1,0,0.5]").poison(coloured, digits.y_train[:600], 0)
    check = check_patches(poisoned.x, poisoned.y, SETTINGS)
    assert check.alarm
    assert set(poisoned.index) <= set(check.suspects)


# --- labels -------------------------------------------------------------------------------------------------


def test_flipped_labels_are_found(digits: Dataset) -> None:
    rng = np.random.default_rng(0)
    index, y = np.sort(rng.choice(len(digits.y_train), 72, replace=False)), digits.y_train.copy()
    y[index] = (y[index] + rng.integers(1, 10, len(index))) % 10
    check = check_labels(digits.x_train, y, digits.x_test, digits.y_test, SETTINGS, 0)
    assert check.alarm
    assert np.isin(index, check.suspects).mean() > 0.8
    assert np.isin(check.suspects, index).mean() > 0.9


def test_labels_as_bad_as_those_of_the_test_set_do_not_alarm(digits: Dataset) -> None:
    """Flipped in both: that is the data's own noise, and the test set cannot tell."""
    y, y_test = digits.y_train.copy(), digits.y_test.copy()
    for labels in (y, y_test):
        index = np.random.default_rng(0).choice(len(labels), len(labels) // 20, replace=False)
        labels[index] = (labels[index] + 1) % 10
    assert not check_labels(digits.x_train, y, digits.x_test, y_test, SETTINGS, 0).alarm


def test_a_test_class_that_training_lacks_is_no_accident(digits: Dataset) -> None:
    few = digits.y_train < 9
    check = check_labels(digits.x_train[few], digits.y_train[few], digits.x_test, digits.y_test, SETTINGS, 0)
    assert not check.alarm
    assert check_balance(digits.y_train[few], digits.y_test, 10, SETTINGS).alarm


# --- counts and copies --------------------------------------------------------------------------------------


def test_a_class_that_grew_is_named(digits: Dataset) -> None:
    poisoned = planted(digits, "corner-trigger:rate=0.2,target=4")
    check = check_balance(poisoned.y, digits.y_test, 10, SETTINGS)
    assert check.alarm
    assert check.facts["most_class"] == 4
    assert check.facts["most_excess"] == pytest.approx(0.2, abs=0.01)


def test_an_uneven_set_whose_test_set_is_as_uneven_does_not_alarm() -> None:
    y, y_test = np.repeat([0, 1], [900, 100]), np.repeat([0, 1], [90, 10])
    check = check_balance(y, y_test, 2, SETTINGS)
    assert not check.alarm
    assert check.facts["p_uniform"] < 1e-9
    assert check.facts["imbalance"] == 9


def test_copies_with_two_labels_alarm_and_leaks_are_counted(digits: Dataset) -> None:
    x = np.concatenate([digits.x_train[:100], digits.x_train[:3], digits.x_test[:2]])
    y = np.concatenate([digits.y_train[:100], digits.y_train[:2], [9 - digits.y_train[2]], digits.y_test[:2]])
    check = check_duplicates(x, y, digits.x_test)
    assert check.alarm
    assert check.suspects.tolist() == [2, 102]
    assert check.facts == {"duplicates": 3, "contradicting": 2, "leaked": 2}
    same = check_duplicates(x[:102], y[:102], digits.x_test)
    assert not same.alarm
    assert same.facts["duplicates"] == 2


def test_suspects_are_those_of_all_checks() -> None:
    one, two = (Check("c", True, np.array(rows), {}, "") for rows in ([5, 1], [1, 3]))
    assert suspects([one, two]).tolist() == [1, 3, 5]
    assert suspects([]).tolist() == []


def test_the_same_images_give_the_same_scan(digits: Dataset) -> None:
    few = replace(digits, x_train=digits.x_train[:300], y_train=digits.y_train[:300])
    first, second = (inspect(IMAGES_ALONE, Seen(few, SETTINGS, Training(seed=1))) for _ in range(2))
    assert [check.facts for check in first] == [check.facts for check in second]
