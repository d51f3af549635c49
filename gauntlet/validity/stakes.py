"""Where an evaluation has something to lose: the budgets at which images are left, and the results that left them."""

from __future__ import annotations

from collections.abc import Sequence

from gauntlet.evaluation.outcome import Attacked, WorstCase, worst_case

LEAST = 16
"""Images with fewer of which a further attack says nothing."""


def at_stake(results: Sequence[Attacked]) -> list[WorstCase]:
    """For each norm the white-box worst case at the largest budget that leaves a tenth, else at the one leaving most.

    Without those that leave too few images to say anything.
    """
    cases = worst_case([result for result in results if result.knowledge == "white-box"])
    conditions = []
    for norm in dict.fromkeys(case.norm for case in cases):
        here = [case for case in cases if case.norm == norm]
        many = [case for case in here if case.robust.mean() >= 0.1 and case.robust.sum() >= LEAST]
        best = many[-1] if many else max(here, key=lambda case: case.robust.sum())
        conditions += [best] if best.robust.sum() >= LEAST else []
    return conditions


def mine(case: WorstCase, results: Sequence[Attacked]) -> list[Attacked]:
    """The results that a worst case is of."""
    here = [r for r in results if (r.attack.norm, r.eps) == (case.norm, case.eps)]
    return [r for r in here if r.attack.adversary and r.knowledge == "white-box"]
