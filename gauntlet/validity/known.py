"""Small frozen networks whose status is proven image by image: certified, or broken by a counterexample.

`Exact` computed the statuses at three budgets, and they are stored with the weights; images too close to a tie to
decide are left out (`python -m benchmarks.known` makes the files). Attacks that break a certified image, or leave
more than 2 % of those with a counterexample, are wrong, and so is a certificate that proves what is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import ApgdCe, ApgdDlr, Pgd
from gauntlet.certify import Certified, Certifier, Crown, Exact, Interval, certify
from gauntlet.certify.base import Proven
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.evaluation.outcome import WorstCase, worst_case
from gauntlet.models.access import Target
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import keras

    from gauntlet.models.classifier import CompiledClassifier

FOLDER = Path(__file__).parent / "networks"
SHAPE, CLASSES = (28, 28, 1), 10
FOUND = 0.98
"""The share of breakable images that the attacks must break. Of `maxima` they break 153 of 156: some counterexamples,
with margins of 0.03 of a logit, lie where no gradient leads."""
NAMES = ("dense", "deep", "maxima")


def network(name: str) -> keras.Model:
    """One of the three networks, without weights."""
    import keras

    nn = keras.layers
    bodies = {
        "dense": lambda: [nn.AveragePooling2D(2), nn.Flatten(), nn.Dense(48, "relu")],
        "deep": lambda: [nn.AveragePooling2D(4), nn.Flatten(), *(nn.Dense(20, "relu") for _ in range(4))],
        "maxima": lambda: [nn.Conv2D(4, 4, strides=4), nn.MaxPooling2D(2, 2, "same"), nn.ReLU(), nn.Flatten()],
    }
    return keras.Sequential([keras.Input(SHAPE), *bodies[name](), nn.Dense(CLASSES)], name=f"known-{name}")


@dataclass(frozen=True)
class Known:
    """A network, images (n, 28, 28, 1) in [0, 1] with labels (n,), and what is proven of them."""

    name: str
    model: keras.Model
    x: Images
    y: Labels
    eps: tuple[float, ...]
    certified: NDArray[np.bool_]
    """(budgets, n); the others have a counterexample."""

    def proofs(self) -> list[Certified]:
        """The answers as certificates: what they prove is spared the attacks of a cascade."""
        everyone, none = np.arange(len(self.y)), np.zeros(len(self.y), bool)
        return [
            Certified(Exact(), eps, everyone, proven, 0.0, none, self.x[:0])
            for eps, proven in zip(self.eps, self.certified, strict=True)
        ]

    @property
    def target(self) -> CompiledClassifier:
        """To be attacked."""
        from gauntlet.models.classifier import CompiledClassifier

        return CompiledClassifier(self.model)


@cache
def known(name: str) -> Known:
    """One of the networks with its answers."""
    model = network(name)
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        networks = dict(arrays)
    model.set_weights([networks[f"weights_{i}"].astype(np.float32) for i in range(len(model.weights))])
    x = (networks["images"] / np.float32(255)).astype(np.float32)
    return Known(name, model, x, networks["labels"], tuple(networks["eps"].tolist()), networks["certified"])


def battery(eps: tuple[float, ...]) -> Battery:
    """Both losses, every target. Five starts, FAB or Square break one image more, in up to 8 times as long."""
    return Battery(attack=(Pgd(), ApgdCe(max_iter=50), ApgdDlr(targets=9, max_iter=50)), eps=eps, cascade=True)


def wrong(name: str, seed: int = 0, tried: Battery | None = None) -> list[str]:
    """What attacks and certificates say of a network against what is proven; nothing when all is right."""
    truth = known(name)
    target, everyone = truth.target, np.arange(len(truth.y))
    job = Job(target, truth.x, truth.y, target.labels(truth.x), seed)
    tried = tried or battery(truth.eps)
    quick = run(Battery(attack=(Pgd(),), eps=truth.eps), job, lambda _: everyone)
    strong = run(tried, job, lambda _: everyone, certified=truth.proofs())
    proven = [line for certifier in (Interval(), Crown()) for line in disproved(truth, certifier)]
    return [*_impossible(truth, worst_case(quick)), *_missed(truth, worst_case(strong)), *proven]


def _impossible(truth: Known, cases: Sequence[WorstCase]) -> Iterator[str]:
    for case in cases:
        if count := int((truth.certified[truth.eps.index(case.eps)] & ~case.robust).sum()):
            yield f"attacks broke {count} images of {truth.name} that are proven at {case.eps:g}"


def _missed(truth: Known, cases: Sequence[WorstCase]) -> Iterator[str]:
    """A line when too many of the breakable images, at all budgets together, are left."""
    breakable = np.concatenate([~truth.certified[truth.eps.index(case.eps)] for case in cases])
    missed = int((breakable & np.concatenate([case.robust for case in cases])).sum())
    if missed > (1 - FOUND) * breakable.sum():
        yield f"attacks left {missed} of {breakable.sum()} breakable images of {truth.name}"


class WrongSign(Interval):
    """A certificate with one sign wrong: it proves what it cannot prove. For the canaries only."""

    name: Literal["wrong-sign"] = "wrong-sign"  # type: ignore[assignment]

    def prove(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Proven:
        """The images whose margins are not positive."""
        return ~super().prove(target, x, y, eps, seed)


def wrong_sign(seed: int = 0) -> list[str]:
    """Nothing when an evaluation with a wrong certificate is INVALID for that reason, as it must be."""
    from gauntlet.validity.checks import breaks_a_proof
    from gauntlet.validity.evidence import Evaluation

    truth = known("dense")
    target, everyone = truth.target, np.arange(len(truth.y))
    job = Job(target, truth.x, truth.y, target.labels(truth.x), seed)
    tried = Battery(attack=(Pgd(),), eps=truth.eps[-1:])
    proofs = [certify(WrongSign(), target, truth.x, truth.y, tried.eps[0], seed, everyone)]
    evidence = Evaluation(run(tried, job, lambda _: everyone), CLASSES, certified=proofs)
    doubts = list(breaks_a_proof(evidence))
    return [] if any(doubt.verdict == "INVALID" for doubt in doubts) else ["a wrong certificate was not noticed"]


def disproved(truth: Known, certifier: Certifier) -> Iterator[str]:
    """A line for each budget at which a certificate proves images that have a counterexample."""
    target: Any = truth.target
    for eps, safe in zip(truth.eps, truth.certified, strict=True):
        if count := int((certifier.prove(target, truth.x, truth.y, eps, 0) & ~safe).sum()):
            yield f"{certifier.name} certifies {count} images of {truth.name} that are broken at {eps:g}"
