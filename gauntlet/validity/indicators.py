"""Indicators of attack failure that need the model's surroundings, or the way an attack went (Pintor et al. 2022).

Their others are elsewhere: unavailable gradients are `masked_gradients`, a failed transfer is `weaker_than_transfer`,
an unconstrained attack that fails is `survives_unbounded`.
"""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.validity.evidence import Doubt, Evaluation, key, name
from gauntlet.validity.paths import Followed
from gauntlet.validity.samples import FEW

UNSTABLE, SILENT, INCOMPLETE = 0.05, 0.05, 1.0
"""Of the images: so many may jump, or be broken unnoticed; and points that the same steps again may take."""


def unstable(evidence: Evaluation) -> Iterator[Doubt]:
    """Beside an image a smooth model answers nearly the same (Pintor et al. 2022, indicator 2: unstable predictions).

    Raised if surely over 5 % of the images jump, by over a tenth of a usual margin, where all pixels move by a tenth of
    a grey level; not of a step function whose number rests on a search without gradients.
    """
    sample = evidence.probes.of_gradients(evidence.probes.unstable)
    if sample.side(UNSTABLE) == "above" and not evidence.rests_on_search:
        yield Doubt("SUSPECT", f"the scores jump beside the images: {sample}")


def silent_success(evidence: Evaluation) -> Iterator[Doubt]:
    """An attack returns the adversarial image that it came by (Pintor et al. 2022, indicator 3: silent success).

    Raised if surely over 5 % of the images that an attack left were adversarial somewhere on its way.
    """
    for one in evidence.probes.followed:
        if one.silent > FEW and one.sample(one.silent).side(SILENT) == "above":
            by = f"{name(one.after)} came by adversarial images and returned others"
            yield Doubt("SUSPECT", f"{by}, on {one.silent} of {one.n} images that it left", key(one.after))


def incomplete(evidence: Evaluation) -> Iterator[Doubt]:
    """A loss that still rises has not got to its end (Pintor et al. 2022, indicator 4: incomplete optimization).

    Raised if, by each image's own curve, surely over 1 point of the images would be broken by as many steps again, at
    the pace of the last quarter. Not where twice the steps were tried: what they broke is the better evidence.
    """
    for one in evidence.probes.followed:
        if side(one) == "above" and not _measured(one, evidence):
            by = f"{one.rising} of {one.n} images that {name(one.after)} leaves"
            yield Doubt("SUSPECT", f"{by} were on their way to be broken: not converged", key(one.after))


def side(one: Followed) -> str:
    """Where the points that the rising images stand for lie, to the limit."""
    return one.sample(one.rising).side(min(1.0, INCOMPLETE / 100 / max(one.robust, 1e-9)))


def _measured(one: Followed, evidence: Evaluation) -> bool:
    """Whether twice the steps were tried there: what they broke is `not_converged`'s to judge."""
    at = one.after.attack.norm, one.after.eps
    return any((retry.after.attack.norm, retry.after.eps) == at for retry in evidence.probes.stronger)
