"""The fast adaptive boundary attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gauntlet.attacks.apgd import likeliest
from gauntlet.attacks.base import Attack, Crafted
from gauntlet.attacks.search import Search, State, random_in_ball, walk
from gauntlet.attacks.streams import Rows, Streams
from gauntlet.threat import Images, Labels, Norm, ThreatModel, lengths

if TYPE_CHECKING:
    from gauntlet.models.classifier import Seen, WhiteBox

ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9
"""Bias towards the clean image, overshoot of a step, and way back from a success (Croce & Hein 2020, section 3)."""


class Fab(Attack):
    """Steps onto the nearest linearised boundary, pulled towards the clean image (Croce & Hein 2020, "Minimally ...").

    Targeted, as in AutoAttack: one likely wrong class after the other, each through the difference of two logits. Ours,
    as ART has no FAB and Foolbox's is untargeted, which costs a backward pass per class and is weaker on robust models.
    """

    name: Literal["fab"] = "fab"
    norm: Norm = Field("inf", description="Norm of the budget")
    max_iter: int = Field(100, ge=1, le=10_000, description="Steps towards each target")
    targets: int = Field(9, ge=1, le=1_000, description="Likeliest wrong classes to aim at")
    num_random_init: int = Field(1, ge=1, le=100, description="Runs of each target; the first starts at the image")
    iterative: ClassVar[bool] = True
    place: ClassVar[int] = 400

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Walk towards every target until a point within the budget is found."""
        from gauntlet.models.classifier import CHUNK

        threat = ThreatModel(norm=self.norm, eps=eps, bounds=model.clip_values)
        several = min(self.targets, model.nb_classes - 1)
        settings = threat, streams, self.max_iter, self.num_random_init * several
        return walk(_Boundary(model, x, y, None, *settings, likeliest(model, x, y, several)), CHUNK)


@dataclass
class _Boundary(Search):
    targets: Labels = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def start(self, rows: Rows, run: Rows) -> State:
        clean, several = self.clean[rows], self.targets.shape[1]
        # Later rounds start somewhere in half the budget around the image.
        noise = random_in_ball(self.streams, rows, clean.shape[1:], self.threat.eps / 2, self.threat.norm)
        noise *= (run >= several).reshape(-1, 1, 1, 1)
        return {"x": self.threat.project(clean + noise, clean), "target": self.targets[rows, run % several]}

    def ask(self, state: State) -> Seen:
        return self.model.look(state["x"], self.y[state["row"]], "difference", state["target"])

    def fooled(self, state: State, logits: Images) -> NDArray[np.bool_]:
        away = lengths(state["x"] - self.clean[state["row"]], self.threat.norm)
        return super().fooled(state, logits) & (away <= self.threat.eps)

    def move(self, state: State, answer: Seen) -> None:
        clean, x = self.clean[state["row"]], state["x"]
        beyond = super().fooled(state, answer.logits)
        # On the wrong side but too far away: go back towards the image, which is no step of the search.
        back = clean + np.float32(BETA) * (x - clean)
        state["step"] -= beyond
        state["x"] = np.where(beyond.reshape(-1, 1, 1, 1), back, self._towards(x, clean, answer))

    def _towards(self, x: Images, clean: Images, answer: Seen) -> Images:
        """Both the point's and the image's projection onto the linearised boundary, weighed by their lengths."""
        flat = (len(x), -1)
        normal = answer.gradient.reshape(flat).astype(np.float64)
        offset = (normal * x.reshape(flat)).sum(axis=1) - answer.loss
        norm, bounds = self.threat.norm, self.threat.bounds
        here, home = (project_onto_plane(p.reshape(flat), normal, offset, norm, bounds) for p in (x, clean))
        sizes = [np.maximum(lengths(d.reshape(x.shape).astype(np.float32), norm), 1e-8) for d in (here, home)]
        alpha = np.minimum(sizes[0] / (sizes[0] + sizes[1]), ALPHA_MAX)[:, None]
        point = (1 - alpha) * (x.reshape(flat) + ETA * here) + alpha * (clean.reshape(flat) + ETA * home)
        return np.clip(point, *bounds).reshape(x.shape).astype(np.float32)


def project_onto_plane(
    points: NDArray[Any], normal: NDArray[Any], offset: NDArray[Any], norm: Norm, bounds: tuple[float, float]
) -> NDArray[np.float64]:
    """Smallest steps within bounds from `points` (n, d) onto the planes `normal` · z = `offset`; float64 (n, d).

    Each pixel moves at its own pace (1 for L∞, its weight for L2) until it meets a bound; how far all go solves one
    piecewise linear equation (section 3.1). Where no point within bounds is on the plane, the nearest to it.
    """
    excess = (normal * points).sum(axis=1) - offset
    heading = -np.sign(normal) * np.sign(excess)[:, None]
    room = np.where(heading > 0, bounds[1] - points, points - bounds[0])
    weight = np.abs(normal)
    pace = np.ones_like(weight) if norm == "inf" else weight
    time = np.divide(room, pace, out=np.zeros_like(weight), where=weight > 0)
    order = np.argsort(time, axis=1)
    rate, ends = (np.take_along_axis(values, order, axis=1) for values in (weight * pace, time))
    stopped = np.cumsum(rate * ends, axis=1)
    moving = rate.sum(axis=1, keepdims=True) - np.cumsum(rate, axis=1)
    reached = stopped + ends * moving
    first = np.minimum((reached < np.abs(excess)[:, None]).sum(axis=1), points.shape[1] - 1)[:, None]
    before = np.take_along_axis(stopped - rate * ends, first, axis=1)
    still = np.take_along_axis(moving + rate, first, axis=1)
    far = np.divide(np.abs(excess)[:, None] - before, still, out=np.zeros_like(before), where=still > 1e-30)
    return heading * pace * np.minimum(far, time)
