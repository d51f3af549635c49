"""May a number be believed? Every check, on results made up to raise it and on results that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from gauntlet.attacks import ApgdCe, ApgdDlr, Attack, Fab, Fgsm, GaussianNoise, Pgd, Square, UniformNoise
from gauntlet.certify import Certified, Certifier, Exact, Interval, Smoothing
from gauntlet.evaluation.clean import share
from gauntlet.evaluation.outcome import Attacked, Knowledge
from gauntlet.models.access import Access
from gauntlet.validity.checks import CHECKS
from gauntlet.validity.evidence import Doubt, Evaluation
from gauntlet.validity.notes import half_width, notes
from gauntlet.validity.paths import Followed
from gauntlet.validity.planted import Planted
from gauntlet.validity.probes import Probes, Retry
from gauntlet.validity.verdicts import doubts, verdict, verdict_of

N = 100


def attacked(
    attack: Attack,
    eps: float,
    robust: int,
    *,
    knowledge: Knowledge = "white-box",
    linf: float | None = None,
    start: int = 0,
    tried: int = N,
    pixels: float = 0.0,
) -> Attacked:
    """A result on N images from number `start` on: the first `robust` were withstood, the first `tried` were tried."""
    nothing, zeros, sizes = np.zeros(N, np.int64), np.zeros(N), np.full(N, eps if linf is None else linf)
    facts: dict[str, Any] = {"attack": attack, "eps": eps, "knowledge": knowledge, "distance": None, "seconds": 0.0}
    facts |= {"labels": nothing, "clean_predictions": nothing, "calls": nothing, "losses": zeros}
    facts |= {"index": np.arange(start, start + N), "predictions": (np.arange(N) >= robust).astype(np.int64)}
    facts |= {"tried": np.arange(N) < tried, "linf": sizes, "l2": sizes}
    return Attacked(**facts, images=np.full((N, 1, 1, 1), pixels, np.float32))


def evidence(*results: Attacked, expectation: bool = False, logs: bool = False, **probes: Any) -> Evaluation:
    return Evaluation(results, 10, Probes(**probes), inverted=logs, expectation=expectation)


def retry(tried: int, broken: int, robust: float, attack: Attack | None = None, **more: Any) -> Retry:
    """`broken` of `tried` images of the share `robust` that PGD left at 0.1."""
    tried_again = attack or PGD.model_copy(update={"max_iter": 2 * PGD.max_iter})
    return Retry(attacked(PGD, 0.1, 50), tried_again, tried, broken, robust, **more)


def followed(silent: int = 0, rising: int = 0, robust: float = 0.5) -> Followed:
    """24 of the images that PGD left at 0.1."""
    return Followed(attacked(PGD, 0.1, 50), 24, silent, rising, robust)


def proven(count: int, eps: float = 0.1, certifier: Certifier | None = None) -> dict[str, Any]:
    """The first `count` of N images are certified."""
    nothing = np.zeros((0, 1, 1, 1), np.float32)
    statuses = np.arange(N) < count, 0.0, np.zeros(N, np.bool_), nothing
    return {"certified": [Certified(certifier or Interval(), eps, np.arange(N), *statuses)]}


def disproven(count: int, eps: float = 0.1) -> dict[str, Any]:
    """An exact search broke the first `count` of N images."""
    broken = np.arange(N) < count
    examples = np.zeros((count, 1, 1, 1), np.float32)
    return {"certified": [Certified(Exact(), eps, np.arange(N), np.zeros(N, np.bool_), 0.0, broken, examples)]}


def cascade(eps: float, single: int, several: int) -> tuple[Attacked, Attacked]:
    """What FGSM leaves at a budget, and PGD of that."""
    return attacked(FGSM, eps, single), attacked(PGD, eps, several, tried=single)


class Blind(Attack):
    """An attack without gradients that is not Square."""

    name: str = "blind"
    norm: str = "inf"
    iterative: ClassVar[bool] = True
    access: ClassVar[Access] = "scores"

    def craft(self, *_: Any) -> Any:
        raise NotImplementedError


FGSM, PGD, APGD, SQUARE, UNIFORM, DLR = Fgsm(), Pgd(), ApgdCe(), Square(), UniformNoise(), ApgdDlr()
NOISE, L2, BLIND = GaussianNoise(), Pgd(norm="2"), Blind()
SOUND = evidence(
    attacked(FGSM, 0.1, 60), attacked(PGD, 0.1, 50), attacked(FGSM, 0.2, 30), attacked(PGD, 0.2, 20), half_range=0.1
)
TRANSFER: dict[str, Any] = {"knowledge": "transfer"}
HIDDEN: dict[str, Any] = {"knowledge": "black-box"}

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


def test_sound_evidence_raises_no_doubt() -> None:
    assert doubts(SOUND) == []
    assert verdict(doubts(SOUND)) == ("VALID", ())


def test_the_worst_doubt_is_the_verdict_and_all_reasons_are_kept() -> None:
    found = [Doubt("SUSPECT", "a"), Doubt("INVALID", "b"), Doubt("SUSPECT", "c"), Doubt("SUSPECT", "a")]
    assert verdict(found) == ("INVALID", ("a", "b", "c"))
    assert verdict(found[::2]) == ("SUSPECT", ("a", "c"))


def test_doubts_of_all_checks_are_gathered_and_know_their_check() -> None:
    found = doubts(evidence(attacked(FGSM, 0.5, 90, linf=0.0), zero_gradients=1.0))
    checks = ["no_perturbation", "masked_gradients", "single_step_only", "survives_half_range"]
    assert [doubt.check for doubt in found] == checks
    assert verdict(found)[0] == "INVALID"


def test_a_result_answers_for_its_own_doubts_and_those_about_all() -> None:
    good, bad = attacked(PGD, 0.1, 40), attacked(PGD, 0.5, 40)
    found = doubts(evidence(good, bad))
    assert verdict_of(good, found) == ("VALID", ())
    assert verdict_of(bad, found) == ("SUSPECT", ("pgd at 0.5 leaves 40.0 %, above chance",))
    found = doubts(evidence(good, bad, zero_gradients=1.0))
    assert verdict_of(good, found)[0] == "SUSPECT"
    assert len(verdict_of(bad, found)[1]) == 2


def test_a_doubted_attack_does_not_count_when_another_vouches_for_the_budget() -> None:
    """FGSM-trained models withstand large FGSM steps better than small ones, and PGD not at all."""
    overfitted = (attacked(FGSM, 0.1, 40), attacked(FGSM, 0.2, 80), attacked(PGD, 0.1, 30), attacked(PGD, 0.2, 0))
    found = doubts(evidence(*overfitted))
    assert verdict(found) == ("VALID", ())
    assert [verdict_of(result, found)[0] for result in overfitted] == ["VALID", "SUSPECT", "VALID", "VALID"]


@pytest.mark.parametrize(
    "others",
    [
        (),
        (attacked(FGSM, 0.1, 50),),  # one step vouches for nothing
        (attacked(APGD, 0.2, 50),),  # another budget
        (attacked(Pgd(norm="2"), 0.1, 50),),
        (attacked(SQUARE, 0.1, 60),),  # nor does who sees no gradients vouch for who does
        (attacked(APGD, 0.1, 50, knowledge="transfer"),),
        (attacked(APGD, 0.1, 60),),  # doubted itself
    ],
)
def test_not_everyone_can_vouch(others: tuple[Attacked, ...]) -> None:
    found = doubts(evidence(attacked(UNIFORM, 0.1, 50), attacked(PGD, 0.1, 60), *others))
    assert "noise-uniform breaks 10 of 100 images that pgd at 0.1 leaves" in verdict(found)[1]


def test_a_broken_budget_counts_whoever_vouches() -> None:
    found = doubts(evidence(attacked(PGD, 0.1, 50, linf=0.2), attacked(APGD, 0.1, 50)))
    assert verdict(found)[0] == "INVALID"
    assert verdict_of(attacked(APGD, 0.1, 50), found) == ("VALID", ())


def test_a_transfer_that_changed_nothing_is_no_doubt_of_what_stands_beside_it() -> None:
    dead = attacked(PGD, 0.1, 90, linf=0.0, **TRANSFER)
    assert verdict(doubts(evidence(dead, attacked(PGD, 0.1, 50))))[0] == "VALID"
    assert verdict(doubts(evidence(dead)))[0] == "INVALID"


def test_what_shows_at_several_budgets_is_told_once() -> None:
    pairs = [(attacked(UNIFORM, e, 50), attacked(PGD, e, 90 - 100 * e)) for e in (0.2, 0.1, 0.05)]  # type: ignore[arg-type]
    found = doubts(evidence(*(result for pair in pairs for result in pair)))
    assert verdict(found)[1] == ("noise-uniform breaks 20 of 100 images that pgd at 0.2 leaves",)
    assert len([doubt for doubt in found if doubt.whole]) == 3


def test_the_worst_case_rests_on_no_attack_that_converges_later() -> None:
    """Twice the steps are tried on what all attacks left: nobody vouches for that."""
    weak = Evaluation([attacked(PGD, 0.1, 50), attacked(Fab(), 0.1, 50)], 10, Probes(stronger=(retry(100, 30, 0.5),)))
    assert verdict(doubts(weak)) == (
        "SUSPECT",
        ("with twice the steps pgd breaks 30 of 100 images left at 0.1: 15.0 points, not converged",),
    )


def test_few_images_hidden_gradients_and_a_rising_loss_are_noted() -> None:
    assert notes(SOUND) == ["n = 100: intervals are ±9.6 points; smaller differences are not significant"]
    assert notes(evidence()) == []
    hidden = evidence(attacked(SQUARE, 0.1, 0, **HIDDEN))
    assert notes(hidden) == ["the model hides its gradients: an attacker who has them may do better"]
    rising = evidence(stronger=(retry(100, 0, 0.5, rise=0.24), retry(100, 0, 0.5, rise=0.1), retry(100, 0, 0.5)))
    assert notes(rising)[0] == "pgd at 0.1: the loss of the images left rises by another 24 % with twice the steps"
    assert sum("rises" in note for note in notes(rising)) == 1


def test_what_a_probe_can_neither_show_nor_exclude_is_said() -> None:
    found = evidence(
        zero_gradients=16 / 256,
        unbounded=2 / 384,
        stronger=(retry(128, 2, 0.5), retry(128, 40, 0.5)),
        square=(retry(64, 0, 0.5, SQUARE),),
    )
    more = "images left at 0.1; up to 2.8 points may be lost"
    assert notes(found) == [
        "undecided: no loss gradient on 6.2 % [3.9, 9.9] of 256 images; the limit is 5 %",
        "undecided: without a bound 0.5 % [0.1, 1.9] of 384 images are left; the limit is 1 %",
        f"undecided: with twice the steps pgd breaks 2 of 128 {more}",
        f"undecided: in a short search square breaks 0 of 64 {more}",
    ]
    assert {doubt.check for doubt in doubts(found)} == {"not_converged"}
    assert notes(evidence(unbounded=0.0, stronger=(retry(384, 0, 0.5),), square=(retry(1_000, 0, 0.5, SQUARE),))) == []


def test_undecided_probes_leave_an_honest_model_valid() -> None:
    """Nothing was found, and nothing could be excluded: the sample is too small, not the model in doubt."""
    honest = Probes(stronger=(retry(128, 0, 0.9),), square=(retry(64, 0, 0.9, SQUARE),), unbounded=0.0)
    found = replace(SOUND, probes=honest)
    assert verdict(doubts(found)) == ("VALID", ())
    assert sum(note.startswith("undecided: ") for note in notes(found)) == 2


def test_half_the_interval_is_in_points() -> None:
    measured = share(np.arange(50) < 25, model="m", condition="pgd")
    assert half_width(measured) == pytest.approx(13.4, abs=0.1)
    assert half_width(measured.model_copy(update={"low": 0.4, "high": 0.6})) == pytest.approx(10)


def test_a_norm_is_told_with_its_budget() -> None:
    result = replace(attacked(L2, 1.5, 50), linf=np.zeros(N))
    assert doubts(Evaluation([result], 10))[0].reason == "pgd at L2 1.5 changed no pixel of any image"
