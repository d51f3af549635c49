"""May this number be believed? VALID, SUSPECT or INVALID, with reasons.

Every check is one small function from the evidence to its doubts; CHECKS lists them. That the perturbation keeps
its budget and bounds is no doubt but a condition: an attack that breaks it fails (`threat.ThreatModel.check`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gauntlet.attacks import Attack
from gauntlet.evaluation import Attacked

Verdict = Literal["VALID", "SUSPECT", "INVALID"]
ORDER: tuple[Verdict, ...] = ("VALID", "SUSPECT", "INVALID")


@dataclass(frozen=True)
class Evidence:
    """What an evaluation left behind."""

    results: Sequence[Attacked]
    n_classes: int
    zero_gradients: float = 0.0
    """Share of images with a zero or non-finite loss gradient."""
    log_probabilities: bool = False
    """Whether the logits are logarithms of probabilities, as no softmax could be removed."""


@dataclass(frozen=True)
class Doubt:
    """A reason not to believe; `about` names the result (attack, eps), or None for the whole evaluation."""

    verdict: Verdict
    reason: str
    about: tuple[Attack, float, str] | None = None


def no_perturbation(evidence: Evidence) -> Iterator[Doubt]:
    """An attack that changes nothing looks like robustness. Raised if no image was changed."""
    for result in evidence.results:
        if result.attack.adversary and not result.linf.any():
            yield Doubt("INVALID", f"{_name(result)} changed no pixel of any image", _key(result))


def rises_with_budget(evidence: Evidence) -> Iterator[Doubt]:
    """A larger budget holds the smaller one (Carlini et al. 2019, section 5). Raised if over 1 point is won back."""
    for larger in _white_box(evidence.results):
        smaller = [r for r in _white_box(evidence.results) if r.attack == larger.attack and r.eps < larger.eps]
        least = min(smaller, key=_mean, default=larger)
        if _mean(larger) > _mean(least) + 0.01:
            reason = f"{_name(larger)} leaves more images correct than at {least.eps:.4g}"
            yield Doubt("SUSPECT", f"{reason}: a stronger attack is needed", _key(larger))


def weaker_than_single_step(evidence: Evidence) -> Iterator[Doubt]:
    """Many steps do no worse than one (Athalye et al. 2018). Raised if over 1 point, on the images both saw."""
    for single, iterative in _pairs(evidence.results):
        if single.eps != iterative.eps or single.attack.iterative or not iterative.attack.iterative:
            continue
        both = np.intersect1d(single.index, iterative.index)
        if not len(both):
            continue
        left, right = (float(r.robust[np.isin(r.index, both)].mean()) for r in (single, iterative))
        if right > left + 0.01:
            reason = f"{_name(iterative)} is weaker than {single.attack.name} on the same images"
            yield Doubt("SUSPECT", f"{reason} ({100 * right:.1f} against {100 * left:.1f} %)", _key(iterative))


def survives_half_range(evidence: Evidence) -> Iterator[Doubt]:
    """At L∞ 0.5 every image can be made grey (Carlini et al. 2019). Raised if accuracy there is above chance."""
    chance = 1 / evidence.n_classes
    for result in _white_box(evidence.results):
        limit = chance + 3 * np.sqrt(chance * (1 - chance) / len(result.index))
        if result.attack.norm == "inf" and result.eps >= 0.5 and _mean(result) > limit:
            yield Doubt("SUSPECT", f"{_name(result)} leaves {100 * _mean(result):.1f} %, above chance", _key(result))


def masked_gradients(evidence: Evidence) -> Iterator[Doubt]:
    """Without a gradient there is no attack (Athalye et al. 2018). Raised if over 5 % of the images have none."""
    if evidence.zero_gradients > 0.05:
        yield Doubt("SUSPECT", f"{100 * evidence.zero_gradients:.1f} % of the images have no loss gradient")
    if evidence.log_probabilities:
        yield Doubt("SUSPECT", "the model gives probabilities whose softmax could not be removed: gradients saturate")


def single_step_only(evidence: Evidence) -> Iterator[Doubt]:
    """One step bounds robustness from above only (Madry et al. 2018). Raised if no iterative attack was tried."""
    adversaries = [result for result in evidence.results if result.attack.adversary]
    if adversaries and not any(result.attack.iterative for result in adversaries):
        yield Doubt("SUSPECT", "only single-step attacks were tried: the robust accuracy is an upper bound")


def transfer_only(evidence: Evidence) -> Iterator[Doubt]:
    """Images made against another model say little (Tramèr et al. 2020). Raised if no attack was white-box."""
    adversaries = [result for result in evidence.results if result.attack.adversary]
    if adversaries and not _white_box(adversaries):
        yield Doubt("SUSPECT", "only transfer results: not adaptive")


CHECKS: tuple[Callable[[Evidence], Iterator[Doubt]], ...] = (
    no_perturbation,
    rises_with_budget,
    weaker_than_single_step,
    survives_half_range,
    masked_gradients,
    single_step_only,
    transfer_only,
)


def doubts(evidence: Evidence) -> list[Doubt]:
    """All doubts of all checks."""
    return [doubt for check in CHECKS for doubt in check(evidence)]


def verdict(found: Iterable[Doubt]) -> tuple[Verdict, tuple[str, ...]]:
    """The worst verdict among doubts, VALID when there are none, and the reasons."""
    found = list(found)
    worst = max((doubt.verdict for doubt in found), key=ORDER.index, default=ORDER[0])
    return worst, tuple(doubt.reason for doubt in found)


def verdict_of(result: Attacked, found: Iterable[Doubt]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict of one result: the doubts about it alone."""
    return verdict(doubt for doubt in found if doubt.about == _key(result))


def _key(result: Attacked) -> tuple[Attack, float, str]:
    return result.attack, result.eps, result.knowledge


def _name(result: Attacked) -> str:
    return f"{result.attack.name} at {result.eps:.4g}"


def _mean(result: Attacked) -> float:
    return float(result.robust.mean())


def _white_box(results: Sequence[Attacked]) -> list[Attacked]:
    return [result for result in results if result.attack.adversary and result.knowledge == "white-box"]


def _pairs(results: Sequence[Attacked]) -> Iterator[tuple[Attacked, Attacked]]:
    """Ordered pairs of white-box results of two attacks of one norm."""
    for left in _white_box(results):
        for right in _white_box(results):
            norms = left.attack.norm, right.attack.norm
            if norms[0] == norms[1] and left.attack != right.attack:
                yield left, right
