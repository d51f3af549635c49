"""Is this number valid? VALID, SUSPECT or INVALID, with reasons.

Every check is one small function from the evidence to its doubts; CHECKS lists them. What the evidence says of the
model itself was measured by `probes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gauntlet.attacks import Attack
from gauntlet.evaluation.outcome import Attacked, WorstCase, worst_case
from gauntlet.measurement import budget
from gauntlet.threat import TOLERANCE
from gauntlet.validity.evidence import Doubt, Evaluation, at, direct, key, name, setting
from gauntlet.validity.indicators import incomplete, silent_success, unstable
from gauntlet.validity.retries import DOUBLINGS, Retry
from gauntlet.validity.samples import FEW
from gauntlet.validity.searched import KINDS, STEPS

SHARE = 0.05
"""Of the images: so many may have no gradient, or a wrong one."""
FAINT = 0.5
"""Of the images: so many may have a gradient that rounding swallows. Of honest networks of sigmoids 30 % have one."""
UNBOUNDED = 0.01
"""Of the images: so many may be left without a bound."""
MISSED = 0.1
"""Of the planted images: so many may be missed."""
SQUARE = 0.2
"""Points that a search without gradients may take."""


def budget_broken(evidence: Evaluation) -> Iterator[Doubt]:
    """The perturbation, measured outside the attack (Carlini et al. 2019, section 3.1).

    Raised if an image is further away than the budget, outside the bounds, or not finite.
    """
    low, high = evidence.bounds
    for result in evidence.results:
        sizes = {"inf": result.linf, "2": result.l2}.get(result.attack.norm)
        if sizes is not None and not (sizes <= result.eps + TOLERANCE).all():
            worst = f"perturbations of up to {np.max(sizes):.4g}, over its budget"
            yield Doubt("INVALID", f"{name(result)} makes {worst}", key(result), True)
        if not ((result.images >= low) & (result.images <= high)).all():
            yield Doubt("INVALID", f"{name(result)} makes pixels outside [{low:g}, {high:g}]", key(result), True)


def no_perturbation(evidence: Evaluation) -> Iterator[Doubt]:
    """No attack looks like robustness (Carlini et al. 2019, section 3.1). Raised if no image tried was changed."""
    for result in evidence.results:
        if result.attack.adversary and result.tried.sum() > FEW and not result.linf[result.tried].any():
            yield Doubt("INVALID", f"{name(result)} changed no pixel of any image", key(result))


def rises_with_budget(evidence: Evaluation) -> Iterator[Doubt]:
    """A larger budget holds the smaller one (Carlini et al. 2019, section 3.1).

    Raised if over 1 point is won back by an attack, or by the worst case.
    """
    alone = [result for result in direct(evidence.results) if result.alone]
    for larger in alone:
        smaller = [r for r in alone if r.attack == larger.attack and r.eps < larger.eps]
        if shares := _won_back(larger, smaller):
            reason = f"{larger.named} leaves more images correct at a larger budget ({shares})"
            yield Doubt("SUSPECT", reason, key(larger))
    cases = worst_case(evidence.results)
    for case in cases:
        if shares := _won_back(case, [c for c in cases if c.norm == case.norm and c.eps < case.eps]):
            yield Doubt("SUSPECT", f"all attacks together leave more images correct at a larger budget ({shares})")


def _won_back(larger: Attacked | WorstCase, smaller: Sequence[Attacked | WorstCase]) -> str:
    """The shares left at a budget and at the smaller one that leaves least, where they rise."""
    same = [result for result in smaller if np.array_equal(result.index, larger.index)]
    least = min(same, key=_mean, default=larger)
    risen = _many(int(larger.robust.sum() - least.robust.sum()), len(larger.index), 1)
    shares = (f"{_percent(result)} at {budget(result.eps)}" for result in (larger, least))
    return ", ".join(shares) if risen else ""


def survives_half_range(evidence: Evaluation) -> Iterator[Doubt]:
    """At L∞ 0.5 every image can be made grey (Carlini et al. 2019, section 3.1). Raised if above chance there."""
    for result in direct(evidence.results):
        above = _above_chance(_mean(result), len(result.index), evidence.n_classes)
        if result.attack.norm == "inf" and result.eps >= 0.5 and above:
            yield Doubt("SUSPECT", f"{name(result)} leaves {_percent(result)}, above chance", key(result))
    left, n = evidence.probes.half_range, evidence.probes.sample
    if left is not None and _above_chance(left, n, evidence.n_classes):
        yield Doubt("SUSPECT", f"descent at L∞ 0.5 leaves {100 * left:.1f} % of {n} images correct, above chance")


def survives_unbounded(evidence: Evaluation) -> Iterator[Doubt]:
    """Without a bound every attack succeeds (Athalye et al. 2018, section 3.1). Raised if it surely leaves over 1 %."""
    left = evidence.probes.exposed(evidence.probes.unbounded)
    if left and left.found > FEW and left.side(UNBOUNDED) == "above":
        yield Doubt("SUSPECT", f"an attack without a bound leaves {left} correct")


def weaker_than_single_step(evidence: Evaluation) -> Iterator[Doubt]:
    """Many steps do no worse than one (Athalye et al. 2018, section 3.1). Raised if one step breaks 1 point more."""
    single = [r for r in direct(evidence.results) if not r.attack.iterative]
    yield from _outdone(single, _last(_descents(direct(evidence.results))))


def weaker_than_black_box(evidence: Evaluation) -> Iterator[Doubt]:
    """Gradients do no worse than going without (Athalye et al. 2018, section 3.1). Raised if over 1 point worse."""
    blind = [r for r in direct(evidence.results) if r.attack.access != "gradients" and r.attack.name != "square"]
    yield from _outdone(blind, _last(_descents(direct(evidence.results))))


def weaker_than_transfer(evidence: Evaluation) -> Iterator[Doubt]:
    """Its own gradients do no worse than another's (Carlini et al. 2019, section 3.2). Raised if over 1 point worse."""
    transfers = [r for r in evidence.results if r.attack.adversary and r.knowledge == "transfer"]
    yield from _outdone(transfers, _last([r for r in direct(evidence.results) if r.attack.access == "gradients"]))


