"""The fast gradient sign method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.attacks.base import Crafted, Targeted, art_norm, one_hot
from gauntlet.attacks.libraries import Library, foolbox_images
from gauntlet.attacks.streams import Streams
from gauntlet.threat import Images, Labels, Norm

if TYPE_CHECKING:
    from gauntlet.models.classifier import WhiteBox


class Fgsm(Targeted):
    """Fast gradient sign method, one step of the full budget (Goodfellow et al. 2015, section 4)."""

    name: Literal["fgsm"] = "fgsm"
    norm: Norm = Field("inf", description="Norm of the budget")
    library: Library = Field("art", description="Whose implementation; the images are the same")
    place: ClassVar[int] = 100

    def craft(self, model: WhiteBox, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """FastGradientMethod with true labels and no random start."""
        aims, targeted = self.aims(y, model.nb_classes), self.target is not None
        if self.library == "foolbox":
            # Its fast gradient attacks refuse a target; the first step of these is the same.
            kind = {"inf": "LinfBasicIterativeAttack", "2": "L2BasicIterativeAttack"}[self.norm]
            step: dict[str, Any] = {"steps": 1, "rel_stepsize": 1.0, "random_start": False}
            return foolbox_images(kind, model, x, aims, eps, targeted=targeted, **step)
        from art.attacks.evasion import FastGradientMethod

        from gauntlet.models.classifier import CHUNK

        settings = {"norm": art_norm(self.norm), "eps": eps, "num_random_init": 0, "batch_size": CHUNK}
        attack = FastGradientMethod(model, targeted=targeted, **settings)
        images = np.asarray(attack.generate(x, y=one_hot(aims, model.nb_classes)))
        return Crafted(images, np.ones(len(x), np.int64))
