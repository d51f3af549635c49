"""Inversion and probes find a backdoor that is written into the weights, and nothing as small where there is none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gauntlet.backdoor.inversion import FORMS, Inversion, invert
from gauntlet.backdoor.probes import Probes, patches, probe
from gauntlet.backdoor.triggers import Found, Victims, class_goals
from gauntlet.models.blackbox import BlackBox
from gauntlet.models.classifier import CompiledClassifier
from tests.gauntlet.backdoor.planted import CLASSES, CORNER, SIDE, blocks, network, next_class

QUICK = Inversion(steps=80)
TARGET = 3


def halves() -> tuple[Any, Any]:
    data = blocks()
    return (data.x_test[:75], data.y_test[:75]), (data.x_test[75:], data.y_test[75:])


@functools.cache
def found(kind: str, target: int | None) -> Found:
    model = CompiledClassifier(network(target))
    if kind == "probe":
        return probe(model, *halves()[0], Probes(sides=(0.2,)))
    return invert(model, kind, *halves(), QUICK)


every_kind = pytest.mark.parametrize("kind", [*FORMS, "probe"])


@every_kind
def test_the_backdoors_class_stands_out_and_its_trigger_works(kind: str) -> None:
    one, clean = found(kind, TARGET), found(kind, None)
    assert one.values[:-1].argmin() == TARGET
    assert one.values[TARGET] < clean.values[TARGET] - 0.3
    x, y = halves()[1]
    model = CompiledClassifier(network(TARGET))
    assert one.success(model, x, y, TARGET).mean() > 0.9
    assert len(one.success(model, x, y, TARGET)) == (y != TARGET).sum()


@every_kind
def test_a_trigger_to_the_next_class_reaches_any_other_class_and_no_single_one(kind: str) -> None:
    model = CompiledClassifier(next_class())
    one = probe(model, *halves()[0], Probes(sides=(0.2,))) if kind == "probe" else invert(model, kind, *halves(), QUICK)
    assert one.values.argmin() == CLASSES
    assert one.values[CLASSES] < found(kind, None).values[CLASSES] - 0.3
    sent = one.success(model, *halves()[1], CLASSES)
    assert len(sent) == len(halves()[1][0])
    assert sent.mean() > 0.7


@pytest.mark.parametrize("kind", ["patch", "probe"])
def test_the_patch_lies_where_the_trigger_is(kind: str) -> None:
    mask = found(kind, TARGET).mask[TARGET, ..., 0]
    assert mask[CORNER].min() > 0.8
    assert (mask.sum() - mask[CORNER].sum()) / (SIDE * SIDE - 4) < 0.1


@pytest.mark.parametrize("kind", FORMS)
def test_sizes_are_those_of_what_was_found_and_images_stay_in_range(kind: str) -> None:
    one = found(kind, TARGET)
    content = one.pattern if one.added else one.mask
    size = np.linalg.norm(content[TARGET]) if one.added else content[TARGET].sum()
    assert one.sizes[TARGET] == pytest.approx(size, rel=1e-4)
    assert one.values[TARGET] == pytest.approx(np.log(size), rel=1e-4)
    shown = one.show(blocks().x_test[:8], TARGET, (0.0, 1.0))
    assert 0 <= shown.min() <= shown.max() <= 1


@pytest.mark.parametrize("kind", FORMS)
def test_the_same_seed_finds_the_same(kind: str) -> None:
    model = CompiledClassifier(network(TARGET))
    search: Callable[..., Found] = functools.partial(invert, model, kind, *halves(), Inversion(steps=20))
    np.testing.assert_array_equal(search(seed=0).pattern, search(seed=0).pattern)
    assert not np.array_equal(search(seed=0).pattern, search(seed=1).pattern)


@pytest.mark.parametrize("kind", FORMS)
def test_slopes_are_those_of_the_loss(kind: str) -> None:
    """By finite differences, of a loss that is linear in the shown image."""
    rng = np.random.default_rng(0)
    form = FORMS[kind](2, (4, 4, 1), (0.0, 1.0), rng)
    x = rng.uniform(0.3, 0.7, (2, 3, 4, 4, 1)).astype(np.float32)
    gradient = rng.normal(size=x.shape).astype(np.float32)
    weight = np.array([0.3, 0.7], np.float32)

    def loss() -> float:
        shown = (form.show(x).astype(np.float64) * gradient).mean(axis=1).sum()
        return float(shown + (weight * form.sizes()).sum())

    for free, slope in zip(form.free, form.slopes(x, gradient, weight), strict=True):
        before, step = free[1, 2, 1, 0], 1e-2
        free[1, 2, 1, 0] = before + step
        above = loss()
        free[1, 2, 1, 0] = before - step
        below = loss()
        free[1, 2, 1, 0] = before
        assert (above - below) / (2 * step) == pytest.approx(slope[1, 2, 1, 0], rel=0.02, abs=1e-3)


def test_a_class_that_no_trigger_reaches_has_an_infinite_size_and_the_largest_value() -> None:
    model = network(None)
    weights = model.get_layer("last").get_weights()
    model.get_layer("last").set_weights([weights[0], weights[1] - np.array([0, 0, 1e4, 0, 0], np.float32)])
    one = invert(CompiledClassifier(model), "patch", *halves(), Inversion(steps=20))
    assert np.isinf(one.sizes[2])
    assert one.values[2] == pytest.approx(np.log(SIDE * SIDE))


def test_probes_ask_for_labels_only() -> None:
    white = CompiledClassifier(network(TARGET))
    box = BlackBox(white.labels, (SIDE, SIDE, 1), 5, outputs="labels")
    assert box.access == "labels"
    assert probe(box, *halves()[0], Probes(sides=(0.2,))).values[:-1].argmin() == TARGET


def test_patches_stand_at_every_border_and_have_their_size() -> None:
    every = list(patches((9, 12, 3), (0.0, 1.0), Probes(sides=(0.2,), grid=2)))
    assert {mask.sum() for mask, _ in every} == {4.0}
    corners = {(mask[0, 0, 0], mask[-1, -1, 0]) for mask, _ in every}
    assert {(1.0, 0.0), (0.0, 1.0)} <= corners
    assert all(pattern.shape == (9, 12, 3) for _, pattern in every)


def test_victims_are_of_other_classes_and_come_round() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1), np.array([0, 0, 1, 1, 2, 2])
    victims = Victims(x, y, class_goals(3), np.random.default_rng(0))
    (first, labels), (second, _) = victims.draw(3), victims.draw(3)
    np.testing.assert_array_equal(labels, y[first.squeeze().astype(int)])
    for goal in range(4):
        drawn = np.concatenate([first[goal], second[goal]]).ravel().astype(int)
        assert (y[drawn] != goal).all()
        assert set(drawn) == set(np.flatnonzero(y != goal))
