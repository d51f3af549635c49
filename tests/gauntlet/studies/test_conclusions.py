"""Every verdict in every direction, on made-up figures."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from gauntlet.measurement import Measurement, wilson
from gauntlet.studies.comparison import lowest
from gauntlet.studies.conclusions import RULES, Answer, Measured, conclude, roles


def share(percent: float, n: int = 1_000, **facts: Any) -> Measurement:
    hits = round(percent * n / 100)
    low, high = wilson(hits, n)
    return Measurement(**({"model": "m", "condition": "clean"} | facts), value=hits / n, low=low, high=high, n=n)


def attacked(fgsm: float, pgd: float, knowledge: str = "white-box", eps: float = 0.25, **facts: Any) -> Measured:
    """A model that is right on 99 % clean, under two attacks; at a smaller budget it does better than at `eps`."""
    where = {"knowledge": knowledge, "norm": "inf"} | facts
    values = [share(99)]
    values += [share(98, condition="fgsm", eps=eps / 10, **where), share(fgsm, condition="fgsm", eps=eps, **where)]
    return Measured({}, [*values, share(pgd, condition="pgd", eps=eps, **where)])


def backdoor(poisoned: float, clean: float, n: int = 1_000) -> dict[str, Measured]:
    facts: dict[str, Any] = {"condition": "trigger", "metric": "attack_success_rate"}
    rates = [share(poisoned, n, model="r1-poisoned", **facts), share(clean, n, model="baseline", **facts)]
    return {"poisoned": Measured({"backdoor/target": 7.0}, [share(98, condition="trigger"), *rates])}


def scanned(poisoned: str, clean: str = "CLEAN", target: int | None = 7, success: float = 97) -> dict[str, Measured]:
    """The scans of a model whose planted class is 7 and of its clean twin; `target` is what the first accuses."""
    accused = {} if target is None else {"scan_model/target": float(target)}
    found = Measured({"scan_model/p_value": 1e-5} | accused, verdict=poisoned)
    return backdoor(success, 1) | {"scan": found, "clean_scan": Measured({"scan_model/p_value": 0.7}, verdict=clean)}


def defended(own: tuple[float, float], other: float = 98, **facts: Any) -> dict[str, Measured]:
    return {"white_box": attacked(*own, **facts), "transfer": attacked(other, other, "transfer")}


def natural(own: tuple[float, float]) -> dict[str, Measured]:
    return {"published": attacked(97, 97, eps=8 / 255), "larger": attacked(*own, eps=0.3)}


def adaptive(own: tuple[float, float], other: float, bare: float) -> dict[str, Measured]:
    return defended(own, other) | {"undefended": attacked(bare, bare)}


def detector(auc: float, low: float, high: float) -> dict[str, Measured]:
    rates = {"tpr_at_fpr_5": 0.3, "tpr_at_fpr_1": 0.1, "tpr_at_threshold": 0.4, "fpr_at_threshold": 0.2}
    values = {f"detect/{name}": value for name, value in rates.items()}
    return {"detector": Measured(values | {"detect/auc": auc, "detect/auc_low": low, "detect/auc_high": high})}


def scan(findings: int, errors: int = 0, pickles: int = 0) -> dict[str, Measured]:
    counts = {"scan/high": 0.0, "scan/medium": float(findings), "scan/low": 0.0}
    counts |= {"scan/lines": 40.0, "scan/errors": float(errors), "scan/B301": float(pickles)}
    return {"scan": Measured(counts)}


CASES: list[tuple[str, Answer, dict[str, Measured]]] = [
    ("backdoor_learned", "holds", backdoor(97, 1)),
    ("backdoor_learned", "does not hold", backdoor(1.5, 1)),
    ("backdoor_learned", "does not hold", backdoor(20, 1)),
    ("backdoor_learned", "does not hold", backdoor(80, 79)),  # what the poisoning added is what counts
    ("backdoor_learned", "does not hold", backdoor(40, 1)),
    ("backdoor_learned", "undecided", backdoor(49, 1)),
    ("backdoor_learned", "undecided", backdoor(52, 1)),  # the estimate alone would be enough
    ("backdoor_learned", "holds", backdoor(60, 1)),
    ("backdoor_learned", "undecided", backdoor(60, 0, n=20)),  # few images confirm nothing
    ("scan_finds_backdoor", "holds", scanned("BACKDOORED")),
    ("scan_finds_backdoor", "holds", scanned("BACKDOORED", "INCONCLUSIVE")),
    ("scan_finds_backdoor", "does not hold", scanned("BACKDOORED", target=3)),
    ("scan_finds_backdoor", "does not hold", scanned("BACKDOORED", "BACKDOORED")),  # a false alarm
    ("scan_finds_backdoor", "does not hold", scanned("CLEAN", target=None)),
    ("scan_finds_backdoor", "undecided", scanned("INCONCLUSIVE", target=None)),
    ("scan_finds_backdoor", "undecided", scanned("CLEAN", target=None, success=2)),  # there is nothing to find
    ("robust_after_defense", "holds", defended((95, 94))),
    ("robust_after_defense", "does not hold", defended((95, 60))),
    ("robust_after_defense", "does not hold", defended((3, 0))),
    ("robust_after_defense", "undecided", defended((95, 89))),
    ("robust_after_defense", "undecided", defended((90, 90))),  # 9 points, and 1,000 images know it to ±2
    ("robust_after_defense", "holds", defended((92.5, 92.5))),
    ("robust_after_defense", "undecided", defended((95, 94), validity="SUSPECT")),  # a worse attack was missed
    ("robust_after_defense", "does not hold", defended((95, 60), validity="SUSPECT")),  # what broke is broken
    ("naturally_robust", "holds", natural((96, 93))),
    ("naturally_robust", "does not hold", natural((20, 0))),
    ("naturally_robust", "does not hold", natural((95, 5))),
    ("naturally_robust", "undecided", natural((95, 89))),
    ("defends_adaptively", "holds", adaptive((88, 86), 87, 5)),
    ("defends_adaptively", "does not hold", adaptive((20, 8), 87, 5)),
    ("defends_adaptively", "does not hold", adaptive((88, 84), 87, 90)),
    ("defends_adaptively", "undecided", adaptive((80, 77), 87, 5)),
    ("defends_adaptively", "undecided", adaptive((80, 78), 87, 77)),
    (
        "defends_adaptively",
        "undecided",
        adaptive((80, 79), 81, 80),
    ),  # no better than undefended, as far as is known
    ("defends_adaptively", "does not hold", adaptive((75, 75), 81, 80)),
    ("detects_better_than_chance", "holds", detector(0.7, 0.65, 0.75)),
    ("detects_better_than_chance", "does not hold", detector(0.4, 0.35, 0.45)),
    ("detects_better_than_chance", "undecided", detector(0.52, 0.48, 0.56)),
    ("scan_clean", "holds", scan(0)),
    ("scan_clean", "does not hold", scan(1)),
    ("scan_clean", "undecided", scan(0, errors=1)),
    ("scan_finds_pickle", "holds", scan(3, pickles=1)),
    ("scan_finds_pickle", "does not hold", scan(3)),
    ("scan_finds_pickle", "undecided", scan(3, errors=1)),
]


@pytest.mark.parametrize(("rule", "verdict", "stages"), CASES, ids=[f"{rule} {verdict}" for rule, verdict, _ in CASES])
def test_the_verdict_follows_from_the_figures(rule: str, verdict: Answer, stages: dict[str, Measured]) -> None:
    ruling = conclude(rule, stages)
    assert ruling.verdict == verdict
    assert any(character.isdigit() for character in ruling.evidence)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_tested_in_every_direction(rule: str) -> None:
    assert {verdict for name, verdict, _ in CASES if name == rule} == set(get_args(Answer))


@pytest.mark.parametrize("rule", RULES)
def test_what_failed_or_was_not_measured_cannot_be_told(rule: str) -> None:
    needed = roles(rule)
    failed = conclude(rule, dict.fromkeys(needed))
    assert failed.verdict == "undecided"
    assert failed.evidence == f"stage failed: {', '.join(needed)}"
    assert conclude(rule, dict.fromkeys(needed, Measured())).verdict == "undecided"


def test_the_evidence_names_every_attack_with_interval_and_number() -> None:
    evidence = conclude("robust_after_defense", defended((95, 60))).evidence
    assert "fgsm 0.25 95.00 [93.5, 96.2] % (n = 1,000), pgd 0.25 60.00" in evidence
    assert "transfer fgsm 0.25 98.00" in evidence
    assert "clean 99.00" in evidence
    assert "lost 39.0 [35.5, 42.5] points, allowed 10" in evidence


def test_invalid_attacks_prove_nothing_either_way() -> None:
    impossible = conclude("robust_after_defense", defended((3, 0), validity="INVALID"))
    assert impossible.verdict == "undecided"
    sound, wrong = attacked(60, 60), share(95, condition="apgd-ce", eps=0.25, knowledge="white-box", validity="INVALID")
    stages = {"white_box": Measured({}, [*sound.measurements, wrong]), "transfer": attacked(98, 98, "transfer")}
    assert conclude("robust_after_defense", stages).verdict == "does not hold"  # by the attacks that are sound


def test_the_worst_of_many_attacks_is_not_worse_for_being_the_least_of_many_estimates() -> None:
    """Forty attacks of one true accuracy: the least estimate lies below it, the interval does not."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        values = 100 * rng.binomial(1_000, 0.9, 40) / 1_000
        worst = Measured({}, [share(v, condition="fgsm", eps=0.1, knowledge="white-box") for v in values]).worst()
        assert worst.value < 0.9
        missed += not worst.low <= 0.9 <= worst.high
    assert missed <= 10


def test_the_lowest_of_one_is_itself() -> None:
    one = share(90)
    assert lowest([one]) == pytest.approx((one.value, one.low, one.high))
    with pytest.raises(LookupError):
        lowest([])
