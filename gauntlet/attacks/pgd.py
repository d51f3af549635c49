"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.attacks.base import Crafted, Targeted, art_norm, global_seed, one_hot
from gauntlet.attacks.libraries import foolbox_images
from gauntlet.attacks.search import Search, State, direction, random_in_ball, walk
from gauntlet.attacks.streams import Rows, Streams
from gauntlet.threat import Images, Labels, Norm, ThreatModel

if TYPE_CHECKING:
    from gauntlet.models.classifier import Seen, WhiteBox


class Pgd(Targeted):
    """Projected gradient descent from a random start (Madry et al. 2018, section 2.1).

    Ours, as ART and Foolbox go on with images that are fooled already, return the last point rather than the best,
    and draw the starts of a whole batch at once; their versions are kept for comparison.
    """

    name: Literal["pgd"] = "pgd"
    norm: Norm = Field("inf", description="Norm of the budget")
    eps_step: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Step size; 2.5 eps / max_iter when not given"
    )
    max_iter: int = Field(40, ge=1, le=10_000, description="Gradient steps of each start")
    num_random_init: int = Field(1, ge=0, le=100, description="Random starts; 0 starts at the clean image")
    early_stop: bool = Field(True, description="Leave an image alone once it is fooled; else go on to a higher loss")
    library: Literal["gauntlet", "art", "foolbox"] = Field("gauntlet", description="Whose implementation")
    iterative: ClassVar[bool] = True
    place: ClassVar[int] = 200

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Ours, or a library's."""
        from gauntlet.models.classifier import CHUNK

        aims = self.aims(y, model.nb_classes)
        if self.library != "gauntlet":
            make = self._with_art if self.library == "art" else self._with_foolbox
            return make(model, x, aims, eps, int(streams.seeds(np.arange(1))[0]))
        threat = ThreatModel(norm=self.norm, eps=eps, bounds=model.clip_values)
        aimed = None if self.target is None else aims
        starts = max(1, self.num_random_init)
        return walk(_Descent(model, x, y, aimed, threat, streams, self.max_iter, starts, self), CHUNK, self.early_stop)

    def _with_art(self, model: WhiteBox, x: Images, aims: Labels, eps: float, seed: int) -> Crafted:
        """ART's ProjectedGradientDescentTensorFlowV2, which draws its starts from NumPy's global generator."""
        from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_tensorflow_v2 import (
            ProjectedGradientDescentTensorFlowV2,
        )

        from gauntlet.models.classifier import CHUNK

        attack = ProjectedGradientDescentTensorFlowV2(
            model,
            norm=art_norm(self.norm),
            eps=eps,
            eps_step=self.step(eps),
            max_iter=self.max_iter,
            num_random_init=self.num_random_init,
            targeted=self.target is not None,
            batch_size=CHUNK,
            verbose=False,
        )
        with global_seed(seed):
            images = np.asarray(attack.generate(x, y=one_hot(aims, model.nb_classes)))
        return Crafted(images, np.full(len(x), self.max_iter * max(1, self.num_random_init)))

    def _with_foolbox(self, model: WhiteBox, x: Images, aims: Labels, eps: float, seed: int) -> Crafted:
        kind = {"inf": "LinfProjectedGradientDescentAttack", "2": "L2ProjectedGradientDescentAttack"}[self.norm]
        settings: dict[str, Any] = {"abs_stepsize": self.step(eps), "steps": self.max_iter}
        starts = max(1, self.num_random_init)
        settings |= {"random_start": self.num_random_init > 0}
        settings |= {"repeats": starts, "targeted": self.target is not None}
        return foolbox_images(kind, model, x, aims, eps, seed=seed, **settings)

    def step(self, eps: float) -> float:
        """The step size for a budget: 2.5 eps / max_iter reaches the ball's border from anywhere in it (Madry)."""
        return self.eps_step or min(eps, 2.5 * eps / self.max_iter)


@dataclass
class _Descent(Search):
    attack: Pgd = field(default_factory=Pgd)

    def start(self, rows: Rows, run: Rows) -> State:
        x = self.clean[rows]
        if self.attack.num_random_init:
            noise = random_in_ball(self.streams, rows, x.shape[1:], self.threat.eps, self.attack.norm)
            x = self.threat.project(x + noise, x)
        return {"x": x}

    def ask(self, state: State) -> Seen:
        row = state["row"]
        if self.aims is None:
            return self.model.look(state["x"], self.y[row])
        return self.model.look(state["x"], self.y[row], "ce-targeted", self.aims[row])

    def move(self, state: State, answer: Seen) -> None:
        step = self.attack.step(self.threat.eps) * direction(answer.gradient, self.attack.norm)
        state["x"] = self.threat.project(state["x"] + step, self.clean[state["row"]])
