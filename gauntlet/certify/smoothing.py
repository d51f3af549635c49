"""A certificate for the smoothed model: the class that the model gives most often under Gaussian noise."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet import limits
from gauntlet.certify.base import Certifier, Proven
from gauntlet.models.access import Access, Target
from gauntlet.threat import Images, Labels

CHUNK = 1_024
"""Noisy images asked about at once."""


class Smoothing(Certifier):
    """Randomised smoothing (Cohen, Rosenfeld, Kolter, Certified Adversarial Robustness via Randomized Smoothing, 2019).

    The radius sigma * Phi^-1(p) holds for the smoothed model, not for the model that is attacked: it bounds no attack
    of this evaluation. p is the Clopper-Pearson lower bound of the true class's share; an image whose bound is at most
    one half is an abstention and counts as not certified.
    """

    name: Literal["smoothing"] = "smoothing"
    norm: Literal["2"] = Field("2", description="Norm of the budget")
    sigma: float = Field(0.25, gt=0, le=10, description="Standard deviation of the noise; pixels are in [0, 1]")
    draws: int = Field(1_000, ge=10, le=1_000_000, description="Noisy copies of each image that are counted")
    first: int = Field(100, ge=1, le=10_000, description="Noisy copies that choose the class")
    alpha: float = Field(0.001, gt=0, lt=0.5, description="Chance that the certificate of an image is wrong")

    access: ClassVar[Access] = "labels"
    itself: ClassVar[bool] = False

    def prove(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Proven:
        """Images of whose smoothed class, if it is the true one, the certified radius is at least `eps`."""
        return (
            np.array(
                [self.radius(target, one, int(label), seed, i) for i, (one, label) in enumerate(zip(x, y, strict=True))]
            )
            >= eps
        )

    def radius(self, target: Target, image: np.ndarray, label: int, seed: int, number: int) -> float:
        """The certified radius of one image (h, w, c); -1 when the smoothed class is wrong or not sure enough."""
        from scipy.stats import beta, norm

        rng = np.random.default_rng([seed, number])
        chosen = np.bincount(self._labels(target, image, self.first, rng), minlength=target.nb_classes).argmax()
        if chosen != label:
            return -1.0
        count = int((self._labels(target, image, self.draws, rng) == label).sum())
        low = float(beta.ppf(self.alpha, count, self.draws - count + 1)) if count else 0.0
        return self.sigma * float(norm.ppf(low)) if low > 0.5 else -1.0

    def _labels(self, target: Target, image: np.ndarray, n: int, rng: np.random.Generator) -> Labels:
        """Predicted classes of `n` noisy copies; the noise is not clipped, as the theorem wants it."""
        labels = []
        for start in range(0, n, CHUNK):
            limits.check()
            size = min(CHUNK, n - start)
            noise = rng.standard_normal((size, *image.shape), np.float32)
            labels.append(target.labels(image[None] + np.float32(self.sigma) * noise))
        return np.concatenate(labels)