def weaker_than_noise(evidence: Evaluation) -> Iterator[Doubt]:
    """Any attack does no worse than noise (Athalye et al. 2018, section 3.1). Raised if over 1 point worse."""
    yield from _outdone([r for r in evidence.results if not r.attack.adversary], _last(direct(evidence.results)))


def improved_by_square(evidence: Evaluation) -> Iterator[Doubt]:
    """Gradients do no worse than Square (AutoAttack's flag, its checks.py).

    Raised if over 0.2 points worse on the battery's images, or surely so by a short search on a sample of those left;
    not where there are none, and the number rests on a search.
    """
    blind = () if evidence.rests_on_search else direct(evidence.results)
    for square in (r for r in blind if r.attack.name == "square"):
        gradients = [r for r in _descents(direct(evidence.results)) if setting(r) == setting(square)]
        if gradients and worst_case(gradients):
            common = worst_case(gradients)[0]
            broken = int(np.isin(square.index[square.broken], common.index[common.robust]).sum())
            if _many(broken, n := len(common.index), SQUARE):
                yield _square(min(gradients, key=_mean), broken, n, 100 * broken / n)
    for retry in evidence.probes.square:
        if retry.broken > FEW and retry.side(SQUARE) == "above":
            yield _square(retry.after, retry.broken, retry.tried, retry.points)


def _square(after: Attacked, broken: int, n: int, points: float) -> Doubt:
    reason = f"square breaks {broken:,} of {n:,} images that the gradient attacks leave at {at(after)}"
    return Doubt("SUSPECT", f"{reason} ({points:.1f} points)", key(after), True)


def at_chance(evidence: Evaluation) -> Iterator[Doubt]:
    """Who knows nothing loses nothing (Carlini et al. 2019, section 3.1).

    Raised if the predictions do not depend on the labels (`models.chance.dependence`, 3 standard errors).
    """
    if (accuracy := evidence.probes.at_chance) is not None and not evidence.accept_chance:
        yield Doubt("INVALID", f"the model is at chance level on clean images: {100 * accuracy:.1f} %")


def other_range(evidence: Evaluation) -> Iterator[Doubt]:
    """A budget is in units of the input (Carlini et al. 2019, section 3.1). Raised if another range fits better."""
    if looks := evidence.probes.better_range:
        yield Doubt("INVALID", f"input looks like {looks}: that range fits the clean images clearly better")


def masked_gradients(evidence: Evaluation) -> Iterator[Doubt]:
    """Without a gradient there is no attack (Athalye et al. 2018, section 3).

    Raised if surely over 5 % of images have none, if those of surely over half are lost in rounding, or if the logits
    are squashed: the cross-entropy then saturates (Carlini & Wagner 2016). A step function is believed when the battery
    searches without gradients, and another such search breaks surely no more; squashed outputs that were inverted are
    when no gradient is missing and a search without gradients finds nothing more.
    """
    probes = evidence.probes
    if _surely(evidence, probes.zero_gradients) and not evidence.rests_on_search:
        missing = f"{100 * probes.zero_gradients:.1f} % of the images have no loss gradient"
        why, advice = _unsearched(evidence)
        yield Doubt("SUSPECT", missing + why, advice=advice)
    if probes.of_gradients(probes.faint).side(FAINT) == "above":
        lost = (
            f"the gradients of {100 * probes.faint:.1f} % of the images are lost in rounding: the scores are saturated"
        )
        yield Doubt("SUSPECT", lost)
    if probes.probabilities:
        yield Doubt("SUSPECT", "probabilities passed as logits: a second softmax flattens the loss")
    if evidence.inverted and not _vouched(evidence):
        yield Doubt("SUSPECT", "outputs are squashed by a step that could not be removed: gradients may saturate")


