"""May a number be believed? Every check, on results made up to raise it and on results that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gauntlet.attacks import Attack, Fgsm, GaussianNoise, Pgd
from gauntlet.evaluation import Attacked, Knowledge
from gauntlet.validity import CHECKS, Doubt, Evidence, doubts, verdict, verdict_of

N = 100


def attacked(
    attack: Attack,
    eps: float,
    robust: int,
    *,
    knowledge: Knowledge = "white-box",
    linf: float = 0.1,
    start: int = 0,
) -> Attacked:
    """A result on N images from number `start` on, of which the first `robust` were withstood."""
    labels = np.zeros(N, np.int64)
    predictions = (np.arange(N) >= robust).astype(np.int64)
    sizes = np.full(N, linf)
    images = np.zeros((N, 1, 1, 1), np.float32)
    index = np.arange(start, start + N)
    return Attacked(attack, eps, knowledge, index, labels, labels, predictions, sizes, sizes, 0.0, images)


def evidence(*results: Attacked, **facts: Any) -> Evidence:
    return Evidence(results, n_classes=10, **facts)


FGSM, PGD, NOISE = Fgsm(), Pgd(), GaussianNoise()
SOUND = evidence(attacked(FGSM, 0.1, 60), attacked(PGD, 0.1, 50), attacked(FGSM, 0.2, 30), attacked(PGD, 0.2, 20))

# check: {why: (evidence, the verdict that it must raise, or None)}
CASES: dict[str, dict[str, tuple[Evidence, str | None]]] = {
    "no_perturbation": {
        "nothing changed": (evidence(attacked(PGD, 0.1, 90, linf=0.0)), "INVALID"),
        "one image changed": (SOUND, None),
        "noise is no adversary": (evidence(attacked(NOISE, 0.1, 90, linf=0.0)), None),
    },
    "rises_with_budget": {
        "won back": (evidence(attacked(PGD, 0.1, 40), attacked(PGD, 0.2, 45)), "SUSPECT"),
        "won back later": (
            evidence(*(attacked(PGD, e, n) for e, n in ((0.1, 40), (0.2, 10), (0.3, 20)))),
            "SUSPECT",
        ),
        "in any order": (evidence(attacked(PGD, 0.2, 45), attacked(PGD, 0.1, 40)), "SUSPECT"),
        "one point": (evidence(attacked(PGD, 0.1, 40), attacked(PGD, 0.2, 41)), None),
        "another attack": (evidence(attacked(PGD, 0.1, 40), attacked(FGSM, 0.2, 60)), None),
        "another norm": (evidence(attacked(Fgsm(norm="2"), 0.1, 40), attacked(FGSM, 0.2, 60)), None),
        "transfer": (
            evidence(*(attacked(PGD, e, n, knowledge="transfer") for e, n in ((0.1, 40), (0.2, 60)))),
            None,
        ),
    },
    "weaker_than_single_step": {
        "many steps do worse": (evidence(attacked(FGSM, 0.1, 50), attacked(PGD, 0.1, 60)), "SUSPECT"),
        "many steps do better": (SOUND, None),
        "one point": (evidence(attacked(FGSM, 0.1, 50), attacked(PGD, 0.1, 51)), None),
        "another budget": (evidence(attacked(FGSM, 0.2, 50), attacked(PGD, 0.1, 60)), None),
        "another norm": (evidence(attacked(FGSM, 1.0, 50), attacked(Pgd(norm="2"), 1.0, 60)), None),
        "no image in common": (evidence(attacked(FGSM, 0.1, 50), attacked(PGD, 0.1, 60, start=N)), None),
        # FGSM withstood 50 to 99 of its 50 to 149: none of those that PGD withstood are among them
        "on the images both saw": (evidence(attacked(FGSM, 0.1, 50, start=50), attacked(PGD, 0.1, 60)), None),
    },
    "survives_half_range": {
        "above chance": (evidence(attacked(PGD, 0.5, 40)), "SUSPECT"),
        "within chance": (evidence(attacked(PGD, 0.5, 15)), None),
        "smaller budget": (evidence(attacked(PGD, 0.3, 40)), None),
        "L2": (evidence(attacked(Pgd(norm="2"), 0.5, 40)), None),
        "noise is no adversary": (evidence(attacked(NOISE, 0.5, 90)), None),
    },
    "masked_gradients": {
        "zero gradients": (evidence(zero_gradients=0.06), "SUSPECT"),
        "few zero gradients": (evidence(zero_gradients=0.05), None),
        "log probabilities": (evidence(log_probabilities=True), "SUSPECT"),
    },
    "single_step_only": {
        "FGSM alone": (evidence(attacked(FGSM, 0.1, 50), attacked(NOISE, 0.1, 90)), "SUSPECT"),
        "PGD too": (SOUND, None),
        "noise alone": (evidence(attacked(NOISE, 0.1, 90)), None),
    },
    "transfer_only": {
        "transfer alone": (evidence(attacked(PGD, 0.1, 50, knowledge="transfer")), "SUSPECT"),
        "white-box too": (
            evidence(attacked(PGD, 0.1, 50, knowledge="transfer"), attacked(PGD, 0.1, 20)),
            None,
        ),
        "nothing at all": (evidence(), None),
    },
}
TABLE = [(name, *case) for name, cases in CASES.items() for case in cases.values()]
NAMED = {check.__name__: check for check in CHECKS}


def test_every_check_has_a_case_that_raises_it_and_one_that_does_not() -> None:
    assert set(CASES) == set(NAMED)
    for cases in CASES.values():
        verdicts = {expected for _, expected in cases.values()}
        assert None in verdicts
        assert len(verdicts) > 1


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    TABLE,
    ids=[f"{name}-{why}" for name, cases in CASES.items() for why in cases],
)
def test_a_check_is_raised_when_it_should_be(name: str, found: Evidence, expected: str | None) -> None:
    raised = list(NAMED[name](found))
    assert [doubt.verdict for doubt in raised] == ([expected] if expected else [])
    assert all(doubt.reason for doubt in raised)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_check_says_why_in_its_docstring(check: Callable[..., Any]) -> None:
    assert "Raised if" in (check.__doc__ or "")


def test_sound_evidence_raises_no_doubt() -> None:
    assert doubts(SOUND) == []
    assert verdict(doubts(SOUND)) == ("VALID", ())


def test_the_worst_doubt_is_the_verdict_and_all_reasons_are_kept() -> None:
    found = [Doubt("SUSPECT", "a"), Doubt("INVALID", "b"), Doubt("SUSPECT", "c")]
    assert verdict(found) == ("INVALID", ("a", "b", "c"))
    assert verdict(found[::2]) == ("SUSPECT", ("a", "c"))


def test_doubts_of_all_checks_are_gathered() -> None:
    found = doubts(evidence(attacked(FGSM, 0.5, 90, linf=0.0), zero_gradients=1.0))
    assert [doubt.verdict for doubt in found] == ["INVALID", "SUSPECT", "SUSPECT", "SUSPECT"]


def test_a_result_answers_for_its_own_doubts_only() -> None:
    good, bad = attacked(PGD, 0.1, 40), attacked(PGD, 0.5, 40)
    found = doubts(evidence(good, bad, zero_gradients=1.0))
    assert verdict_of(good, found) == ("VALID", ())
    assert verdict_of(bad, found)[0] == "SUSPECT"
    assert verdict_of(bad, found)[1] == ("pgd at 0.5 leaves 40.0 %, above chance",)
