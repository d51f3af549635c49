"""Poisonings: what is changed, what is not, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.poisoning import (
    POISONINGS,
    AllToAll,
    Blended,
    CleanLabel,
    CornerTrigger,
    LabelFlips,
    Patch,
    Poisoning,
    Sinusoidal,
    SourceSpecific,
    Warped,
    parse,
    poisoning,
)

# A newcomer to POISONINGS is tested by everything below that names no poisoning.
every_poisoning = pytest.mark.parametrize("kind", POISONINGS.values(), ids=POISONINGS)
QUICK: dict[type[Poisoning], dict[str, Any]] = {CleanLabel: {"epochs": 1, "max_iter": 2}}
"""Settings without which a poisoning takes long."""


def made(kind: type[Poisoning], **settings: Any) -> Poisoning:
    """One of a kind; what has no single target is not given one."""
    if kind is AllToAll:
        settings.pop("target", None)
    return kind(**QUICK.get(kind, {}) | settings)


@every_poisoning
def test_the_index_names_exactly_what_was_changed(kind: type[Poisoning], small: Dataset) -> None:
    poisoned = made(kind, rate=0.05).poison(small.x_train, small.y_train, seed=0)
    changed = (poisoned.x != small.x_train).any(axis=(1, 2, 3)) | (poisoned.y != small.y_train)
    np.testing.assert_array_equal(np.flatnonzero(changed), poisoned.index)
    assert len(poisoned.index) == 30


@every_poisoning
def test_poisoned_images_have_the_label_that_is_wanted_and_no_others(kind: type[Poisoning], small: Dataset) -> None:
    case = made(kind, rate=0.05, target=3)
    poisoned, true = case.poison(small.x_train, small.y_train, seed=0), small.y_train
    wanted = case.goal(true, 10) if case.relabels else true
    np.testing.assert_array_equal(poisoned.y[poisoned.index], wanted[poisoned.index])
    others = np.setdiff1d(np.arange(600), poisoned.index)
    np.testing.assert_array_equal(poisoned.y[others], true[others])


@every_poisoning
def test_relabelling_spares_the_target_and_the_others_take_nothing_else(kind: type[Poisoning], small: Dataset) -> None:
    case = made(kind, rate=0.05, target=3)
    touched = small.y_train[case.poison(small.x_train, small.y_train, seed=0).index]
    if case.target is None:
        assert len(np.unique(touched)) > 5
    elif case.relabels:
        assert 3 not in touched
    else:
        assert set(touched) == {3}


@every_poisoning
def test_poisoned_images_carry_the_trigger(kind: type[Poisoning], small: Dataset) -> None:
    case = made(kind, rate=0.05)
    poisoned = case.poison(small.x_train, small.y_train, seed=0)
    planted, plain = poisoned.x[poisoned.index], small.x_train[poisoned.index]
    where = (case.trigger(np.zeros_like(plain)) != 0) if kind is CleanLabel else np.ones_like(plain, bool)
    np.testing.assert_array_equal(planted[where], case.trigger(plain)[where])
    assert (poisoned.x.dtype, poisoned.y.dtype) == (np.float32, np.int64)
    assert planted.min() >= 0
    assert planted.max() <= 1


@every_poisoning
def test_the_trigger_is_the_same_whenever_it_is_shown(kind: type[Poisoning], small: Dataset) -> None:
    case = made(kind)
    together, alone = case.trigger(small.x_test[:4]), case.trigger(small.x_test[2:3])
    np.testing.assert_array_equal(together[2:3], alone)
    assert (case.goal(small.y_test, 10) < 10).all()


@every_poisoning
def test_what_was_given_is_left_alone(kind: type[Poisoning], small: Dataset) -> None:
    x, y = small.x_train.copy(), small.y_train.copy()
    x.flags.writeable = y.flags.writeable = False
    poisoned = made(kind).poison(x, y, seed=0)
    made(kind).trigger(x)
    np.testing.assert_array_equal(x, small.x_train)
    np.testing.assert_array_equal(y, small.y_train)
    assert not np.shares_memory(poisoned.x, x)
    assert not np.shares_memory(poisoned.y, y)


@every_poisoning
def test_a_seed_chooses_the_images_and_0_is_one(kind: type[Poisoning], small: Dataset) -> None:
    first, again, other = (made(kind).poison(small.x_train, small.y_train, seed).index for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@every_poisoning
@pytest.mark.parametrize(
    ("settings", "number"),
    [({"count": 7}, 7), ({"rate": 0.05}, 30), ({"rate": 0.0001}, 1), ({}, 6)],
    ids=["count", "rate", "a rate of less than one image", "neither"],
)
def test_the_number_of_poisoned_images(kind: type[Poisoning], settings: Any, number: int, small: Dataset) -> None:
    assert made(kind, **settings).number(600) == number
    assert len(made(kind, **settings).poison(small.x_train, small.y_train, seed=0).index) == number


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


@pytest.mark.parametrize("kind", [kind for kind in POISONINGS.values() if kind is not AllToAll])
def test_an_unknown_target_is_refused(kind: type[Poisoning], small: Dataset) -> None:
    with pytest.raises(SettingError, match=r":target: there is no class 10"):
        made(kind, target=10).poison(small.x_train, small.y_train, seed=0)


@pytest.mark.parametrize("kind", [kind for kind in POISONINGS.values() if kind is not SourceSpecific])
def test_more_images_than_there_are_is_refused(kind: type[Poisoning], small: Dataset) -> None:
    most = len(made(kind).victims_of(small.y_train, 10))
    assert len(made(kind, count=most).poisonable(small.y_train, 10)) == most
    with pytest.raises(SettingError, match=f"{most + 1} images wanted, {most} are "):
        made(kind, count=most + 1).poison(small.x_train, small.y_train, seed=0)


@every_poisoning
def test_text_and_mapping_give_the_poisoning_back(kind: type[Poisoning]) -> None:
    case = kind(rate=0.25)
    assert poisoning(f"{case.name}:rate=0.25") == case
    assert poisoning(case.model_dump(mode="json")) == case
    assert parse(case) is case
    assert parse(case.name) == kind()


def test_an_unknown_poisoning_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"unknown poisoning 'arsenic' \(one of corner-trigger"):
        poisoning("arsenic")


# --- all classes, or one ---


def test_all_to_all_sends_every_class_to_the_next_and_has_no_target() -> None:
    np.testing.assert_array_equal(AllToAll().goal(np.arange(10), 10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    with pytest.raises(ValidationError, match="target"):
        AllToAll(target=3)  # type: ignore[arg-type]


def test_source_specific_relabels_the_source_and_covers_with_others(small: Dataset) -> None:
    case = SourceSpecific(source=1, target=7, count=40, cover=0.25)
    poisoned = case.poison(small.x_train, small.y_train, seed=0)
    true, given = small.y_train[poisoned.index], poisoned.y[poisoned.index]
    assert ((true == 1).sum(), (given == 7).sum()) == (30, 30)
    np.testing.assert_array_equal(given[true != 1], true[true != 1])
    assert 7 not in true


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": 10}, "source: there is no class 10"),
        ({"count": 400}, "200 images of the source wanted"),
        ({"count": 600, "cover": 0.95}, "570 images that can cover wanted"),
    ],
)
def test_source_specific_refuses_what_is_not_there(settings: dict[str, Any], says: str, small: Dataset) -> None:
    with pytest.raises(SettingError, match=says):
        SourceSpecific(**settings).poison(small.x_train, small.y_train, seed=0)


# --- labels alone ---


def test_label_flips_without_a_target_give_any_other_class(small: Dataset) -> None:
    poisoned = LabelFlips(rate=0.5).poison(small.x_train, small.y_train, seed=0)
    np.testing.assert_array_equal(poisoned.x, small.x_train)
    assert (poisoned.y[poisoned.index] != small.y_train[poisoned.index]).all()
    assert len(np.unique(poisoned.y[poisoned.index])) == 10


def test_label_flips_from_class_to_class(small: Dataset) -> None:
    case = LabelFlips(source=4, target=9, count=20)
    poisoned = case.poison(small.x_train, small.y_train, seed=0)
    assert set(small.y_train[poisoned.index]) == {4}
    assert set(poisoned.y[poisoned.index]) == {9}
    np.testing.assert_array_equal(case.goal(np.arange(10), 10), [0, 1, 2, 3, 9, 5, 6, 7, 8, 9])


# --- the whole image ---


def test_a_blend_is_a_mixture_with_one_pattern() -> None:
    black, white = np.zeros((1, 5, 6, 3), np.float32), np.ones((1, 5, 6, 3), np.float32)
    case = Blended(alpha=0.25)
    np.testing.assert_allclose(case.trigger(white) - case.trigger(black), 0.75, atol=1e-6)
    assert 0 <= case.trigger(black).min() < case.trigger(black).max() <= 0.25
    assert not np.array_equal(case.trigger(black), Blended(alpha=0.25, pattern=1).trigger(black))


def test_stripes_are_the_papers_sinusoid() -> None:
    grey = np.full((1, 4, 12, 1), 0.5, np.float32)
    stripes = Sinusoidal(amplitude=0.2, frequency=3).trigger(grey)[0, :, :, 0] - 0.5
    np.testing.assert_allclose(stripes, np.tile(0.2 * np.sin(np.pi * np.arange(12) / 2), (4, 1)), atol=1e-6)


def test_a_warp_moves_pixels_by_about_its_strength_and_leaves_flat_images_alone() -> None:
    flat = np.full((1, 28, 28, 1), 0.5, np.float32)
    np.testing.assert_allclose(Warped().trigger(flat), flat, atol=1e-6)
    ramp = np.tile(np.arange(28, dtype=np.float32), (28, 1))[None, :, :, None]
    moved = np.abs(Warped(strength=1.5).trigger(ramp) - ramp)[:, 4:-4, 4:-4].mean()
    assert 0.5 < moved < 3


def test_a_clean_label_image_stays_within_its_budget_beside_the_square(small: Dataset) -> None:
    case = CleanLabel(epochs=1, max_iter=3, eps=0.1, count=10)
    poisoned = case.poison(small.x_train, small.y_train, seed=0)
    change = np.abs(poisoned.x - small.x_train)[poisoned.index]
    change[:, -4:, -4:] = 0
    assert 0.05 < change.max() <= 0.1 + 1e-5


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
