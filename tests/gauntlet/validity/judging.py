"""Evaluations as evidence for checks: results, probes and certificates with stated outcomes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from gauntlet.attacks import ApgdCe, ApgdDlr, Attack, Fgsm, GaussianNoise, Pgd, Square, UniformNoise
from gauntlet.certify import Certified, Certifier, Exact, Interval
from gauntlet.evaluation.outcome import Attacked, Knowledge
from gauntlet.models.access import Access
from gauntlet.validity.evidence import Evaluation
from gauntlet.validity.paths import Followed
from gauntlet.validity.probes import Probes
from gauntlet.validity.retries import Retry

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
    calls: int = 0,
) -> Attacked:
    """A result on N images from number `start` on: the first `robust` were withstood, the first `tried` were tried."""
    nothing, zeros, sizes = np.zeros(N, np.int64), np.zeros(N), np.full(N, eps if linf is None else linf)
    facts: dict[str, Any] = {"attack": attack, "eps": eps, "knowledge": knowledge, "distance": None, "seconds": 0.0}
    facts |= {"labels": nothing, "clean_predictions": nothing, "calls": nothing + calls, "losses": zeros}
    facts |= {"index": np.arange(start, start + N), "predictions": (np.arange(N) >= robust).astype(np.int64)}
    facts |= {"tried": np.arange(N) < tried, "linf": sizes, "l2": sizes}
    return Attacked(**facts, images=np.full((N, 1, 1, 1), pixels, np.float32))


def evidence(*results: Attacked, expectation: bool = False, logs: bool = False, **probes: Any) -> Evaluation:
    return Evaluation(results, 10, Probes(**probes), inverted=logs, expectation=expectation)


def retry(
    tried: int, broken: int, robust: float, attack: Attack | None = None, after: Attacked | None = None, **more: Any
) -> Retry:
    """`broken` of `tried` images of the share `robust` that a result, or PGD at 0.1, left."""
    tried_again = attack or PGD.model_copy(update={"max_iter": 2 * PGD.max_iter})
    return Retry(after or attacked(PGD, 0.1, 50), tried_again, tried, broken, robust, **more)


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
