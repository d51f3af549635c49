"""Every check of an evaluation: a case that raises it, and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gauntlet.attacks import Fgsm
from gauntlet.certify import Smoothing
from gauntlet.validity.checks import CHECKS
from gauntlet.validity.evidence import Evaluation
from gauntlet.validity.planted import Planted
from tests.gauntlet.validity.judging import (
    APGD,
    BLIND,
    DLR,
    FGSM,
    HIDDEN,
    L2,
    NOISE,
    PGD,
    SOUND,
    SQUARE,
    TRANSFER,
    UNIFORM,
    N,
    attacked,
    cascade,
    disproven,
    evidence,
    followed,
    proven,
    retry,
)

# check: {why: (evidence, the verdict that it must raise, or None)}
CASES: dict[str, dict[str, tuple[Evaluation, str | None]]] = {
    "budget_broken": {
        "too far": (evidence(attacked(PGD, 0.1, 50, linf=0.11)), "INVALID"),
        "not finite": (evidence(attacked(PGD, 0.1, 50, linf=float("nan"))), "INVALID"),
        "too far in L2": (evidence(attacked(L2, 1.0, 50, linf=1.1)), "INVALID"),
        "outside the bounds": (evidence(attacked(PGD, 0.1, 50, pixels=1.01)), "INVALID"),
        "no number": (evidence(attacked(PGD, 0.1, 50, pixels=float("nan"))), "INVALID"),
        "rounding": (evidence(attacked(PGD, 0.1, 50, linf=0.1 + 5e-6)), None),
        "noise has no budget": (evidence(attacked(NOISE, 0.1, 50, linf=0.4)), None),
        "nor has what none can measure": (evidence(attacked(PGD.model_copy(update={"norm": "1"}), 3, 50)), None),
    },
    "no_perturbation": {
        "nothing changed": (evidence(attacked(PGD, 0.1, 90, linf=0.0)), "INVALID"),
        "one image changed": (SOUND, None),
        "noise is no adversary": (evidence(attacked(NOISE, 0.1, 90, linf=0.0)), None),
        "a cascade left two": (evidence(attacked(PGD, 0.1, 2, linf=0.0, tried=2)), None),
        "a cascade left three": (evidence(attacked(PGD, 0.1, 3, linf=0.0, tried=3)), "INVALID"),
    },
    "rises_with_budget": {
        "won back": (evidence(attacked(PGD, 0.1, 40), attacked(PGD, 0.2, 45)), "SUSPECT"),
        "won back later": (
            evidence(*(attacked(PGD, e, n) for e, n in ((0.1, 40), (0.2, 10), (0.3, 20)))),
            "SUSPECT",
        ),
        "in any order": (evidence(attacked(PGD, 0.2, 45), attacked(PGD, 0.1, 40)), "SUSPECT"),
        "a black box": (evidence(attacked(SQUARE, 0.1, 40, **HIDDEN), attacked(SQUARE, 0.2, 45, **HIDDEN)), "SUSPECT"),
        "a cascade": (evidence(*cascade(0.1, 60, 20), *cascade(0.2, 50, 30)), "SUSPECT"),
        "a cascade that falls": (evidence(*cascade(0.1, 60, 30), *cascade(0.2, 50, 20)), None),
        "two images": (evidence(attacked(PGD, 0.1, 40), attacked(PGD, 0.2, 42)), None),
        "two attacks": (evidence(attacked(PGD, 0.1, 40), attacked(FGSM, 0.1, 70), attacked(FGSM, 0.2, 40)), None),
        "another norm": (evidence(attacked(Fgsm(norm="2"), 0.1, 40), attacked(FGSM, 0.2, 60)), None),
        "other images": (evidence(attacked(PGD, 0.1, 40), attacked(PGD, 0.2, 60, start=N)), None),
        "transfer": (evidence(*(attacked(PGD, e, n, **TRANSFER) for e, n in ((0.1, 40), (0.2, 60)))), None),
    },
    "survives_half_range": {
        "above chance": (evidence(attacked(PGD, 0.5, 40)), "SUSPECT"),
        "above chance when probed": (evidence(half_range=0.4, sample=64), "SUSPECT"),
        "within chance": (evidence(attacked(PGD, 0.5, 15), half_range=0.2, sample=64), None),
        "smaller budget": (evidence(attacked(PGD, 0.3, 40)), None),
        "L2": (evidence(attacked(L2, 0.5, 40)), None),
        "noise is no adversary": (evidence(attacked(NOISE, 0.5, 90)), None),
    },
    "survives_unbounded": {
        "three images": (evidence(unbounded=3 / 64, sample=64), "SUSPECT"),
        "two images": (evidence(unbounded=2 / 64, sample=64), None),
        "surely over 1 %": (evidence(unbounded=8 / 384), "SUSPECT"),
        "perhaps over 1 %": (evidence(unbounded=7 / 384), None),
        "not probed": (evidence(), None),
    },
    "weaker_than_single_step": {
        "many steps do worse": (evidence(attacked(FGSM, 0.1, 50), attacked(PGD, 0.1, 60)), "SUSPECT"),
        "many steps do better": (SOUND, None),
        "two images": (evidence(attacked(FGSM, 0.1, 50), attacked(PGD, 0.1, 52)), None),
        "no gradients": (evidence(attacked(FGSM, 0.1, 50), attacked(SQUARE, 0.1, 90)), None),
        "another budget": (evidence(attacked(FGSM, 0.2, 50), attacked(PGD, 0.1, 60)), None),
        "another norm": (evidence(attacked(FGSM, 1.0, 50), attacked(L2, 1.0, 60)), None),
        "no image in common": (evidence(attacked(FGSM, 0.1, 50), attacked(PGD, 0.1, 60, start=N)), None),
        # FGSM withstood 50 to 99 of its 50 to 149: none of those that PGD withstood are among them
        "on the images both saw": (evidence(attacked(FGSM, 0.1, 50, start=50), attacked(PGD, 0.1, 60)), None),
        # of 0 to 99, FGSM breaks the first ten, PGD the others: image by image, not in the mean
        "as many, other images": (evidence(attacked(FGSM, 0.1, 0, start=90), attacked(PGD, 0.1, 95)), "SUSPECT"),
    },
    "weaker_than_black_box": {
        "gradients do worse": (evidence(attacked(BLIND, 0.1, 50), attacked(PGD, 0.1, 60)), "SUSPECT"),
        "gradients do better": (evidence(attacked(BLIND, 0.1, 60), attacked(PGD, 0.1, 50)), None),
        "one step may": (evidence(attacked(BLIND, 0.1, 50), attacked(FGSM, 0.1, 60)), None),
        "square has a check of its own": (evidence(attacked(SQUARE, 0.1, 50), attacked(PGD, 0.1, 60)), None),
    },
    "weaker_than_transfer": {
        "another's gradients do better": (
            evidence(attacked(FGSM, 0.1, 50, **TRANSFER), attacked(PGD, 0.1, 60)),
            "SUSPECT",
        ),
        "the same attack": (evidence(attacked(PGD, 0.1, 50, **TRANSFER), attacked(PGD, 0.1, 60)), "SUSPECT"),
        "its own do better": (evidence(attacked(PGD, 0.1, 60, **TRANSFER), attacked(PGD, 0.1, 50)), None),
        "square has no gradients": (evidence(attacked(PGD, 0.1, 50, **TRANSFER), attacked(SQUARE, 0.1, 60)), None),
    },
    "weaker_than_noise": {
        "noise does better": (evidence(attacked(UNIFORM, 0.1, 50), attacked(PGD, 0.1, 53)), "SUSPECT"),
        "than a black-box attack": (
            evidence(attacked(UNIFORM, 0.1, 50, **HIDDEN), attacked(SQUARE, 0.1, 60, **HIDDEN)),
            "SUSPECT",
        ),
        "two images": (evidence(attacked(UNIFORM, 0.1, 50), attacked(PGD, 0.1, 52)), None),
        "another budget": (evidence(attacked(NOISE, 0.1, 50), attacked(PGD, 0.1, 60)), None),
        "the last of a cascade stands for all": (
            evidence(attacked(UNIFORM, 0.1, 50), *cascade(0.1, 50, 40), attacked(APGD, 0.1, 30, tried=40)),
            None,
        ),
    },
    "improved_by_square": {
        "three images": (evidence(attacked(PGD, 0.1, 50), attacked(SQUARE, 0.1, 47)), "SUSPECT"),
        "two images": (evidence(attacked(PGD, 0.1, 50), attacked(SQUARE, 0.1, 48)), None),
        "another gradient attack has them": (
            evidence(attacked(PGD, 0.1, 50), attacked(APGD, 0.1, 47), attacked(SQUARE, 0.1, 47)),
            None,
        ),
        "in a cascade": (evidence(attacked(PGD, 0.1, 50), attacked(SQUARE, 0.1, 40, tried=50)), "SUSPECT"),
        "no gradient attack": (evidence(attacked(SQUARE, 0.1, 47)), None),
        "other images": (evidence(attacked(PGD, 0.1, 50), attacked(SQUARE, 0.1, 47, start=N)), None),
        "probed": (evidence(square=(retry(64, 3, 0.5, SQUARE),)), "SUSPECT"),
        "probed, two images": (evidence(square=(retry(64, 2, 0.5, SQUARE),)), None),
        "probed, few left": (evidence(square=(retry(64, 3, 0.12, SQUARE),)), None),
        "probed, more of few left": (evidence(square=(retry(64, 4, 0.12, SQUARE),)), "SUSPECT"),
    },
    "at_chance": {
        "guessing": (evidence(at_chance=0.1), "INVALID"),
        "knowing nothing right": (evidence(at_chance=0.0), "INVALID"),
        "knowing": (SOUND, None),
    },
    "other_range": {
        "0 to 255": (evidence(better_range="0..255"), "INVALID"),
        "as stated": (SOUND, None),
    },
    "masked_gradients": {
        "zero gradients": (evidence(zero_gradients=20 / 256), "SUSPECT"),
        "perhaps too many": (evidence(zero_gradients=19 / 256), None),
        "few zero gradients": (evidence(zero_gradients=0.05), None),
        "lost in rounding": (evidence(faint=150 / 256), "SUSPECT"),
        "perhaps too many of those": (evidence(faint=140 / 256), None),
        "probabilities": (evidence(probabilities=True), "SUSPECT"),
        "log probabilities": (evidence(logs=True), "SUSPECT"),
    },
    "false_gradients": {
        "detached": (evidence(detached=20 / 256), "SUSPECT"),
        "disagreeing": (evidence(disagreeing=20 / 256), "SUSPECT"),
        "perhaps": (evidence(detached=19 / 256, disagreeing=19 / 256), None),
        "of few images": (evidence(detached=2 / 20, looked=20), None),
    },
    "random_model": {
        "one image differs": (evidence(disagreement=0.01), "SUSPECT"),
        "averaged over": (evidence(disagreement=0.5, expectation=True), None),
        "none differs": (SOUND, None),
    },
    "not_converged": {
        "surely": (evidence(stronger=(retry(128, 8, 0.5),)), "SUSPECT"),
        "perhaps": (evidence(stronger=(retry(128, 3, 0.5),)), None),
        "of next to nothing": (evidence(stronger=(retry(16, 16, 0.01),)), None),
        "nothing more": (evidence(stronger=(retry(128, 0, 0.9),)), None),
        "by another loss": (evidence(stronger=(retry(128, 0, 0.5), retry(64, 8, 0.5, DLR))), "SUSPECT"),
        "little by another loss": (evidence(stronger=(retry(128, 0, 0.5), retry(64, 7, 0.5, DLR))), None),
    },
    "single_step_only": {
        "FGSM alone": (evidence(attacked(FGSM, 0.1, 50), attacked(NOISE, 0.1, 90)), "SUSPECT"),
        "FGSM and Square": (evidence(attacked(FGSM, 0.1, 50), attacked(SQUARE, 0.1, 90)), "SUSPECT"),
        "PGD too": (SOUND, None),
        "Square on a black box": (evidence(attacked(SQUARE, 0.1, 50, **HIDDEN)), None),
        "noise alone": (evidence(attacked(NOISE, 0.1, 90)), None),
    },
    "transfer_only": {
        "transfer alone": (evidence(attacked(PGD, 0.1, 50, **TRANSFER)), "SUSPECT"),
        "white-box too": (evidence(attacked(PGD, 0.1, 50, **TRANSFER), attacked(PGD, 0.1, 20)), None),
        "a black box": (evidence(attacked(SQUARE, 0.1, 50, **HIDDEN)), None),
        "nothing at all": (evidence(), None),
    },
    "misses_planted": {
        "surely over a tenth": (evidence(planted=(Planted("inf", 0.1, 48, 20),)), "SUSPECT"),
        "perhaps over a tenth": (evidence(planted=(Planted("inf", 0.1, 48, 6),)), None),
        "none": (evidence(planted=(Planted("inf", 0.1, 48, 0),)), None),
        "not tried": (SOUND, None),
    },
    "misses_counterexamples": {
        "many": (replace(evidence(attacked(PGD, 0.1, 50)), **disproven(50)), "SUSPECT"),
        "a few": (replace(evidence(attacked(PGD, 0.1, 50)), **disproven(2)), None),
        "one attack leaves them, another does not": (
            replace(evidence(attacked(PGD, 0.1, 50), attacked(FGSM, 0.1, 0)), **disproven(50)),
            None,
        ),
        "of a larger budget": (replace(evidence(attacked(PGD, 0.1, 50)), **disproven(50, eps=0.2)), None),
        "nothing broken": (replace(evidence(attacked(PGD, 0.1, 50)), **disproven(0)), None),
    },
    "unstable": {
        "surely over 5 %": (evidence(unstable=20 / 256), "SUSPECT"),
        "perhaps": (evidence(unstable=19 / 256), None),
    },
    "silent_success": {
        "surely over 5 %": (evidence(followed=(followed(silent=4),)), "SUSPECT"),
        "perhaps": (evidence(followed=(followed(silent=3),)), None),
    },
    "incomplete": {
        "on their way": (evidence(followed=(followed(rising=3),)), "SUSPECT"),
        "perhaps": (evidence(followed=(followed(rising=1),)), None),
        "few are left": (evidence(followed=(followed(rising=3, robust=0.02),)), None),
        "tried": (evidence(followed=(followed(rising=24),), stronger=(retry(100, 0, 0.5),)), None),
    },
    "breaks_a_proof": {
        "one more than is broken": (replace(evidence(attacked(PGD, 0.1, 50)), **proven(51)), "INVALID"),
        "within a smaller budget": (replace(evidence(attacked(PGD, 0.05, 50)), **proven(51)), "INVALID"),
        "by noise": (replace(evidence(attacked(UNIFORM, 0.1, 50)), **proven(51)), "INVALID"),
        "by a transfer": (replace(evidence(attacked(PGD, 0.1, 50, **TRANSFER)), **proven(51)), "INVALID"),
        "none of those": (replace(evidence(attacked(PGD, 0.1, 50)), **proven(50)), None),
        "in a larger budget": (replace(evidence(attacked(PGD, 0.2, 50)), **proven(51)), None),
        "in another norm": (replace(evidence(attacked(L2, 0.1, 50)), **proven(51)), None),
        "of the smoothed model": (replace(evidence(attacked(L2, 0.1, 50)), **proven(51, certifier=Smoothing())), None),
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
def test_a_check_is_raised_when_it_should_be(name: str, found: Evaluation, expected: str | None) -> None:
    raised = list(NAMED[name](found))
    assert {doubt.verdict for doubt in raised} == ({expected} if expected else set())
    assert all(doubt.reason for doubt in raised)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_check_says_why_in_its_docstring(check: Callable[..., Any]) -> None:
    assert "Raised if" in (check.__doc__ or "")
    assert "(" in (check.__doc__ or ""), "names no source"
