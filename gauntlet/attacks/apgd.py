"""Auto-PGD: projected gradient descent that finds its own step size."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.attacks.base import Attack, Crafted, Targeted
from gauntlet.attacks.search import Search, State, direction, walk
from gauntlet.attacks.streams import Rows, Streams
from gauntlet.errors import SettingError
from gauntlet.threat import Images, Labels, Norm, ThreatModel, lengths

if TYPE_CHECKING:
    from gauntlet.models.classifier import Seen, WhiteBox
    from gauntlet.models.losses import Loss

ALPHA, RHO = 0.75, 0.75
"""Share of the gradient step against the momentum, and of rising steps below which the step is halved (section 3)."""


class _Apgd(Targeted):
    """What both losses share (Croce & Hein 2020, "Reliable evaluation", algorithm 1)."""

    norm: Norm = Field("inf", description="Norm of the budget")
    max_iter: int = Field(100, ge=1, le=10_000, description="Gradient steps of each run")
    num_random_init: int = Field(1, ge=1, le=100, description="Random starts, of each target if there are several")
    early_stop: bool = Field(True, description="Leave an image alone once it is fooled; else go on to a higher loss")
    iterative: ClassVar[bool] = True

    def _search(
        self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams, loss: Loss, n_targets: int
    ) -> Crafted:
        from gauntlet.models.classifier import CHUNK
        from gauntlet.models.losses import LEAST_CLASSES

        if model.nb_classes < LEAST_CLASSES.get(loss, 2):
            needs = f"{self.name} needs {LEAST_CLASSES[loss]} classes, the model has {model.nb_classes}"
            raise SettingError(needs, where="attack", fix="take apgd-ce")
        aimed = self.aims(y, model.nb_classes) if self.target is not None else None
        threat = ThreatModel(norm=self.norm, eps=eps, bounds=model.clip_values)
        targets = likeliest(model, x, y, n_targets) if n_targets else None
        settings = threat, streams, self.max_iter, self.num_random_init * max(1, n_targets)
        return walk(_Climb(model, x, y, aimed, *settings, loss, targets), CHUNK, self.early_stop)


class ApgdCe(_Apgd):
    """Auto-PGD on the cross-entropy (Croce & Hein 2020, section 3).

    Ours, as ART's goes on with images that are fooled already and draws the starts of a whole batch at once.
    """

    name: Literal["apgd-ce"] = "apgd-ce"
    place: ClassVar[int] = 300

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Climb the cross-entropy, or that of the target down."""
        return self._search(model, x, y, eps, streams, "ce" if self.target is None else "ce-targeted", 0)


