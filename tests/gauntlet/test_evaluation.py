"""Shares: over which images they are counted, and what is paired with what."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.attacks import Attack, Fgsm, GaussianNoise, Pgd
from gauntlet.classifier import CompiledClassifier
from gauntlet.datasets import Dataset
from gauntlet.errors import AttackError, SettingError
from gauntlet.evaluation import (
    Attacked,
    Knowledge,
    attack_all,
    battery,
    craft,
    evaluate,
    inference_ms,
    score,
    share,
    tables,
    worst_case,
    zero_gradients,
)


def attacked(
    outcomes: Sequence[bool],
    *,
    attack: Attack | None = None,
    eps: float = 0.1,
    clean: Sequence[bool] | None = None,
    index: Sequence[int] | None = None,
    knowledge: Knowledge = "white-box",
) -> Attacked:
    """A result with the images classified right or wrong as told, unattacked (all right) and attacked."""
    n = len(outcomes)
    labels = np.full(n, 4)
    right = np.ones(n, bool) if clean is None else np.array(clean, bool)
    predictions = [np.where(hits, 4, 1) for hits in (right, np.array(outcomes, bool))]
    positions = np.arange(n) if index is None else np.array(index)
    sizes, images = np.full(n, eps), np.zeros((n, 1, 1, 1), np.float32)
    return Attacked(attack or Fgsm(), eps, knowledge, positions, labels, *predictions, sizes, sizes, 1.0, images)


def constant(n_classes: int = 10, winner: int = 0) -> CompiledClassifier:
    """A model that says the same whatever it sees."""
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(n_classes)])
    bias = np.eye(n_classes, dtype=np.float32)[winner]
    network.set_weights([np.zeros((784, n_classes), np.float32), bias])
    return CompiledClassifier(network)


def bright() -> CompiledClassifier:
    """Class 1 for images brighter than 0.5 on the average, else class 0."""
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network.set_weights([np.array([[0, 0.25]] * 4, np.float32), np.array([0.5, 0], np.float32)])
    return CompiledClassifier(network)


# --- denominators -------------------------------------------------------------------------------------------


def test_robust_accuracy_is_over_all_images() -> None:
    result = attacked([True, True, False, True], clean=[True, True, True, False])
    accuracy = result.accuracy("m")
    assert (accuracy.value, accuracy.n) == (0.5, 4)
    assert accuracy.metric == "accuracy"


def test_the_success_rate_is_over_the_initially_correct_images() -> None:
    result = attacked([True, True, False, True, False], clean=[True, True, True, False, False])
    rate = result.success_rate("m")
    assert (rate.value, rate.n) == (pytest.approx(1 / 3), 3)
    assert rate.metric == "attack_success_rate"


def test_an_image_that_was_wrong_and_becomes_right_is_not_robust() -> None:
    dark, light = np.full((1, 2, 2, 1), 0.2, np.float32), np.full((1, 2, 2, 1), 0.8, np.float32)
    x, y = np.concatenate([dark, light]), np.array([1, 1])  # the first is wrong unattacked
    result = score(bright(), Fgsm(), x, y, np.arange(2), 0.7, np.concatenate([light, light]), "white-box")
    assert result.clean_predictions.tolist() == [0, 1]
    assert result.predictions.tolist() == [1, 1]
    assert result.robust.tolist() == [False, True]
    assert result.fooled.tolist() == [False]


def test_the_perturbation_is_measured_and_not_believed() -> None:
    x, y = np.full((3, 2, 2, 1), 0.5, np.float32), np.zeros(3, np.int64)
    result = score(bright(), Fgsm(), x, y, np.array([0, 2]), 0.1, x[:2] + np.float32(0.25), "white-box")
    np.testing.assert_allclose(result.linf, 0.25)
    np.testing.assert_allclose(result.l2, 0.5)
    with pytest.raises(AttackError, match="NaN"):
        score(bright(), Fgsm(), x, y, np.array([0]), 0.1, x[:1] * np.float32(np.nan), "white-box")


def test_a_measurement_says_what_it_is_of() -> None:
    pgd = attacked([True], attack=Pgd(norm="2"), eps=0.5).accuracy("mine")
    assert (pgd.model, pgd.condition, pgd.knowledge, pgd.eps, pgd.norm) == (
        "mine",
        "pgd",
        "white-box",
        0.5,
        "2",
    )
    noise = attacked([True], attack=GaussianNoise()).accuracy("mine")
    assert (noise.knowledge, noise.group) == ("none", "noise")


def test_the_frame_has_a_row_for_each_image() -> None:
    frame = attacked([True, False], clean=[True, False], index=[5, 9]).frame()
    assert frame["index"].tolist() == [5, 9]
    assert frame["correct"].tolist() == [True, False]
    assert frame["prediction"].tolist() == [4, 1]
    assert set(frame["attack"]) == {"fgsm"}


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 1)])
def test_a_share_lies_in_its_interval(hits: int, n: int) -> None:
    measured = share(np.arange(n) < hits, model="m", condition="clean")
    assert measured.value == hits / n
    assert 0 <= measured.low <= measured.value <= measured.high <= 1
    assert measured.high - measured.low > 0.2


def test_the_interval_is_wilsons() -> None:
    measured = share(np.arange(10) < 3, model="m", condition="clean")
    assert (measured.low, measured.high) == (pytest.approx(0.1078, abs=1e-4), pytest.approx(0.6032, abs=1e-4))


def test_more_images_narrow_the_interval() -> None:
    few, many = (share(np.arange(n) < n // 2, model="m", condition="clean") for n in (10, 1000))
    assert many.high - many.low < few.high - few.low


# --- worst case ---------------------------------------------------------------------------------------------

outcomes = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4)


@given(outcomes)
def test_the_worst_case_is_the_mean_of_minima_and_below_every_attack(tried: list[list[bool]]) -> None:
    results = [attacked(row, attack=Pgd(max_iter=number + 1)) for number, row in enumerate(tried)]
    (worst,) = worst_case(results)
    assert worst.accuracy("m").value == pytest.approx(np.array(tried).min(axis=0).mean())
    assert all(worst.accuracy("m").value <= result.accuracy("m").value for result in results)


def test_the_worst_case_is_not_the_minimum_of_means() -> None:
    (worst,) = worst_case([attacked([True, False]), attacked([False, True], attack=Pgd())])
    assert worst.accuracy("m").value == 0
    assert worst.attacks == ("fgsm", "pgd")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_worst_case_is_over_the_images_all_attacks_saw(order: tuple[int, ...]) -> None:
    results = [
        attacked([True, True, False, True, True], index=[0, 2, 4, 6, 8]),
        attacked([False, True, True], attack=Pgd(), index=[2, 6, 8]),
        attacked([True, False, True, True], attack=Pgd(max_iter=9), index=[1, 2, 6, 8]),
    ]
    (worst,) = worst_case([results[number] for number in order])
    assert worst.index.tolist() == [2, 6, 8]
    assert worst.robust.tolist() == [False, True, True]


def test_the_worst_case_pairs_images_by_number_and_not_by_place() -> None:
    results = [
        attacked([True, False, True], index=[9, 1, 5]),
        attacked([True, True, False], attack=Pgd(), index=[1, 5, 9]),
    ]
    (worst,) = worst_case(results)
    assert dict(zip(worst.index.tolist(), worst.robust.tolist(), strict=True)) == {
        1: False,
        5: True,
        9: False,
    }


def test_norms_and_budgets_have_worst_cases_of_their_own() -> None:
    results = [
        attacked([True], eps=0.3),
        attacked([False], eps=0.1),
        attacked([True], attack=Fgsm(norm="2"), eps=0.1),
    ]
    assert [(w.norm, w.eps, w.robust.tolist()) for w in worst_case(results)] == [
        ("2", 0.1, [True]),
        ("inf", 0.1, [False]),
        ("inf", 0.3, [True]),
    ]


def test_noise_and_transfer_have_no_part_in_a_worst_case() -> None:
    others = [attacked([False], attack=GaussianNoise()), attacked([False], knowledge="transfer")]
    assert worst_case(others) == []
    (worst,) = worst_case([*others, attacked([True])])
    assert worst.robust.tolist() == [True]


# --- unattacked ---------------------------------------------------------------------------------------------


def test_tables_have_a_row_for_every_class() -> None:
    confusion, report = tables(np.array([0, 0, 2]), np.array([0, 2, 2]), ("a", "b", "c"))
    assert confusion.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert report["a"]["recall"] == 0.5
    assert report["b"]["support"] == 0


def test_evaluation_counts_and_weighs() -> None:
    x, y = np.stack([np.full((2, 2, 1), v, np.float32) for v in (0.1, 0.9, 0.9)]), np.array([0, 1, 0])
    clean = evaluate(bright(), x, y, ("dark", "light"))
    assert clean.predictions.tolist() == [0, 1, 1]
    assert clean.correct.tolist() == [True, True, False]
    assert clean.confusion.tolist() == [[1, 1], [0, 1]]
    logits = np.stack([np.full(3, 0.5), x.mean(axis=(1, 2, 3))], axis=1)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(3), y]
    assert clean.loss == pytest.approx(expected.mean(), abs=1e-6)


def test_a_constant_model_has_no_gradient_anywhere(small: Dataset) -> None:
    assert zero_gradients(constant(), small.x_test, small.y_test) == 1.0


def test_a_trained_model_has_gradients(classifier: CompiledClassifier, small: Dataset) -> None:
    assert zero_gradients(classifier, small.x_test, small.y_test) < 0.05


def test_gradients_that_are_no_numbers_count_as_none() -> None:
    class Broken:
        def loss_gradient(self, x: Any, _: Any) -> Any:
            gradient = np.ones_like(x)
            gradient[0, 0, 0, 0] = np.nan
            return gradient

    x = np.ones((4, 2, 2, 1), np.float32)
    assert zero_gradients(Broken(), x, np.zeros(4, np.int64)) == 0.25  # type: ignore[arg-type]
    assert zero_gradients(Broken(), x, np.zeros(4, np.int64), most=2) == 0.5  # type: ignore[arg-type]


def test_inference_takes_time_on_few_images_and_on_many() -> None:
    seen: list[int] = []
    x = np.zeros((2_500, 1, 1, 1), np.float32)
    assert inference_ms(lambda images: seen.append(len(images)), x, passes=3) > 0
    assert seen == [2_000] * 4
    assert inference_ms(np.sin, x[:1]) > 0


# --- attacking ----------------------------------------------------------------------------------------------


def test_shards_get_seeds_of_their_own_and_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gauntlet.evaluation.SHARD", 4)
    x, y = np.full((10, 2, 2, 1), 0.5, np.float32), np.zeros(10, np.int64)
    told: list[float] = []
    images = craft(bright(), GaussianNoise(), x, y, 0.1, 0, lambda _, share: told.append(share))
    assert images.shape == x.shape
    assert not np.array_equal(images[:4], images[4:8])
    assert told == [0.4, 0.8, 1.0]
    np.testing.assert_array_equal(craft(bright(), GaussianNoise(), x, y, 0.1, 0), images)
    assert not np.array_equal(craft(bright(), GaussianNoise(), x, y, 0.1, 1), images)


def test_a_budget_that_cannot_be_meant_is_refused_before_any_work() -> None:
    with pytest.raises(SettingError, match="eps of fgsm"):
        craft(bright(), Fgsm(), np.zeros((1, 2, 2, 1), np.float32), np.zeros(1, np.int64), 8.0, 0)


def test_images_made_against_another_model_are_a_transfer(classifier: CompiledClassifier, small: Dataset) -> None:
    index = np.array([3, 5, 8])
    data = small.x_test, small.y_test, index
    own, other = (
        attack_all(classifier, Fgsm(), *data, 0.1, 0),
        attack_all(constant(), Fgsm(), *data, 0.1, 0, source=classifier),
    )
    assert (own.knowledge, other.knowledge) == ("white-box", "transfer")
    np.testing.assert_array_equal(own.images, other.images)
    assert (other.predictions == 0).all()
    np.testing.assert_array_equal(own.labels, small.y_test[index])
    assert own.seconds > 0


def test_a_battery_is_every_attack_at_every_budget_on_its_own_images() -> None:
    x, y = np.full((6, 2, 2, 1), 0.4, np.float32), np.zeros(6, np.int64)
    attacks = [Fgsm(), GaussianNoise(std=(0.2,)), Pgd(max_iter=1)]
    told: list[float] = []
    results = battery(
        bright(), attacks, x, y, lambda a: np.arange(2 if a.iterative else 6), (0.1, 0.3), 0,
        progress=lambda _, share: told.append(share),
    )  # fmt: skip
    done = [(r.attack.name, r.eps, len(r.index)) for r in results]
    assert done == [
        ("fgsm", 0.1, 6),
        ("fgsm", 0.3, 6),
        ("gaussian-noise", 0.2, 6),
        ("pgd", 0.1, 2),
        ("pgd", 0.3, 2),
    ]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


def test_a_battery_without_budgets_takes_the_usual_ones() -> None:
    x, y = np.full((2, 2, 2, 1), 0.4, np.float32), np.zeros(2, np.int64)
    results = battery(bright(), [Fgsm()], x, y, lambda _: np.arange(2), (), 0)
    assert [result.eps for result in results] == [0.1, 0.2, 0.3]
