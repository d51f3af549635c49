"""Remarks beside a number that leave it VALID: few images, hidden gradients, probes without a clear result."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.evaluation.outcome import worst_case
from gauntlet.measurement import Measurement
from gauntlet.validity.checks import SHARE, SQUARE, UNBOUNDED
from gauntlet.validity.evidence import Evaluation, at, name
from gauntlet.validity.indicators import SILENT, side
from gauntlet.validity.retries import Retry

WIDE = 5.0
"""Points of half an interval above which a note says that the images are few."""


def half_width(measurement: Measurement) -> float:
    """Half the interval of a measurement, in points: a smaller difference to another is not significant."""
    return 50 * (measurement.high - measurement.low)


def notes(evidence: Evaluation) -> list[str]:
    """Few images for the claim, hidden gradients, a loss that still rises, and undecided probes."""
    return [*_few(evidence), *_hidden(evidence), *_rising(evidence), *across(evidence)]


def _few(evidence: Evaluation) -> Iterator[str]:
    measured = [case.accuracy("") for case in worst_case(evidence.results)]
    widest = max(measured, key=half_width, default=None)
    if widest and half_width(widest) > WIDE:
        half = f"±{half_width(widest):.1f} points"
        yield f"n = {widest.n:,}: intervals are {half}; smaller differences are not significant"


def _hidden(evidence: Evaluation) -> Iterator[str]:
    if any(result.knowledge == "black-box" for result in evidence.results):
        yield "the model hides its gradients: an attacker who has them may do better"


def _rising(evidence: Evaluation) -> Iterator[str]:
    for retry in evidence.probes.stronger:
        if retry.rise is not None and retry.rise > 0.1:
            rise = f"the loss of the images left rises by another {100 * retry.rise:.0f} % with twice the steps"
            yield f"{name(retry.after)}: {rise}"


def across(evidence: Evaluation) -> Iterator[str]:
    """What a probe's sample could neither show nor exclude, one line each."""
    probes = evidence.probes
    for what, share in (
        ("no loss gradient", probes.zero_gradients),
        ("output that changes where the gradient is zero", probes.detached),
        ("finite differences that disagree with the gradient", probes.disagreeing),
        ("scores that jump beside the image", probes.unstable),
    ):
        if probes.of_gradients(share).side(SHARE) == "across":
            yield f"undecided: {what} on {probes.of_gradients(share)}; the limit is {100 * SHARE:g} %"
    yield from _followed(evidence)
    left = probes.exposed(probes.unbounded)
    if left and left.side(UNBOUNDED) == "across":
        yield f"undecided: without a bound {left} are left; the limit is {100 * UNBOUNDED:g} %"
    again = (*probes.stronger, *probes.searched)
    yield from (_not_excluded(one.how, one) for one in again if one.side(one.allowed) == "across")
    yield from (_not_excluded("in a short search", one) for one in probes.square if one.side(SQUARE) == "across")


def _not_excluded(how: str, retry: Retry) -> str:
    broke = f"{how} {retry.attack.name} breaks {retry.broken:,} of {retry.tried:,} images left at {at(retry.after)}"
    return f"undecided: {broke}; up to {retry.most:.1f} points may be lost"


def _followed(evidence: Evaluation) -> Iterator[str]:
    """What following the attacks left open; a count of zero is not reported."""
    for one in evidence.probes.followed:
        if one.silent and one.sample(one.silent).side(SILENT) == "across":
            by = f"{name(one.after)} came by adversarial images and returned others"
            yield f"undecided: {by} on {one.sample(one.silent)} that it left"
        if one.rising and side(one) == "across":
            by = f"{one.rising} of {one.n} images that {name(one.after)} leaves"
            yield f"undecided: {by} were on their way to be broken"