class ApgdDlr(_Apgd):
    """Auto-PGD on the difference of logits ratio, which no scaling of the logits hides (Croce & Hein 2020, section 4).

    By default aimed at each of the nine likeliest wrong classes in turn, as in AutoAttack; `targets=0` is the
    untargeted loss. Ours, as ART's targeted loss is not the paper's.
    """

    name: Literal["apgd-dlr"] = "apgd-dlr"
    targets: int = Field(9, ge=0, le=1_000, description="Likeliest wrong classes to aim at; 0 for the untargeted loss")
    place: ClassVar[int] = 310

    def fitted(self, n_classes: int) -> Attack | None:
        """Untargeted where there are three classes (equation 6), nothing where there are two."""
        if super().fitted(n_classes) is None or n_classes < 3 or (n_classes == 3 and self.target is not None):
            return None
        return self.model_copy(update={"targets": 0}) if n_classes == 3 else self

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Climb the ratio towards one target after the other, or away from the true class."""
        if self.target is not None:
            return self._search(model, x, y, eps, streams, "dlr-targeted", 0)
        several = min(self.targets, model.nb_classes - 1)
        return self._search(model, x, y, eps, streams, "dlr-targeted" if several else "dlr", several)


def likeliest(model: WhiteBox, x: Images, y: Labels, n: int) -> Labels:
    """The `n` likeliest wrong classes of each image on its clean logits, most likely first: int64 (len(x), n)."""
    logits = model.predict(x).copy()
    logits[np.arange(len(x)), y] = -np.inf
    return np.argsort(-logits, axis=1, kind="stable")[:, :n].astype(np.int64)


@dataclass
class _Climb(Search):
    loss: Loss = "ce"
    targets: Labels | None = field(default=None)

    @cached_property
    def checkpoints(self) -> dict[int, int]:
        """Steps after which the step size is looked at, and the steps since the one before (section 3.1)."""
        window, least, shrink = (max(int(share * self.steps), 1) for share in (0.22, 0.06, 0.03))
        steps, at = {}, window
        while at <= self.steps:
            steps[at] = window
            window = max(window - shrink, least)
            at += window
        return steps

    def start(self, rows: Rows, run: Rows) -> State:
        clean = self.clean[rows]
        if self.threat.norm == "inf":
            noise = self.streams.uniform(rows, -1, 1, clean.shape[1:])
            noise /= np.maximum(lengths(noise, "inf"), 1e-12).reshape(-1, 1, 1, 1).astype(np.float32)
        else:
            noise = direction(self.streams.normal(rows, clean.shape[1:]), "2")
        x = self.threat.project(clean + np.float32(self.threat.eps) * noise, clean)
        nothing = np.zeros(len(rows), np.float32)
        state: State = {"x": x, "before": x, "best": x, "gradient": np.zeros_like(x), "target": self._target(rows, run)}
        state |= {"best_loss": nothing - np.inf, "last_loss": nothing, "checked_loss": nothing}
        return state | {
            "size": nothing + np.float32(2 * self.threat.eps),
            "rises": np.zeros(len(rows), np.int64),
            "halved": np.ones(len(rows), bool),
        }

    def _target(self, rows: Rows, run: Rows) -> Labels:
        if self.targets is not None:
            return self.targets[rows, run % self.targets.shape[1]]
        return self.y[rows] if self.aims is None else self.aims[rows]

    def ask(self, state: State) -> Seen:
        return self.model.look(state["x"], self.y[state["row"]], self.loss, state["target"])

    def move(self, state: State, answer: Seen) -> None:
        state["rises"] += answer.loss > np.where(state["step"] > 0, state["last_loss"], np.inf)
        state["last_loss"] = answer.loss
        better, gradient = answer.loss > state["best_loss"], answer.gradient.copy()
        for name, value in (("best", state["x"]), ("best_loss", answer.loss), ("gradient", answer.gradient)):
            state[name] = np.where(_wide(better, value), value, state[name])
        first = state["step"] == 0
        state["checked_loss"] = np.where(first, answer.loss, state["checked_loss"])
        halve = self._halves(state)
        state["size"] = np.where(halve, state["size"] / 2, state["size"])
        x = np.where(_wide(halve, gradient), state["best"], state["x"])
        gradient = np.where(_wide(halve, gradient), state["gradient"], gradient)
        state["x"] = self._next(x, state["before"], gradient, state["size"], first, self.clean[state["row"]])
        state["before"] = x

    def _halves(self, state: State) -> Any:
        """Which rows go back to their best point with half the step: too few rises, or nothing won since last time."""
        window = np.array([self.checkpoints.get(int(step), 0) for step in state["step"]])
        due = window > 0
        stuck = ~state["halved"] & (state["checked_loss"] >= state["best_loss"])
        halve = due & ((state["rises"] <= RHO * window) | stuck)
        state["halved"] = np.where(due, halve, state["halved"])
        state["checked_loss"] = np.where(due, state["best_loss"], state["checked_loss"])
        state["rises"] = np.where(due, 0, state["rises"])
        return halve

    def _next(self, x: Images, before: Images, gradient: Images, size: Any, first: Any, clean: Images) -> Images:
        """A step along the gradient, then a quarter of the way that the last one took."""
        size = size.reshape(-1, 1, 1, 1)
        stepped = self.threat.project(x + size * direction(gradient, self.threat.norm), clean)
        share = np.where(first, 1.0, ALPHA).astype(np.float32).reshape(-1, 1, 1, 1)
        return self.threat.project(x + share * (stepped - x) + (1 - share) * (x - before), clean)


def _wide(rows: Any, like: np.ndarray) -> np.ndarray:
    """A mask of rows, shaped to choose between arrays like `like`."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))
