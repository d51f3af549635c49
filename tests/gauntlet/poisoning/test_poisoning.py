"""Poisonings: what is changed, what is not, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.poisoning import POISONINGS, CornerTrigger, Patch, Poisoning, parse, poisoning

# A newcomer to POISONINGS is tested by everything below that names no poisoning.
every_poisoning = pytest.mark.parametrize("kind", POISONINGS.values(), ids=POISONINGS)


@every_poisoning
def test_the_index_names_exactly_the_changed_images(kind: type[Poisoning], small: Dataset) -> None:
    poisoned = kind(rate=0.1).poison(small.x_train, small.y_train, seed=0)
    changed = (poisoned.x != small.x_train).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(changed), poisoned.index)
    assert len(poisoned.index) == 60


@every_poisoning
def test_poisoned_images_are_relabelled_and_no_others(kind: type[Poisoning], small: Dataset) -> None:
    case = kind(rate=0.1, target=3)
    poisoned = case.poison(small.x_train, small.y_train, seed=0)
    assert (poisoned.y[poisoned.index] == 3).all()
    others = np.setdiff1d(np.arange(600), poisoned.index)
    np.testing.assert_array_equal(poisoned.y[others], small.y_train[others])


@every_poisoning
def test_the_target_class_is_not_touched(kind: type[Poisoning], small: Dataset) -> None:
    poisoned = kind(rate=0.5, target=3).poison(small.x_train, small.y_train, seed=0)
    assert 3 not in small.y_train[poisoned.index]


@every_poisoning
def test_poisoned_images_carry_the_trigger(kind: type[Poisoning], small: Dataset) -> None:
    case = kind(rate=0.1)
    poisoned = case.poison(small.x_train, small.y_train, seed=0)
    np.testing.assert_array_equal(poisoned.x[poisoned.index], case.trigger(small.x_train[poisoned.index]))
    assert (poisoned.x.dtype, poisoned.y.dtype) == (np.float32, np.int64)


@every_poisoning
def test_what_was_given_is_left_alone(kind: type[Poisoning], small: Dataset) -> None:
    x, y = small.x_train.copy(), small.y_train.copy()
    x.flags.writeable = y.flags.writeable = False
    poisoned = kind().poison(x, y, seed=0)
    kind().trigger(x)
    np.testing.assert_array_equal(x, small.x_train)
    np.testing.assert_array_equal(y, small.y_train)
    assert not np.shares_memory(poisoned.x, x)
    assert not np.shares_memory(poisoned.y, y)


@every_poisoning
def test_a_seed_chooses_the_images_and_0_is_one(kind: type[Poisoning], small: Dataset) -> None:
    first, again, other = (kind().poison(small.x_train, small.y_train, seed).index for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@every_poisoning
@pytest.mark.parametrize(
    ("settings", "number"),
    [({"count": 7}, 7), ({"rate": 0.05}, 30), ({"rate": 0.0001}, 1), ({}, 6)],
    ids=["count", "rate", "a rate of less than one image", "neither"],
)
def test_the_number_of_poisoned_images(kind: type[Poisoning], settings: Any, number: int, small: Dataset) -> None:
    assert kind(**settings).number(600) == number
    assert len(kind(**settings).poison(small.x_train, small.y_train, seed=0).index) == number


@every_poisoning
def test_count_and_rate_together_are_refused_in_one_line(kind: type[Poisoning]) -> None:
    with pytest.raises(ValidationError, match="give count or rate, not both"):
        kind(count=5, rate=0.1)
    name = kind.model_fields["name"].default
    with pytest.raises(SettingError, match="give count or rate, not both") as caught:
        parse(f"{name}:count=5,rate=0.1")
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


@every_poisoning
@pytest.mark.parametrize("wrong", [{"count": 0}, {"rate": 0}, {"rate": 1}, {"target": -1}, {"colour": 1}], ids=str)
def test_a_setting_out_of_range_is_refused(kind: type[Poisoning], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        kind(**wrong)


@every_poisoning
def test_an_unknown_target_is_refused(kind: type[Poisoning], small: Dataset) -> None:
    with pytest.raises(SettingError, match=r":target: there is no class 10"):
        kind(target=10).poison(small.x_train, small.y_train, seed=0)


@every_poisoning
def test_more_images_than_there_are_is_refused(kind: type[Poisoning], small: Dataset) -> None:
    others = int((small.y_train != 9).sum())
    assert len(kind(count=others).poison(small.x_train, small.y_train, seed=0).index) == others
    with pytest.raises(SettingError, match=f"{others + 1} images wanted, {others} are not of class 9"):
        kind(count=others + 1).poison(small.x_train, small.y_train, seed=0)


@every_poisoning
def test_text_and_mapping_give_the_poisoning_back(kind: type[Poisoning]) -> None:
    case = kind(target=2, rate=0.25)
    assert poisoning(f"{case.name}:target=2,rate=0.25") == case
    assert poisoning(case.model_dump(mode="json")) == case
    assert parse(case) is case
    assert parse(case.name) == kind()


def test_an_unknown_poisoning_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"unknown poisoning 'arsenic' \(one of corner-trigger"):
        poisoning("arsenic")


# --- the square in the corner -------------------------------------------------------------------------------

CORNERS = {
    "top-left": (slice(0, 2), slice(0, 2)),
    "top-right": (slice(0, 2), slice(4, 6)),
    "bottom-left": (slice(3, 5), slice(0, 2)),
    "bottom-right": (slice(3, 5), slice(4, 6)),
}


@pytest.mark.parametrize(("corner", "square"), CORNERS.items(), ids=CORNERS)
def test_the_square_stands_in_its_corner(corner: Any, square: tuple[slice, slice]) -> None:
    expected = np.zeros((2, 5, 6, 3), np.float32)
    expected[:, square[0], square[1]] = 0.75
    images = CornerTrigger(corner=corner, size=2, value=0.75).trigger(np.zeros((2, 5, 6, 3), np.float32))
    np.testing.assert_array_equal(images, expected)


def test_a_square_may_cover_the_image_but_not_leave_it() -> None:
    black = np.zeros((1, 5, 6, 1), np.float32)
    assert CornerTrigger(size=5).trigger(black)[:, :, 1:].all()
    with pytest.raises(SettingError, match=r"corner-trigger:size: a square of 6 pixels does not fit \(5, 6\)"):
        CornerTrigger(size=6).trigger(black)


def test_the_trigger_on_the_targets_own_images_keeps_their_label(small: Dataset) -> None:
    poisoned = CornerTrigger(victims="target", target=3, count=20).poison(small.x_train, small.y_train, seed=0)
    assert (small.y_train[poisoned.index] == 3).all()
    np.testing.assert_array_equal(poisoned.y, small.y_train)
    assert (poisoned.x[poisoned.index, -4:, -4:] == 1).all()


def test_more_of_the_targets_images_than_there_are_is_refused(small: Dataset) -> None:
    own = int((small.y_train == 9).sum())
    with pytest.raises(SettingError, match=f"{own + 1} images wanted, {own} are of class 9"):
        CornerTrigger(victims="target", count=own + 1).poison(small.x_train, small.y_train, seed=0)


# --- the patch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.25, (1.0, 0.5, 0.0)], ids=["grey", "colour"])
def test_the_patch_stands_where_it_was_put_in_its_colour(value: Any) -> None:
    expected = np.zeros((2, 5, 6, 3), np.float32)
    expected[:, 1:3, 3:5] = value
    patch = Patch(row=1, column=3, size=2, value=value)
    np.testing.assert_array_equal(patch.trigger(np.zeros((2, 5, 6, 3), np.float32)), expected)


def test_a_colour_is_read_from_text_and_refused_on_grey_images() -> None:
    patch = poisoning("patch:value=[1,0.5,0],row=2,relabel=false")
    assert patch == Patch(value=(1.0, 0.5, 0.0), row=2, relabel=False)
    with pytest.raises(SettingError, match=r"patch:value: 3 values for images of 1 channel\(s\)"):
        patch.trigger(np.zeros((1, 9, 9, 1), np.float32))


def test_a_patch_beyond_the_border_is_refused() -> None:
    with pytest.raises(SettingError, match=r"patch:size: a square of 4 pixels does not fit \(5, 6\)"):
        Patch(row=2).trigger(np.zeros((1, 5, 6, 1), np.float32))


def test_without_relabelling_images_of_any_class_keep_their_label(small: Dataset) -> None:
    poisoned = Patch(relabel=False, rate=0.5).poison(small.x_train, small.y_train, seed=0)
    np.testing.assert_array_equal(poisoned.y, small.y_train)
    assert len(np.unique(small.y_train[poisoned.index])) == 10
