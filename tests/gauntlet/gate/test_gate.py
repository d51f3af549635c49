"""The gate of a night: what is compared with what, and which verdict wins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from gauntlet.gate.statistics import Paired, decide
from gauntlet.gate.trend import Night, attributed, changed, figure
from gauntlet.gate.verdict import doubtful, needed, new_findings, night_verdict, one_sided, outcomes, pairs, rows, unmet

N = 1_000


def frame(attack: str, correct: np.ndarray, *, eps: float = 0.1, norm: str = "inf", tried: bool = True) -> pd.DataFrame:
    facts: dict[str, Any] = {"attack": attack, "norm": norm, "eps": eps}
    mask = np.full(len(correct), tried)
    return pd.DataFrame({"index": np.arange(len(correct)), "correct": correct, "tried": mask} | facts)


def withstood(share: float, n: int = N) -> np.ndarray:
    return np.arange(n) < round(share * n)


CLEAN = frame("", withstood(0.99))


def gates(*losses: int, n: int = N) -> dict[str, Any]:
    conditions = {f"{i}": Paired(n, n - loss - 10, loss, 0, 10) for i, loss in enumerate(losses)}
    return decide(conditions)


# --- conditions ---------------------------------------------------------------------------------------------


def test_every_attack_and_budget_is_a_condition_and_the_worst_case_is_per_image() -> None:
    first, second = withstood(0.5), ~withstood(0.3)
    conditions = outcomes(
        CLEAN, pd.concat([frame("pgd", first), frame("fgsm", second), frame("pgd", first, eps=0.2)]), None, None
    )
    assert set(conditions) == {"clean", "fgsm 0.1", "pgd 0.1", "pgd 0.2", "worst case 0.1", "worst case 0.2"}
    np.testing.assert_array_equal(conditions["worst case 0.1"].to_numpy(), first & second)


def test_noise_is_a_condition_and_no_part_of_a_worst_case() -> None:
    conditions = outcomes(
        CLEAN, pd.concat([frame("pgd", withstood(0.5)), frame("noise-uniform", withstood(0.1))]), None, None
    )
    assert conditions["noise-uniform 0.1"].mean() == 0.1
    assert conditions["worst case 0.1"].mean() == 0.5


def test_a_later_attack_of_a_cascade_counts_in_the_worst_case_alone() -> None:
    conditions = outcomes(
        CLEAN, pd.concat([frame("pgd", withstood(0.5)), frame("square", withstood(0.4), tried=False)]), None, None
    )
    assert "square 0.1" not in conditions
    assert conditions["worst case 0.1"].mean() == 0.4


def test_the_bank_counts_in_the_worst_case_and_triggers_are_conditions() -> None:
    triggered = pd.DataFrame({"index": [3, 5], "attack": "corner-trigger", "correct": [True, False]})
    conditions = outcomes(CLEAN, frame("pgd", withstood(0.5)), frame("replay", withstood(0.2)), triggered)
    assert conditions["worst case 0.1"].mean() == 0.2
    assert conditions["trigger corner-trigger"].tolist() == [True, False]


def test_two_settings_of_one_attack_are_two_conditions() -> None:
    both = [frame("pgd:max_iter=1", withstood(0.9)), frame("pgd:max_iter=40", withstood(0.4))]
    conditions = outcomes(CLEAN, pd.concat(both))
    assert {name: len(series) for name, series in conditions.items()} == dict.fromkeys(
        ("clean", "pgd:max_iter=1 0.1", "pgd:max_iter=40 0.1", "worst case 0.1"), N
    )


def test_models_are_paired_by_image_on_those_that_both_saw() -> None:
    one, other = pd.Series([True, False, True], index=[1, 2, 3]), pd.Series([True, True], index=[3, 2])
    paired = pairs({"clean": one, "pgd 0.1": one}, {"clean": other, "fgsm 0.1": other})
    assert paired == {"clean": Paired(n=2, both=1, only_champion=0, only_candidate=1, neither=0)}


# --- verdicts -----------------------------------------------------------------------------------------------


def test_nothing_lost_passes() -> None:
    assert night_verdict(gates(0, 0)) == ("PASS", [])


def test_a_loss_fails_and_names_the_condition() -> None:
    verdict, (reason,) = night_verdict(gates(0, 30))
    assert verdict == "FAIL"
    assert reason.startswith("1: 3.00 points lost")


def test_few_images_are_inconclusive_and_say_how_many_would_do() -> None:
    verdict, reasons = night_verdict(gates(0, n=50), needed=268)
    assert verdict == "INCONCLUSIVE"
    assert reasons[-1] == "about 268 images would tell"
    assert night_verdict(gates(0, n=50))[1][-1] == "more images would not tell"


def test_the_night_itself_says_how_many_images_would_tell() -> None:
    right = pd.Series(withstood(0.9, 50))
    assert needed({"clean": right, "pgd 0.1": right}, {"clean": right, "pgd 0.1": right}, 0.01) == 268


def test_a_first_champion_must_reach_its_floors_on_every_stage() -> None:
    conditions = {"clean": pd.Series(withstood(0.9)), "trigger patch": pd.Series(withstood(0.0))}
    assert unmet(conditions, {"clean": 0.9}) == []
    assert unmet(conditions, {"clean": 0.95}) == ["a first champion needs clean at 95 %, got 90.00 %"]
    assert "trigger patch at 90 %, got 0.00 %" in unmet(conditions, {"trigger": 0.9})[0]
    assert "which was not measured" in unmet(conditions, {"pgd": 0.1})[0]
    assert unmet(conditions, {}, ["attack failed"]) == ["a first champion needs every stage: attack failed"]


def test_clean_accuracy_alone_is_no_pass() -> None:
    verdict, (reason,) = night_verdict(decide({"clean": Paired(N, N, 0, 0, 0), "pgd 0.3": Paired(N, 0, 0, 0, N)}))
    assert verdict == "INCONCLUSIVE"
    assert "nothing but clean accuracy" in reason


def test_conditions_of_one_side_alone_are_told_and_no_pass() -> None:
    series = pd.Series([True])
    missing = one_sided({"clean": series, "pgd 0.1": series}, {"clean": series, "fgsm 0.1": series})
    assert missing == ["pgd 0.1: only the champion has it", "fgsm 0.1: only the candidate has it"]
    assert night_verdict(gates(0, 0), missing=missing)[0] == "INCONCLUSIVE"


def test_a_doubtful_evaluation_leaves_conditions_under_attack_open_and_is_told() -> None:
    lost = Paired(N, N - 40, 40, 0, 0)
    conditions = doubtful(decide({"clean": Paired(N, N, 0, 0, 0), "noise-uniform 0.1": lost, "pgd 0.1": lost}))
    assert {name: gate.verdict for name, gate in conditions.items()} == {
        "clean": "PASS",
        "noise-uniform 0.1": "FAIL",
        "pgd 0.1": "INCONCLUSIVE",
    }
    doubt = "the champion's evaluation is SUSPECT: gradients are masked"
    assert doubt in night_verdict(conditions, doubts=[doubt])[1]


@pytest.mark.parametrize("kept", ["doubts", "failed"])
def test_what_is_in_doubt_or_failed_cannot_pass_and_does_not_hide_a_loss(kept: str) -> None:
    assert night_verdict(gates(0, 0), **{kept: ["a reason"]}) == ("INCONCLUSIVE", ["a reason"])  # type: ignore[arg-type]
    assert night_verdict(gates(0, 30), **{kept: ["a reason"]})[0] == "FAIL"  # type: ignore[arg-type]


def test_a_dead_canary_is_before_everything() -> None:
    verdict, reasons = night_verdict(gates(0, 30), dead_canaries=["constant: expected SUSPECT, got VALID"])
    assert verdict == "INVALID"
    assert "instrument is broken" in reasons[0]


def test_without_a_champion_there_is_nothing_to_pass() -> None:
    verdict, (reason,) = night_verdict({}, champion=False)
    assert verdict == "INCONCLUSIVE"
    assert reason == "there is no champion to compare with"


def test_the_gate_is_plain_data() -> None:
    (row,) = rows(gates(30))
    assert {"condition", "champion", "candidate", "difference", "low", "high", "p_value", "verdict"} <= set(row)


# --- nights -------------------------------------------------------------------------------------------------


def night(candidate: float, champion: float, **facts: str) -> Night:
    shares = {"candidate": {"pgd 0.1": candidate}, "champion": {"pgd 0.1": champion}}
    return Night(run_id="r", started="2026-01-02T02:00:00Z", verdict="PASS", facts=facts, **shares)


def test_what_changed_is_told_in_words() -> None:
    before, now = night(0.9, 0.9, model_digest="a", numpy="2.3"), night(0.9, 0.9, model_digest="b", numpy="2.4")
    assert changed(before, now) == ["the candidate model changed", "numpy changed from 2.3 to 2.4"]
    assert changed(before, before) == []


def test_a_drop_of_both_is_not_the_models() -> None:
    (both,) = attributed(night(0.9, 0.9, numpy="2.3"), night(0.8, 0.8, numpy="2.4"))
    assert "candidate and champion alike; numpy changed" in both
    (alone,) = attributed(night(0.9, 0.9), night(0.8, 0.9))
    assert "the candidate alone; nothing that is recorded changed" in alone
    assert attributed(None, night(0.8, 0.9)) == attributed(night(0.9, 0.9), night(0.895, 0.9)) == []


def test_the_trend_is_drawn_for_no_night_and_for_many() -> None:
    for nights in ([], [night(0.9, 0.8)], [night(0.9, 0.8)] * 30):
        drawn = figure(nights, "Nights")
        assert drawn.axes or drawn.texts


def test_a_finding_is_new_by_fingerprint_and_as_often_as_it_comes() -> None:
    facts = {"rule": "B602", "severity": "high", "file": "a.py", "line": 2, "message": "shell"}
    known, copied = pd.DataFrame([facts | {"fingerprint": "a"}]), facts | {"fingerprint": "a", "line": 9}
    low = facts | {"fingerprint": "b", "severity": "low"}
    assert new_findings(known, known) == new_findings(known, pd.DataFrame([facts | {"fingerprint": "a"}, low])) == []
    (line,) = new_findings(known, pd.DataFrame([facts | {"fingerprint": "a"}, copied]))
    assert line == "new finding B602 (high) in a.py, line 9: shell"