def _unsearched(evidence: Evaluation) -> tuple[str, Attack | None]:
    """Why a step function is not believed, and what to attack it with."""
    if beaten := next((one for one in evidence.probes.searched if one.beats), None):
        return f"; {_more(beaten)}: {beaten.points:.1f} points", beaten.attack
    if evidence.probes.zero_gradients < STEPS:
        return "", None
    norms = {result.attack.norm for result in direct(evidence.results)}
    return "; no search without gradients was tried", next((one for one in KINDS if one.norm in norms), None)


def _surely(evidence: Evaluation, share: float) -> bool:
    """Whether a share of the images whose gradients were measured is above 5 % with its whole interval."""
    return evidence.probes.of_gradients(share).side(SHARE) == "above"


def _vouched(evidence: Evaluation) -> bool:
    """Whether no gradient is missing and a search without gradients broke nothing that gradients had left."""
    blind = any(r.attack.access != "gradients" for r in direct(evidence.results)) or bool(evidence.probes.square)
    broke = any(retry.broken for retry in evidence.probes.square)
    return blind and not broke and evidence.probes.zero_gradients == 0


def false_gradients(evidence: Evaluation) -> Iterator[Doubt]:
    """A shattered gradient leads nowhere (Athalye et al. 2018, section 3.1).

    Raised if surely on over 5 % of images finite differences disagree with the gradient, or change where it is zero and
    the number does not rest on a search without gradients.
    """
    if _surely(evidence, share := evidence.probes.detached) and not evidence.rests_on_search:
        reason = f"the output changes where the gradient is zero ({100 * share:.1f} % of the images)"
        yield Doubt("SUSPECT", f"{reason}: the model quantises or detaches its input")
    if _surely(evidence, share := evidence.probes.disagreeing):
        reason = f"finite differences disagree with the gradient ({100 * share:.1f} % of the images)"
        yield Doubt("SUSPECT", f"{reason}: the model quantises its input or replaces its gradient")


def random_model(evidence: Evaluation) -> Iterator[Doubt]:
    """One draw's gradient is not the model's (Athalye et al. 2018, section 3.1; EOT, section 4.2).

    Raised if repeated predictions differ and no expectation over transformations was used.
    """
    if (share := evidence.probes.disagreement) > 0 and not evidence.expectation:
        reason = f"repeated predictions differ ({100 * share:.1f} % of the images)"
        yield Doubt("SUSPECT", f"{reason}: attack the expectation over transformations")


def not_converged(evidence: Evaluation) -> Iterator[Doubt]:
    """An attack that has not converged bounds nothing (Pintor et al. 2022: incomplete optimization).

    Raised if twice the steps from another start surely take over 1 point of the images left, or another loss over 3.
    """
    for retry in evidence.probes.stronger:
        if retry.beats:
            reason = f"{_more(retry)}: {retry.points:.1f} points, not converged{_end(retry)}"
            yield Doubt("SUSPECT", reason, key(retry.after), True, advice=retry.enough)


def _more(retry: Retry) -> str:
    broke = f"{retry.how} {retry.attack.name} breaks {retry.broken:,} of {retry.tried:,} images left"
    return f"{broke} at {at(retry.after)}"


def _end(retry: Retry) -> str:
    """Whether the battery is too weak, or no attack comes to an end."""
    if retry.enough is None:
        return f"; {DOUBLINGS} times twice as many steps each break still more"
    return f"; the battery is too weak, {retry.enough.title} is enough"


def misses_planted(evidence: Evaluation) -> Iterator[Doubt]:
    """Adversarial images that are there by construction are found (Zimmermann et al. 2022, section 3).

    Raised if the battery's gradient attacks surely miss over 10 % of those planted within the budget.
    """
    for one in evidence.probes.planted:
        if one.sample.side(MISSED) == "above":
            where = f"L{one.norm} ".replace("Linf ", "") + budget(one.eps)
            yield Doubt("SUSPECT", f"the attacks miss {one.missed} of {one.n} adversarial images planted at {where}")


