"""From doubts to a verdict: which of them count for the whole evaluation, and what the worst of them says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gauntlet.evaluation.outcome import Attacked
from gauntlet.validity.checks import CHECKS
from gauntlet.validity.evidence import ORDER, Doubt, Evaluation, Validity, direct, key, setting
from gauntlet.validity.searched import searches


def doubts(evidence: Evaluation) -> list[Doubt]:
    """All doubts of all checks, each with its check and whether it counts for the whole evaluation.

    One about a single result does not when another attack vouches for that norm and budget: it is iterative, knows as
    much, and is itself without doubt; the worst case then rests on that one, as it does on a search where a model has
    no gradients. Nor does one about a transfer beside it.
    """
    doubts_raised = [replace(doubt, check=check.__name__) for check in CHECKS for doubt in check(evidence)]
    decided = [
        _whole(doubt, doubts_raised, evidence) if doubt.whole is None else doubt.whole for doubt in doubts_raised
    ]
    return [replace(doubt, whole=whole) for doubt, whole in zip(doubts_raised, decided, strict=True)]


def _whole(doubt: Doubt, raised: Sequence[Doubt], evidence: Evaluation) -> bool:
    if doubt.about is None:
        return True
    if doubt.about[2] == "transfer" and direct(evidence.results):
        return False
    doubted, (attack, eps, knowledge) = {other.about for other in raised}, doubt.about
    alike = [r for r in evidence.results if (setting(r), r.knowledge) == ((attack.norm, eps), knowledge)]
    able = [r for r in alike if r.attack.adversary and r.attack.iterative and r.attack.access == attack.access]
    able += searches(alike) if evidence.rests_on_search else []
    return all(key(result) in doubted for result in able)


def verdict(raised: Iterable[Doubt]) -> tuple[Validity, tuple[str, ...]]:
    """The worst verdict among the doubts that count for the whole, VALID when there are none, and their reasons.

    A finding about one attack at several budgets is reported once, for the largest.
    """
    counted = [doubt for doubt in raised if doubt.whole is not False]
    largest = {(d.check, d.about[0], d.about[2]) if d.about else d.reason: d for d in sorted(counted, key=_eps)}
    return _worst(counted), tuple(dict.fromkeys(d.reason for d in counted if d in largest.values()))


def verdict_of(result: Attacked, raised: Iterable[Doubt]) -> tuple[Validity, tuple[str, ...]]:
    """The verdict of one result: the doubts about it and those about all."""
    mine = [doubt for doubt in raised if doubt.about in (None, key(result))]
    return _worst(mine), tuple(dict.fromkeys(doubt.reason for doubt in mine))


def _eps(doubt: Doubt) -> float:
    return doubt.about[1] if doubt.about else 0.0


def _worst(raised: Sequence[Doubt]) -> Validity:
    return max((doubt.verdict for doubt in raised), key=ORDER.index, default=ORDER[0])
