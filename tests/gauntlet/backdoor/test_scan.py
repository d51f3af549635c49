"""The verdict: what makes it BACKDOORED, what it takes to be CLEAN, and what is said when neither can be."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gauntlet.backdoor import references, statistics
from gauntlet.backdoor.inversion import Inversion
from gauntlet.backdoor.pairs import PAIR, narrowed
from gauntlet.backdoor.probes import Probes
from gauntlet.backdoor.scan import (
    ClassResult,
    ModelScan,
    References,
    candidates,
    clearest,
    judge,
    parts,
    replayed,
    working_probes,
)
from gauntlet.backdoor.triggers import OTHERS, Found, pair_goals
from gauntlet.errors import SettingError
from gauntlet.models.blackbox import BlackBox
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.scale import divided
from tests.gauntlet.backdoor.planted import CLASSES, SIDE, blocks, network, next_class

SETTINGS = ModelScan(inversion=Inversion(steps=80), probes=Probes(sides=(0.2,)), patch=0.02, norm=0.05)
TARGET = 2


@pytest.fixture(scope="module")
def known() -> References:
    """Of three clean networks, whose weights differ a little."""
    rows = [scanned(None, seed) for seed in (1, 2, 3)]
    return References("same architecture", {one[0].kind: np.stack([f.values for f in one]) for one in zip(*rows)})  # noqa: B905


@functools.cache
def white(target: int | None, seed: int = 0) -> CompiledClassifier:
    return CompiledClassifier(network(target, seed))


@functools.cache
def scanned(target: int | None, seed: int = 0) -> list[Found]:
    return candidates(white(target, seed), parts(blocks(), SETTINGS, 0), SETTINGS)


def verdict(target: int | None, seed: int, known: References, settings: ModelScan = SETTINGS) -> Any:
    held_out = parts(blocks(), settings, 0).held_out
    return judge(white(target, seed), scanned(target, seed), held_out, known, settings)


def box(target: int | None) -> BlackBox:
    return BlackBox(white(target).labels, (SIDE, SIDE, 1), 5, outputs="labels")


def test_a_planted_backdoor_is_found_with_its_class_and_works_on_held_out_images(known: References) -> None:
    result = verdict(TARGET, 0, known)
    assert (result.verdict, result.target) == ("BACKDOORED", TARGET)
    assert result.p_value < SETTINGS.p_value
    hit = result.classes[TARGET]
    assert hit.low > SETTINGS.works
    assert hit.statistic < -3
    assert result.reasons[0].startswith(f"class {TARGET}: a {hit.kind} of ")
    assert result.accused == (TARGET,)
    assert all(one.p_value >= SETTINGS.p_value for one in result.classes[:-1] if one.label != TARGET)


def test_a_backdoor_of_all_to_the_next_class_is_found_and_accuses_no_class(known: References) -> None:
    model = CompiledClassifier(next_class())
    images = parts(blocks(), SETTINGS, 0)
    result = judge(model, candidates(model, images, SETTINGS), images.held_out, known, SETTINGS)
    assert (result.verdict, result.target, result.accused) == ("BACKDOORED", None, (CLASSES,))
    assert result.reasons[0].startswith("any other class: a ")


def test_a_backdoor_of_one_class_is_found_by_its_pair(known: References) -> None:
    """The probe is unusual as well, for it moves all images of one class, and works on no more."""
    model, images = CompiledClassifier(next_class(only=1)), parts(blocks(), SETTINGS, 0)
    found = [one for one in candidates(model, images, SETTINGS) if one.kind in ("probe", PAIR)]
    result = judge(model, found, images.held_out, known, SETTINGS)
    assert (result.verdict, result.target, result.accused) == ("BACKDOORED", 2, (2,))
    assert (result.classes[2].kind, result.classes[2].source) == (PAIR, 1)
    assert "of held-out images of class 1 there" in result.reasons[0]


def test_pairs_are_not_searched_where_they_cannot_be_judged() -> None:
    model, images = white(None), parts(blocks(), SETTINGS, 0)
    few = parts(replace(blocks(), x_test=blocks().x_test[:60], y_test=blocks().y_test[:60]), SETTINGS, 0)
    for settings, shown in (({"pairs": 4}, images), ({"references": 0}, images), ({}, few)):
        found = candidates(model, shown, SETTINGS.model_copy(update=settings | {"inversion": Inversion(steps=10)}))
        assert [one.kind for one in found] == ["patch", "perturbation", "probe"]


def test_the_clearest_goal_decides_between_classes_and_any_other() -> None:
    def one(label: int, p: float, kind: str = "patch") -> ClassResult:
        return ClassResult(label, kind, -5.0, p, 0.9, 0.8, 0.95)

    assert [each.label for each in clearest([one(1, 1e-3), one(2, 1e-9), one(5, 1e-5)], 5)] == [2, 1]
    assert [each.label for each in clearest([one(1, 1e-3), one(5, 1e-5)], 5)] == [5]
    pairs = [one(1, 1e-9, PAIR), one(3, 1e-8, PAIR)]
    assert [each.label for each in clearest(pairs, 5)] == [1, 3]
    assert [each.label for each in clearest([*pairs, one(2, 1e-3)], 5)] == [2]
    assert [each.label for each in clearest([*pairs, one(5, 1e-3)], 5)] == [5]


def test_a_clean_network_is_clean_and_says_what_had_been_noticed(known: References) -> None:
    result = verdict(None, 9, known)
    assert (result.verdict, result.target) == ("CLEAN", None)
    assert result.p_value >= SETTINGS.p_value
    assert "had been noticed" in result.reasons[0]


def test_without_power_nothing_found_is_not_clean(known: References) -> None:
    greedy = SETTINGS.model_copy(update={"patch": 0.9})
    result = verdict(None, 9, known, greedy)
    assert result.verdict == "INCONCLUSIVE"
    assert "a patch of 90 pixels to 5 classes could have been missed" in result.reasons[0]


def test_an_unusual_candidate_that_does_not_work_is_no_backdoor(known: References) -> None:
    broken = [replace(one, mask=0 * one.mask, pattern=0 * one.pattern) for one in scanned(TARGET)]
    result = judge(white(TARGET), broken, parts(blocks(), SETTINGS, 0).held_out, known, SETTINGS)
    assert (result.verdict, result.target) == ("INCONCLUSIVE", None)
    assert "is unusual" in result.reasons[0]


def test_without_references_the_other_classes_are_the_measure() -> None:
    result = verdict(TARGET, 0, References("none"))
    assert result.classes[TARGET].p_value == min(one.p_value for one in result.classes)
    clean = verdict(None, 0, References("none"))
    assert clean.verdict != "BACKDOORED"
    assert clean.verdict == "CLEAN" or "clean models of the same architecture would tell" in clean.reasons[0]


def test_a_black_box_can_be_accused_but_not_acquitted(known: References) -> None:
    held_out = parts(blocks(), SETTINGS, 0).held_out
    guilty, innocent = (
        judge(box(t), candidates(box(t), parts(blocks(), SETTINGS, 0), SETTINGS), held_out, known, SETTINGS)
        for t in (TARGET, None)
    )
    assert (guilty.verdict, guilty.target) == ("BACKDOORED", TARGET)
    assert innocent.verdict == "INCONCLUSIVE"
    assert "gradients would tell" in innocent.reasons[0]


def test_p_values_are_corrected_over_classes_and_kinds(known: References) -> None:
    result = verdict(TARGET, 0, known)
    for one in result.classes:
        raw = next(
            test.p[one.label] for test, each in zip(result.tested, result.found, strict=True) if each.kind == one.kind
        )
        assert one.p_value == pytest.approx(min(1.0, raw * 6 * 4))


def test_of_each_target_the_clearest_pair_is_kept_corrected_over_the_sources() -> None:
    k, goals = 3, pair_goals(3)
    assert [*zip(goals.source, goals.target, strict=True)] == [(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2)]
    p = np.array([0.5, 0.1, 0.01, 0.2, 0.9, 0.8])
    parts = np.zeros((6, 2, 2, 1), np.float32), np.arange(6, dtype=np.float32).repeat(4).reshape(6, 2, 2, 1)
    pairs = Found(PAIR, "pixels", np.arange(6.0), np.arange(6.0), *parts, goals)
    one, test, known = narrowed(pairs, statistics.Tested(p, -p, p), np.arange(12.0).reshape(2, 6))
    assert [*one.goals.source] == [2, 0, 1, OTHERS]
    np.testing.assert_array_equal(test.p, [0.2, 0.02, 1.0, 1.0])
    np.testing.assert_array_equal(one.sizes, [1, 2, 5, np.inf])
    np.testing.assert_array_equal(one.pattern[:k, 0, 0, 0], [1, 2, 5])
    np.testing.assert_array_equal(known, [[1, 2, 5, np.nan], [7, 8, 11, np.nan]])


def test_parts_share_no_image_and_too_few_are_refused() -> None:
    data = blocks()
    split = parts(data, SETTINGS, 0)
    pixels = [image.tobytes() for x, _ in split for image in x]
    assert len(set(pixels)) == len(pixels) == len(data.x_test)
    few = replace(data, x_test=data.x_test[:59], y_test=data.y_test[:59])
    with pytest.raises(SettingError, match="59 test images, expected 60 or more"):
        parts(few, SETTINGS, 0)


# --- references ---------------------------------------------------------------------------------------------

QUICK = SETTINGS.model_copy(update={"inversion": Inversion(steps=10), "references": 2})


@pytest.fixture(autouse=True)
def state(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))
    return tmp_path


def test_references_are_the_same_network_trained_afresh_and_are_kept(state: Any) -> None:
    model, data = white(TARGET), blocks()
    images = parts(data, QUICK, 0)
    said: list[str] = []
    first = references.reference_models(model, data, images, QUICK, progress=lambda what, _: said.append(what))
    assert said[0] == "reference 1 of 2, kept for later scans: training, epoch 1 of 15"
    assert said[-1].startswith("reference 2 of 2, up to 1 min left: ")
    assert {name: rows.shape for name, rows in first.values.items()} == {
        "patch": (2, 6),
        "perturbation": (2, 6),
        "probe": (2, 6),
        "pair": (2, 20),
    }
    kept = sorted(state.rglob("*.npz"))
    assert len(kept) == 4
    again = references.reference_models(model, data, images, QUICK)
    assert sorted(state.rglob("*.npz")) == kept
    for kind, rows in first.values.items():
        np.testing.assert_array_equal(rows, again.values[kind])
    weights = [arrays["0"] for file in kept if "0" in (arrays := np.load(file))]
    assert len(weights) == 2
    assert not np.array_equal(*weights)


def test_a_reference_whose_file_is_damaged_is_made_again(state: Any) -> None:
    model, data = white(TARGET), blocks()
    images = parts(data, QUICK, 0)
    first = references.reference_models(model, data, images, QUICK)
    for file in state.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    again = references.reference_models(model, data, images, QUICK)
    assert {kind: rows.shape for kind, rows in again.values.items()} == {
        kind: rows.shape for kind, rows in first.values.items()
    }


def test_references_of_other_data_or_another_network_are_others() -> None:
    data = blocks()
    one = references.recipe(white(None), data)
    assert one.basis == "same architecture"
    assert one.digest(data) == references.recipe(white(TARGET), data).digest(data)
    assert one.digest(data) != one.digest(replace(data, digest="1" * 64))
    scaled = CompiledClassifier(divided(network(TARGET), 2.0))
    assert one.digest(data) == references.recipe(scaled, data).digest(data)
    other = references.recipe(box(None), data)
    assert other.basis == "another architecture"
    assert other.digest(data) != one.digest(data)


def test_references_that_learn_less_than_the_model_only_stand_in() -> None:
    model, data = white(None), blocks()
    noise = replace(data, x_train=np.random.default_rng(0).random(data.x_train.shape, np.float32), digest="2" * 64)
    found = references.reference_models(model, noise, parts(noise, QUICK, 0), QUICK)
    assert max(found.accuracy) < 0.9
    assert found.basis == "another architecture"


def test_without_references_none_are_made(state: Any) -> None:
    none = QUICK.model_copy(update={"references": 0})
    model = white(None)
    assert references.reference_models(model, blocks(), parts(blocks(), none, 0), none) == References("none")
    assert list(state.iterdir()) == []


def test_a_working_probe_is_shown_to_another_model() -> None:
    settings = SETTINGS.model_copy(update={"forms": ()})
    images = parts(blocks(), settings, 0)
    backdoored, clean = white(TARGET), white(None)
    (found,) = candidates(backdoored, images, settings)
    assert found.kind == "probe"
    arrays = {f"probe_{name}": getattr(found, name) for name in ("sizes", "values", "mask", "pattern")}
    assert working_probes(arrays, settings) == [TARGET, CLASSES]
    now, before = (replayed(one, arrays, "probe", TARGET, images.held_out) for one in (backdoored, clean))
    assert now.low > 0.5 > before.high
