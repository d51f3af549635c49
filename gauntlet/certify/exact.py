"""The exact status of an image: certified, broken with the image that breaks it, or open when time is up."""

from __future__ import annotations

import time
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gauntlet import limits
from gauntlet.certify.base import Decision, Proven
from gauntlet.certify.relaxations import Crown
from gauntlet.errors import ModelError
from gauntlet.models.access import Target
from gauntlet.threat import TOLERANCE, Images, Labels

if TYPE_CHECKING:
    from gauntlet.certify.programme import Affine, Programme
    from gauntlet.certify.prover import Prover


class Exact(Crown):
    """A mixed-integer program for each image that `crown` leaves open: for small networks of ReLU and maxima.

    Tjeng, Xiao, Tedrake, Evaluating Robustness of Neural Networks with Mixed Integer Programming, ICLR 2019. For each
    other class: is there an image within the budget whose score reaches the true one's? A solution counts as broken
    once the model itself misclassifies it; a proof rests on HiGHS and keeps a margin of 1e-4 for its tolerances.
    """

    name: Literal["exact"] = "exact"  # type: ignore[assignment]
    norm: Literal["inf"] = Field("inf", description="Norm of the budget")
    patience: int = Field(0, ge=0, le=1_000_000, description="As of crown: 0 bounds every image before it is searched")
    seconds: float = Field(30.0, gt=0, le=86_400, description="Time of one image; after it the image is open")
    max_units: int = Field(10_000, ge=1, le=100_000, description="Units of a network up to which it is tried")
    max_binaries: int = Field(
        1_000, ge=0, le=10_000, description="Units of unsettled sign up to which an image is tried"
    )

    def check(self, target: Target) -> None:
        """As `crown`; `ModelError` as well for networks that are too large or not piecewise linear."""
        super().check(target)
        bent = [step for step in self._prover(target).network.steps if step.kind not in ("input", "affine")]
        for step in bent:
            if step.kind not in ("relu", "max"):
                what = f"layer {step.layer!r} is not piecewise linear, which exact needs"
                raise ModelError(what, where="certify", fix="take crown")
        if (units := sum(prod(step.shape) for step in bent)) > self.max_units:
            what = f"exact takes networks of up to {self.max_units:,} units, this one has {units:,}"
            raise ModelError(what, where="certify", fix="take crown, or exact:max_units=... and time")

    def prove(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Proven:
        """Images that are proven by lines, or by a search that ended without a counterexample."""
        return self.decide(target, x, y, eps, seed).proven

    def decide(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Decision:
        """The status of every image, with the counterexamples."""
        from gauntlet.certify.programme import matrices

        prover = self._prover(target, self.refine)
        proven = prover.margins(x, y, eps, lines=True, patience=self.patience) > 0
        images, affine = np.array(x), matrices(prover.network)
        broken = target.labels(x) != y
        for row in np.flatnonzero(~proven & ~broken):
            limits.check()
            proven[row], point = self._search(target, prover, affine, x[row], int(y[row]), eps)
            if point is not None:
                images[row], broken[row] = point, True
        return Decision(proven, broken, images)

    def _search(
        self, target: Target, prover: Prover, affine: list[Affine | None], x: Images, label: int, eps: float
    ) -> tuple[bool, Images | None]:
        """Whether no image (h, w, c) within the budget reaches another class, and one that does."""
        from gauntlet.certify.programme import Programme

        bounds, rows = prover.bounds_of(x, label, eps)
        programme = Programme(prover.network, affine, bounds)
        if programme.binaries > self.max_binaries:
            return False, None
        error = np.asarray(bounds[-1].error).ravel()
        if not _faithful(programme, target, x, error):
            return False, None
        deadline, sure = time.monotonic() + self.seconds, True
        for other in (other for other in np.argsort(rows) if other != label and rows[other] <= 0):
            room, left = float(error[label] + error[other]), deadline - time.monotonic()
            example, none = programme.reached(label, int(other), room, left) if left > 0 else (None, False)
            if example is not None and _wrong(target, point := _within(example, x, eps, target), label):
                return False, point
            sure = sure and none
        return sure, None


def _within(example: Any, x: Images, eps: float, target: Any) -> Images:
    """The solution as an image of float32 that lies within the budget."""
    low, high = target.clip_values
    step = np.clip(example.reshape(x.shape) - x, -eps, eps) if eps > TOLERANCE else np.zeros_like(x)
    return np.asarray(np.clip(x + step, low, high), np.float32)


def _faithful(programme: Programme, target: Target, x: Images, error: Any) -> bool:
    """Whether the programme gives the image the model's own scores; if not, a proof by it would say nothing."""
    from gauntlet.certify.programme import ROOM

    scores = programme.scores_of(x.astype(np.float64).ravel())
    return scores is not None and bool((np.abs(scores - target.predict(x[None])[0]) <= error + ROOM).all())


def _wrong(target: Target, image: Images, label: int) -> bool:
    return int(target.labels(image[None])[0]) != label