def misses_counterexamples(evidence: Evaluation) -> Iterator[Doubt]:
    """What an exact search breaks, an attack can break (Carlini et al. 2017, Provably Minimally-Distorted Examples).

    Raised if a certificate's search broke over 1 point of images that all attacks at its budget left.
    """
    for one in (one for one in evidence.certified if one.broken.any()):
        for case in worst_case(direct(evidence.results)):
            if (case.norm, case.eps) == (one.certifier.norm, one.eps):
                here, there = np.intersect1d(one.index, case.index, return_indices=True)[1:]
                if _many(left := int((one.broken[here] & case.robust[there]).sum()), len(here), 1):
                    reason = f"{one.certifier.name} breaks {left:,} of {len(here):,} images that all attacks leave"
                    yield Doubt("SUSPECT", f"{reason} at {budget(one.eps)}")


def single_step_only(evidence: Evaluation) -> Iterator[Doubt]:
    """One step bounds robustness from above only (Madry et al. 2018), as does a search without gradients.

    Raised if no iterative attack was tried, or none that follows the gradients of a model that has and shows them.
    """
    adversaries = [result for result in evidence.results if result.attack.adversary]
    if adversaries and not any(result.attack.iterative for result in adversaries):
        yield Doubt("SUSPECT", "only single-step attacks were tried: the robust accuracy is an upper bound")
    elif any(r.knowledge == "white-box" for r in adversaries) and not (
        _descents(adversaries) or evidence.rests_on_search
    ):
        yield Doubt("SUSPECT", "no iterative attack followed the gradients: the robust accuracy is an upper bound")


def transfer_only(evidence: Evaluation) -> Iterator[Doubt]:
    """Images made against another model say little (Tramèr et al. 2020). Raised if there are transfers alone."""
    adversaries = [result for result in evidence.results if result.attack.adversary]
    if adversaries and all(result.knowledge == "transfer" for result in adversaries):
        yield Doubt("SUSPECT", "only transfer results: not adaptive")


def breaks_a_proof(evidence: Evaluation) -> Iterator[Doubt]:
    """What is certified cannot be broken (Katz et al. 2017, section 1). Raised if any certified image is broken."""
    for one in (one for one in evidence.certified if one.certifier.itself):
        alike = [r for r in evidence.results if r.attack.norm == one.certifier.norm and r.eps <= one.eps]
        for result in alike:
            here, there = np.intersect1d(one.index, result.index, return_indices=True)[1:]
            if broken := int((one.proven[here] & ~result.robust[there]).sum()):
                reason = (
                    f"{name(result)} broke {broken} images that {one.certifier.name} certifies at {budget(one.eps)}"
                )
                yield Doubt("INVALID", f"{reason}: one of the two is wrong")


CHECKS: tuple[Callable[[Evaluation], Iterator[Doubt]], ...] = (
    budget_broken,
    breaks_a_proof,
    at_chance,
    other_range,
    no_perturbation,
    random_model,
    masked_gradients,
    false_gradients,
    single_step_only,
    transfer_only,
    weaker_than_single_step,
    weaker_than_black_box,
    weaker_than_transfer,
    weaker_than_noise,
    improved_by_square,
    not_converged,
    unstable,
    silent_success,
    incomplete,
    misses_planted,
    misses_counterexamples,
    rises_with_budget,
    survives_half_range,
    survives_unbounded,
)


def _outdone(weak: Sequence[Attacked], strong: Sequence[Attacked]) -> Iterator[Doubt]:
    """A doubt about each strong result that leaves over 1 point of images which a weak one of its budget breaks."""
    for one in strong:
        for other in (r for r in weak if setting(r) == setting(one) and key(r) != key(one)):
            here, there = np.intersect1d(one.index, other.index, return_indices=True)[1:]
            lost = int((one.robust[here] & ~other.robust[there]).sum())
            if _many(lost, len(here), 1):
                by = f"{'transferred ' * (other.knowledge == 'transfer')}{other.named}"
                reason = f"{by} breaks {lost:,} of {len(here):,} images that {name(one)} leaves"
                yield Doubt("SUSPECT", reason, key(one))


def _many(count: int, n: int, points: float) -> bool:
    """Whether so many of n images are more than chance and more than so many points."""
    return count > FEW and 100 * count > points * n


def _above_chance(share: float, n: int, n_classes: int) -> bool:
    chance = 1 / n_classes
    return share > chance + 3 * float(np.sqrt(chance * (1 - chance) / n))


def _mean(result: Attacked | WorstCase) -> float:
    return float(result.robust.mean())


def _percent(result: Attacked | WorstCase) -> str:
    return f"{100 * _mean(result):.1f} %"


def _descents(results: Sequence[Attacked]) -> list[Attacked]:
    """Those of attacks that follow the gradient step by step."""
    return [result for result in results if result.attack.iterative and result.attack.access == "gradients"]


def _last(results: Sequence[Attacked]) -> list[Attacked]:
    """Those to hold others against: on all images, and of a cascade the last one, which stands for the ones before."""
    ends = {(setting(result), result.alone): result for result in results}
    return [result for result in results if result.alone or ends[setting(result), False] is result]
