"""HopSkipJump: a walk along the decision boundary with labels alone."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from gauntlet.attacks.base import Attack, Crafted, art_norm, global_seed, one_hot
from gauntlet.attacks.streams import Streams
from gauntlet.models.access import Access, Target
from gauntlet.threat import Images, Labels, Norm, lengths

PER_STEP = 200
"""Queries of a step beside those for its direction: two searches that halve, a few dozen in practice."""


class HopSkipJump(Attack):
    """Directions estimated from labels around points on the boundary (Chen et al. 2020, algorithm 2).

    ART's, image by image, from starts of ours (its own cannot be seeded). What counts is the nearest wrong point that
    was asked about: ART returns the last one, half a step away from the boundary.
    """

    name: Literal["hopskipjump"] = "hopskipjump"
    norm: Norm = Field("inf", description="Norm that is made small")
    max_iter: int = Field(10, ge=1, le=1_000, description="Steps along the boundary")
    max_eval: int = Field(1_000, ge=1, le=100_000, description="Most queries for the direction of a step")
    init_eval: int = Field(100, ge=1, le=100_000, description="Queries for the first direction; more for later ones")
    init_size: int = Field(100, ge=1, le=100_000, description="Random images tried as a start")
    iterative: ClassVar[bool] = True
    minimal: ClassVar[bool] = True
    access: ClassVar[Access] = "labels"
    place: ClassVar[int] = 800

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """The nearest wrong point of each image's own walk."""
        images, calls = x.copy(), np.zeros(len(x), np.int64)
        for row in range(len(x)):
            asked = _Asked(model, x[row], int(y[row]), self.norm, self._most())
            start = self._start(asked, streams, row)
            if start is not None:
                self._walk(asked, start, int(streams.seeds(np.array([row]))[0]))
            images[row], calls[row] = asked.nearest, asked.calls
        return Crafted(images, calls)

    def _most(self) -> int:
        """Queries after which an image is left: the search for a step's length may never end."""
        return self.init_size + self.max_iter * (self.max_eval + PER_STEP)

    def _start(self, asked: _Asked, streams: Streams, row: int) -> Images | None:
        """A wrong point (1, h, w, c); None where the image itself is one, or none was found.

        Random fields of a random size: a model takes all fine noise for the same class, and that class's images would
        seem robust.
        """
        if asked.wrong(asked.clean):
            return None
        rows, (height, width, channels) = np.array([row]), asked.clean.shape
        for _ in range(self.init_size):
            side = int(streams.uniform(rows, 1, max(height, width))[0])
            fields = streams.uniform(rows, *asked.bounds, (height // side + 1, width // side + 1, channels))
            image = fields.repeat(side, axis=1).repeat(side, axis=2)[:, :height, :width]
            if asked.wrong(image[0]):
                return image
        return None

    def _walk(self, asked: _Asked, start: Images, seed: int) -> None:
        """ART's attack, which draws from NumPy's global generator."""
        from art.attacks.evasion import HopSkipJump as Theirs
        from art.estimators.classification import BlackBoxClassifier

        box = BlackBoxClassifier(asked, asked.clean.shape, asked.n_classes, clip_values=asked.bounds)
        evaluations = {"init_eval": min(self.init_eval, self.max_eval), "max_eval": self.max_eval}
        attack = Theirs(box, 128, False, art_norm(self.norm), self.max_iter, verbose=False, **evaluations)
        truth = one_hot(np.array([asked.label]), asked.n_classes)
        try:
            with global_seed(seed):
                attack.generate(asked.clean[None], y=truth, x_adv_init=start)
        except _SpentError:
            return


class _SpentError(Exception):
    """More queries than an image may take."""


class _Asked:
    """A model's labels around one image: counts the queries, remembers the nearest wrong point."""

    def __init__(self, model: Target, clean: Images, label: int, norm: Norm, most: int) -> None:
        self.clean, self.label, self.n_classes, self.bounds = clean, label, model.nb_classes, model.clip_values
        self.nearest, self.calls = clean, 0
        self._model, self._norm, self._most, self._distance = model, norm, most, np.inf

    def __call__(self, x: Images) -> Images:
        """Labels of images (n, h, w, c), one-hot as ART wants them."""
        if self.calls >= self._most:
            raise _SpentError
        x = x.astype(np.float32)
        labels = self._model.labels(x)
        self.calls += len(x)
        wrong = x[labels != self.label]
        if len(wrong):
            sizes = lengths(wrong - self.clean, self._norm)
            if sizes.min() < self._distance:
                self.nearest, self._distance = wrong[sizes.argmin()], sizes.min()
        return one_hot(labels, self.n_classes)

    def wrong(self, image: Images) -> bool:
        """Whether an image (h, w, c) is not of the true class."""
        return bool(self(image[None]).argmax() != self.label)
