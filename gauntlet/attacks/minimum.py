"""Attacks that search for the smallest perturbation; a budget only decides afterwards which of them count.

All are Foolbox's, run without its early aborts, so that the result of an image does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gauntlet.attacks.base import Attack, Crafted, Targeted
from gauntlet.attacks.libraries import foolbox_images, import_foolbox
from gauntlet.attacks.streams import Streams
from gauntlet.threat import Images, Labels, Norm, lengths

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox

HALVINGS = 24
"""Of an interval that is halved until float32 sees no difference."""


class CwL2(Targeted):
    """Carlini & Wagner's L2 attack: least squares plus a constant times the margin (2017, section V-A and VI).

    Foolbox's, as ART's is slower at a larger distance.
    """

    name: Literal["cw-l2"] = "cw-l2"
    norm: Literal["2"] = Field("2", description="Norm that is made small")
    binary_search_steps: int = Field(5, ge=1, le=100, description="Values tried of the margin's constant")
    max_iter: int = Field(100, ge=1, le=100_000, description="Adam's steps for each constant")
    eps_step: float = Field(0.1, gt=0, le=10, description="Adam's step size, in tanh space")
    confidence: float = Field(0.0, ge=0, le=1_000, description="Margin in logits that an image must have")
    initial_const: float = Field(1.0, gt=0, le=1e10, description="First constant; ten times more until one succeeds")
    iterative: ClassVar[bool] = True
    minimal: ClassVar[bool] = True
    place: ClassVar[int] = 730

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """The nearest image on the wrong side that Adam came by."""
        settings = {"binary_search_steps": self.binary_search_steps, "steps": self.max_iter, "stepsize": self.eps_step}
        settings |= {"confidence": self.confidence, "initial_const": self.initial_const, "abort_early": False}
        return _smallest("L2CarliniWagnerAttack", model, x, self.aims(y, model.nb_classes), self.target, settings)


class DeepFool(Attack):
    """Steps onto the nearest boundary of the linearised classes (Moosavi-Dezfooli et al. 2016, algorithm 2)."""

    name: Literal["deepfool"] = "deepfool"
    norm: Norm = Field("inf", description="Norm that is made small")
    max_iter: int = Field(50, ge=1, le=10_000, description="Steps")
    overshoot: float = Field(0.02, ge=0, le=10, description="Share by which the boundary is stepped over")
    candidates: int = Field(10, ge=2, le=1_000, description="Likeliest classes that are looked at")
    iterative: ClassVar[bool] = True
    minimal: ClassVar[bool] = True
    place: ClassVar[int] = 700

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """The first point on the wrong side."""
        kind = {"inf": "LinfDeepFoolAttack", "2": "L2DeepFoolAttack"}[self.norm]
        settings = {"steps": self.max_iter, "overshoot": self.overshoot, "candidates": self.candidates}
        return _smallest(kind, model, x, y, None, settings)


class Ddn(Targeted):
    """Gradient steps whose direction and length are found apart (Rony et al. 2019, algorithm 1)."""

    name: Literal["ddn"] = "ddn"
    norm: Literal["2"] = Field("2", description="Norm that is made small")
    max_iter: int = Field(100, ge=1, le=100_000, description="Steps")
    init_epsilon: float = Field(1.0, gt=0, le=100, description="First length of the perturbation")
    gamma: float = Field(0.05, gt=0, lt=1, description="Share by which the length grows or shrinks")
    iterative: ClassVar[bool] = True
    minimal: ClassVar[bool] = True
    place: ClassVar[int] = 710

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """The shortest perturbation on the wrong side."""
        settings = {"steps": self.max_iter, "init_epsilon": self.init_epsilon, "gamma": self.gamma}
        return _smallest("DDNAttack", model, x, self.aims(y, model.nb_classes), self.target, settings)


class Fmn(Targeted):
    """The fast minimum norm attack: steps held to a ball that closes in on the boundary (Pintor et al. 2021).

    Foolbox's; in L2 with a projection of ours, as its own (3.3.4) divides a length by itself and projects nothing,
    which costs half as much again in distance.
    """

    name: Literal["fmn"] = "fmn"
    norm: Norm = Field("inf", description="Norm that is made small")
    max_iter: int = Field(100, ge=1, le=100_000, description="Steps")
    eps_step: float = Field(1.0, gt=0, le=100, description="L2 length of the first step; falls to a hundredth")
    gamma: float = Field(0.05, gt=0, lt=1, description="Share by which the ball first grows or shrinks; falls to 0.001")
    iterative: ClassVar[bool] = True
    minimal: ClassVar[bool] = True
    place: ClassVar[int] = 720

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """The shortest perturbation on the wrong side."""
        kind = "LInfFMNAttack" if self.norm == "inf" else _l2_fmn(model.clip_values)
        settings = {"steps": self.max_iter, "max_stepsize": self.eps_step, "gamma": self.gamma}
        return _smallest(kind, model, x, self.aims(y, model.nb_classes), self.target, settings)


def _smallest(
    kind: str | Callable[..., Any],
    model: WhiteBox,
    x: Images,
    aims: Labels,
    target: int | None,
    settings: dict[str, Any],
) -> Crafted:
    """Foolbox's images; the clean ones where it has none: NaN, or Carlini & Wagner's empty image."""
    made = foolbox_images(kind, model, x, aims, None, targeted=target is not None, **settings)
    flat = made.images.reshape(len(x), -1)
    none = ~(np.isfinite(flat).all(axis=1) & flat.any(axis=1))
    return replace(made, images=np.where(none.reshape(-1, 1, 1, 1), x, made.images))


def _l2_fmn(bounds: tuple[float, float]) -> Callable[..., Any]:
    import tensorflow as tf

    class Projected(import_foolbox().attacks.L2FMNAttack):  # type: ignore[misc]
        def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
            clean = x0.numpy()
            projected = into_ball_and_box(x.numpy() - clean, clean, epsilon.numpy(), bounds)
            return type(x)(tf.constant(clean + projected))

    return Projected


def into_ball_and_box(delta: Images, clean: Images, radius: NDArray[Any], bounds: tuple[float, float]) -> Images:
    """The perturbations nearest to `delta` (n, h, w, c), at most `radius` (n,) long, that leave `clean` in `bounds`.

    Each is `delta` times a number in [0, 1], then clipped (the Lagrange condition of that projection). Clipping after
    the ball instead shortens a step until it never gets through: one image in ten of the digits was not fooled.
    """

    def shrunk(by: NDArray[Any]) -> Images:
        return np.asarray(np.clip(clean + by.reshape(-1, 1, 1, 1) * delta, *bounds) - clean, np.float32)

    low, high = np.zeros(len(delta)), np.ones(len(delta))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        long = lengths(shrunk(middle), "2") > radius
        low, high = np.where(long, low, middle), np.where(long, middle, high)
    return shrunk(high)
