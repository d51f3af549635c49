"""What doubts mean together: the verdict, the attacks that count, and the notes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gauntlet.attacks import Fab, Pgd
from gauntlet.evaluation.clean import share
from gauntlet.evaluation.outcome import Attacked
from gauntlet.validity.evidence import Doubt, Evaluation
from gauntlet.validity.notes import half_width, notes
from gauntlet.validity.probes import Probes
from gauntlet.validity.verdicts import doubts, verdict, verdict_of
from tests.gauntlet.validity.judging import (
    APGD,
    FGSM,
    HIDDEN,
    L2,
    PGD,
    SOUND,
    SQUARE,
    TRANSFER,
    UNIFORM,
    N,
    attacked,
    evidence,
    retry,
)


def test_sound_evidence_raises_no_doubt() -> None:
    assert doubts(SOUND) == []
    assert verdict(doubts(SOUND)) == ("VALID", ())


def test_the_worst_doubt_is_the_verdict_and_all_reasons_are_kept() -> None:
    raised = [Doubt("SUSPECT", "a"), Doubt("INVALID", "b"), Doubt("SUSPECT", "c"), Doubt("SUSPECT", "a")]
    assert verdict(raised) == ("INVALID", ("a", "b", "c"))
    assert verdict(raised[::2]) == ("SUSPECT", ("a", "c"))


def test_doubts_of_all_checks_are_gathered_and_know_their_check() -> None:
    raised = doubts(evidence(attacked(FGSM, 0.5, 90, linf=0.0), zero_gradients=1.0))
    checks = ["no_perturbation", "masked_gradients", "single_step_only", "survives_half_range"]
    assert [doubt.check for doubt in raised] == checks
    assert verdict(raised)[0] == "INVALID"


def test_a_result_answers_for_its_own_doubts_and_those_about_all() -> None:
    good, bad = attacked(PGD, 0.1, 40), attacked(PGD, 0.5, 40)
    raised = doubts(evidence(good, bad))
    assert verdict_of(good, raised) == ("VALID", ())
    assert verdict_of(bad, raised) == ("SUSPECT", ("pgd at 0.5 leaves 40.0 %, above chance",))
    raised = doubts(evidence(good, bad, zero_gradients=1.0))
    assert verdict_of(good, raised)[0] == "SUSPECT"
    assert len(verdict_of(bad, raised)[1]) == 2


def test_a_doubted_attack_does_not_count_when_another_vouches_for_the_budget() -> None:
    """FGSM-trained models withstand large FGSM steps better than small ones, and PGD not at all."""
    overfitted = (attacked(FGSM, 0.1, 40), attacked(FGSM, 0.2, 80), attacked(PGD, 0.1, 30), attacked(PGD, 0.2, 0))
    raised = doubts(evidence(*overfitted))
    assert verdict(raised) == ("VALID", ())
    assert [verdict_of(result, raised)[0] for result in overfitted] == ["VALID", "SUSPECT", "VALID", "VALID"]


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
    raised = doubts(evidence(attacked(UNIFORM, 0.1, 50), attacked(PGD, 0.1, 60), *others))
    assert "noise-uniform breaks 10 of 100 images that pgd at 0.1 leaves" in verdict(raised)[1]


def test_a_broken_budget_counts_whoever_vouches() -> None:
    raised = doubts(evidence(attacked(PGD, 0.1, 50, linf=0.2), attacked(APGD, 0.1, 50)))
    assert verdict(raised)[0] == "INVALID"
    assert verdict_of(attacked(APGD, 0.1, 50), raised) == ("VALID", ())


def test_a_transfer_that_changed_nothing_is_no_doubt_of_what_stands_beside_it() -> None:
    dead = attacked(PGD, 0.1, 90, linf=0.0, **TRANSFER)
    assert verdict(doubts(evidence(dead, attacked(PGD, 0.1, 50))))[0] == "VALID"
    assert verdict(doubts(evidence(dead)))[0] == "INVALID"


def test_what_shows_at_several_budgets_is_told_once() -> None:
    pairs = [(attacked(UNIFORM, e, 50), attacked(PGD, e, 90 - 100 * e)) for e in (0.2, 0.1, 0.05)]  # type: ignore[arg-type]
    raised = doubts(evidence(*(result for pair in pairs for result in pair)))
    assert verdict(raised)[1] == ("noise-uniform breaks 20 of 100 images that pgd at 0.2 leaves",)
    assert len([doubt for doubt in raised if doubt.whole]) == 3


def test_the_worst_case_rests_on_no_attack_that_converges_later() -> None:
    """Twice the steps are tried on what all attacks left: nobody vouches for that."""
    found = "with twice the steps pgd breaks 30 of 100 images left at 0.1: 15.0 points, not converged"
    ends = {None: "2 times twice as many steps each break still more"}
    ends |= {Pgd(max_iter=160): "the battery is too weak, pgd:max_iter=160 is enough"}
    for enough, end in ends.items():
        again = Probes(stronger=(retry(100, 30, 0.5, enough=enough),))
        raised = doubts(Evaluation([attacked(PGD, 0.1, 50), attacked(Fab(), 0.1, 50)], 10, again))
        assert verdict(raised) == ("SUSPECT", (f"{found}; {end}",))
        assert [doubt.advice for doubt in raised] == [enough]


def test_few_images_hidden_gradients_and_a_rising_loss_are_noted() -> None:
    assert notes(SOUND) == ["n = 100: intervals are ±9.6 points; smaller differences are not significant"]
    assert notes(evidence()) == []
    hidden = evidence(attacked(SQUARE, 0.1, 0, **HIDDEN))
    assert notes(hidden) == ["the model hides its gradients: an attacker who has them may do better"]
    rising = evidence(stronger=(retry(100, 0, 0.5, rise=0.24), retry(100, 0, 0.5, rise=0.1), retry(100, 0, 0.5)))
    assert notes(rising)[0] == "pgd at 0.1: the loss of the images left rises by another 24 % with twice the steps"
    assert sum("rises" in note for note in notes(rising)) == 1


def test_what_a_probe_can_neither_show_nor_exclude_is_said() -> None:
    raised = evidence(
        zero_gradients=16 / 256,
        unbounded=2 / 384,
        stronger=(retry(128, 2, 0.5), retry(128, 40, 0.5)),
        square=(retry(64, 0, 0.5, SQUARE),),
    )
    more = "images left at 0.1; up to 2.8 points may be lost"
    assert notes(raised) == [
        "undecided: no loss gradient on 6.2 % [3.9, 9.9] of 256 images; the limit is 5 %",
        "undecided: without a bound 0.5 % [0.1, 1.9] of 384 images are left; the limit is 1 %",
        f"undecided: with twice the steps pgd breaks 2 of 128 {more}",
        f"undecided: in a short search square breaks 0 of 64 {more}",
    ]
    assert {doubt.check for doubt in doubts(raised)} == {"not_converged"}
    assert notes(evidence(unbounded=0.0, stronger=(retry(384, 0, 0.5),), square=(retry(1_000, 0, 0.5, SQUARE),))) == []


def test_undecided_probes_leave_an_honest_model_valid() -> None:
    """Nothing was found, and nothing could be excluded: the sample is too small, not the model in doubt."""
    honest = Probes(stronger=(retry(128, 0, 0.9),), square=(retry(64, 0, 0.9, SQUARE),), unbounded=0.0)
    raised = replace(SOUND, probes=honest)
    assert verdict(doubts(raised)) == ("VALID", ())
    assert sum(note.startswith("undecided: ") for note in notes(raised)) == 2


def test_half_the_interval_is_in_points() -> None:
    measured = share(np.arange(50) < 25, model="m", condition="pgd")
    assert half_width(measured) == pytest.approx(13.4, abs=0.1)
    assert half_width(measured.model_copy(update={"low": 0.4, "high": 0.6})) == pytest.approx(10)


def test_a_norm_is_told_with_its_budget() -> None:
    result = replace(attacked(L2, 1.5, 50), linf=np.zeros(N))
    assert doubts(Evaluation([result], 10))[0].reason == "pgd at L2 1.5 changed no pixel of any image"
