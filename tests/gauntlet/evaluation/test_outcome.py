"""Outcomes of attacks: over which images shares are counted, and what is paired with what."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.attacks import Attack, Fgsm, GaussianNoise, Pgd
from gauntlet.evaluation.outcome import Attacked, Knowledge, worst_case


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
    done = np.ones(n, bool), np.ones(n, np.int64), sizes, sizes, sizes, None, 1.0, images
    return Attacked(attack or Fgsm(), eps, knowledge, positions, labels, *predictions, *done)


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


def test_a_targeted_attack_succeeds_on_images_of_other_classes_that_reach_the_target() -> None:
    result = attacked([True, False, False], attack=Pgd(target=1))
    rate = result.success_rate("m")
    assert rate is not None
    assert (rate.value, rate.n) == (pytest.approx(2 / 3), 3)
    assert attacked([False, False], attack=Pgd(target=4)).success_rate("m") is None


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
