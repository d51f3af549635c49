"""Every verdict in every direction, on made-up figures."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gauntlet.measurement import Measurement, wilson
from gauntlet.studies.conclusions import RULES, Measured, Verdict, conclude, judge, roles


def share(percent: float, n: int = 1_000, **facts: Any) -> Measurement:
    hits = round(percent * n / 100)
    low, high = wilson(hits, n)
    return Measurement(**({"model": "m", "condition": "clean"} | facts), value=hits / n, low=low, high=high, n=n)


def attacked(fgsm: float, pgd: float, knowledge: str = "white-box", eps: float = 0.25, **facts: Any) -> Measured:
    """A model that is right on 99 % clean, under two attacks; at a smaller budget it does better than at `eps`."""
    where = {"knowledge": knowledge, "norm": "inf"} | facts
    found = [share(99)]
    found += [share(98, condition="fgsm", eps=eps / 10, **where), share(fgsm, condition="fgsm", eps=eps, **where)]
    return Measured({}, [*found, share(pgd, condition="pgd", eps=eps, **where)])


def backdoor(poisoned: float, clean: float, n: int = 1_000) -> dict[str, Measured]:
    facts: dict[str, Any] = {"condition": "trigger", "metric": "attack_success_rate"}
    rates = [share(poisoned, n, model="r1-poisoned", **facts), share(clean, n, model="baseline", **facts)]
    return {"poisoned": Measured({}, [share(98, condition="trigger"), *rates])}


def defended(own: tuple[float, float], other: float = 98, **facts: Any) -> dict[str, Measured]:
    return {"white_box": attacked(*own, **facts), "transfer": attacked(other, other, "transfer")}


def natural(own: tuple[float, float]) -> dict[str, Measured]:
    return {"published": attacked(97, 97, eps=8 / 255), "larger": attacked(*own, eps=0.3)}


def adaptive(own: tuple[float, float], other: float, bare: float) -> dict[str, Measured]:
    return defended(own, other) | {"undefended": attacked(bare, bare)}


def detector(auc: float, low: float, high: float) -> dict[str, Measured]:
    rates = {"tpr_at_fpr_5": 0.3, "tpr_at_fpr_1": 0.1, "tpr_at_threshold": 0.4, "fpr_at_threshold": 0.2}
    found = {f"detect/{name}": value for name, value in rates.items()}
    return {"detector": Measured(found | {"detect/auc": auc, "detect/auc_low": low, "detect/auc_high": high})}


def scan(findings: int, errors: int = 0, pickles: int = 0) -> dict[str, Measured]:
    counts = {"scan/high": 0.0, "scan/medium": float(findings), "scan/low": 0.0}
    counts |= {"scan/lines": 40.0, "scan/errors": float(errors), "scan/B301": float(pickles)}
    return {"scan": Measured(counts)}


CASES: list[tuple[str, Verdict, dict[str, Measured]]] = [
    ("backdoor_learned", "holds", backdoor(97, 1)),
    ("backdoor_learned", "does not hold", backdoor(1.5, 1)),
    ("backdoor_learned", "does not hold", backdoor(20, 1)),
    ("backdoor_learned", "does not hold", backdoor(80, 79)),
    ("backdoor_learned", "cannot be told", backdoor(49, 1)),
    ("robust_after_defense", "holds", defended((95, 94))),
    ("robust_after_defense", "does not hold", defended((95, 60))),
    ("robust_after_defense", "does not hold", defended((3, 0))),
    ("robust_after_defense", "cannot be told", defended((95, 89))),
    ("robust_after_defense", "cannot be told", defended((3, 0), validity="INVALID")),
    ("naturally_robust", "holds", natural((96, 93))),
    ("naturally_robust", "does not hold", natural((20, 0))),
    ("naturally_robust", "does not hold", natural((95, 5))),
    ("naturally_robust", "cannot be told", natural((95, 89))),
    ("defends_adaptively", "holds", adaptive((88, 85), 87, 5)),
    ("defends_adaptively", "does not hold", adaptive((20, 8), 87, 5)),
    ("defends_adaptively", "does not hold", adaptive((88, 85), 87, 90)),
    ("defends_adaptively", "cannot be told", adaptive((80, 77), 87, 5)),
    ("defends_adaptively", "cannot be told", adaptive((80, 78), 87, 77)),
    ("detects_better_than_chance", "holds", detector(0.7, 0.65, 0.75)),
    ("detects_better_than_chance", "does not hold", detector(0.4, 0.35, 0.45)),
    ("detects_better_than_chance", "cannot be told", detector(0.52, 0.48, 0.56)),
    ("scan_clean", "holds", scan(0)),
    ("scan_clean", "does not hold", scan(1)),
    ("scan_clean", "cannot be told", scan(0, errors=1)),
    ("scan_finds_pickle", "holds", scan(3, pickles=1)),
    ("scan_finds_pickle", "does not hold", scan(3)),
    ("scan_finds_pickle", "cannot be told", scan(3, errors=1)),
]


@pytest.mark.parametrize(("rule", "verdict", "stages"), CASES, ids=[f"{rule} {verdict}" for rule, verdict, _ in CASES])
def test_the_verdict_follows_from_the_figures(rule: str, verdict: Verdict, stages: dict[str, Measured]) -> None:
    ruling = conclude(rule, stages)
    assert ruling.verdict == verdict
    assert any(character.isdigit() for character in ruling.evidence)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_tested_in_every_direction(rule: str) -> None:
    assert {verdict for name, verdict, _ in CASES if name == rule} == set(get_args(Verdict))


@pytest.mark.parametrize("rule", RULES)
def test_what_failed_or_was_not_measured_cannot_be_told(rule: str) -> None:
    needed = roles(rule)
    failed = conclude(rule, dict.fromkeys(needed))
    assert failed.verdict == "cannot be told"
    assert failed.evidence == f"stage failed: {', '.join(needed)}"
    assert conclude(rule, dict.fromkeys(needed, Measured())).verdict == "cannot be told"


def test_the_evidence_names_every_attack_with_interval_and_number() -> None:
    evidence = conclude("robust_after_defense", defended((95, 60))).evidence
    assert "fgsm 0.25 95.00 [93.5, 96.2] % (n = 1,000), pgd 0.25 60.00" in evidence
    assert "transfer fgsm 0.25 98.00" in evidence
    assert "clean 99.00" in evidence
    assert "needed 89.0 %" in evidence


@pytest.mark.parametrize(
    ("published", "measured", "verdict"),
    [
        (0.9902, (0.990, 0.988, 0.992), "confirmed"),  # within the interval
        (0.1185, (0.25, 0.10, 0.40), "confirmed"),  # within it, though far from the value
        (0.98, (0.990, 0.988, 0.992), "confirmed"),  # outside, but a point away
        (0.979, (0.990, 0.988, 0.992), "differs"),
        (0.1185, (0.20, 0.19, 0.21), "differs"),
    ],
)
def test_a_figure_is_confirmed_within_its_interval_or_a_point(
    published: float, measured: tuple[float, float, float], verdict: str
) -> None:
    assert judge(published, *measured) == verdict


def test_another_tolerance() -> None:
    assert judge(1.24, 1.33, 1.33, 1.33, tolerance=0.1) == "confirmed"
    assert judge(0, 1, 1, 1, tolerance=0) == "differs"
