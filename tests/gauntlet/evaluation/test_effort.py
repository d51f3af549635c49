"""What each attack contributed to a worst case."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from gauntlet.attacks import Fgsm, GaussianNoise, Pgd
from gauntlet.evaluation.effort import efforts, shown
from tests.gauntlet.evaluation.test_outcome import attacked

YES, NO = True, False


def test_the_best_attack_at_every_budget_has_all_of_the_area() -> None:
    weak = [attacked([YES, YES, YES, NO], eps=0.1), attacked([YES, YES, NO, NO], eps=0.2)]
    strong = [attacked([YES, YES, NO, NO], eps=0.1, attack=Pgd()), attacked([NO, YES, NO, NO], eps=0.2, attack=Pgd())]
    fgsm, pgd = efforts([*weak, *strong])
    assert pgd.optimality == 1
    # Areas by trapezoids over 0, 0.1, 0.2: (0.5 + 1.5) of (1 + 2.5), each times 0.1.
    assert fgsm.optimality == pytest.approx(2 / 3.5)
    assert (fgsm.broken, fgsm.only, pgd.broken, pgd.only) == (2, 0, 3, 1)


def test_two_that_break_different_images_are_both_short_of_the_worst_case() -> None:
    one, other = attacked([NO, YES], attack=Fgsm()), attacked([YES, NO], attack=Pgd())
    assert [(e.optimality, e.only) for e in efforts([one, other])] == [(0.5, 1), (0.5, 1)]


def test_norms_are_not_mixed_and_noise_and_transfers_are_no_rivals() -> None:
    results = [
        attacked([NO, YES]),
        attacked([NO, NO], attack=Pgd(norm="2")),
        attacked([NO, NO], attack=GaussianNoise()),
        attacked([NO, NO], attack=Pgd(), knowledge="transfer"),
    ]
    assert [(e.attack, e.norm, e.optimality) for e in efforts(results)] == [("fgsm", "inf", 1.0), ("pgd", "2", 1.0)]


def test_in_a_cascade_only_the_counts_are_an_attacks_own() -> None:
    first = attacked([NO, YES, YES])
    second = replace(attacked([NO, NO, YES], attack=Pgd()), tried=np.array([NO, YES, YES]))
    contributions = efforts([first, second])
    assert [(e.broken, e.only, e.optimality) for e in contributions] == [(1, None, None), (1, None, None)]


def test_where_nothing_broke_nothing_is_said() -> None:
    assert [e.optimality for e in efforts([attacked([YES, YES]), attacked([YES, YES], attack=Pgd())])] == [None, None]


def test_a_table_has_a_row_an_attack() -> None:
    rows = [asdict(e) for e in efforts([attacked([NO, YES]), attacked([NO, NO], attack=Pgd())])]
    assert [(row["attack"], row["by no other"]) for row in shown(rows)] == [("fgsm", 0), ("pgd", 1)]
    assert shown([{"seconds": 1.23456, "only": None}]) == [{"time (s)": 1.23, "by no other": None}]
