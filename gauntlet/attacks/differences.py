"""Descent along finite differences of the scores: it sees a step that has no gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gauntlet.attacks.base import Crafted, Targeted
from gauntlet.attacks.search import margin
from gauntlet.attacks.streams import Streams
from gauntlet.models.access import Access, Target
from gauntlet.threat import Images, Labels

SHARES, SIZES = (1.0, 0.5, 0.25, 0.1), (2.0, 1.0, 0.5, 0.25)
"""Points tried along an estimate: with so much of the groups that matter most, and steps of so many budgets."""


class FiniteDifferences(Targeted):
    """Descent of the margin by gradients estimated from scores, a group of pixels at a time (Bhagoji et al. 2018).

    A group is a square of pixels in one channel. The difference is between both ends of what the budget lets it be, so
    that a step within the budget is seen (*Practical Black-box Attacks on Deep Neural Networks using Efficient Query
    Mechanisms* takes small differences). Ours, as no library here has it.
    """

    name: Literal["finite-differences"] = "finite-differences"
    norm: Literal["inf"] = Field("inf", description="Norm of the budget")
    max_iter: int = Field(10, ge=1, le=1_000, description="Estimates of the gradient")
    side: int = Field(14, ge=1, le=1_000, description="Groups along each side of the image, of each channel")
    iterative: ClassVar[bool] = True
    access: ClassVar[Access] = "scores"
    place: ClassVar[int] = 510

    def stronger(self) -> FiniteDifferences:
        """The same with groups half as wide: who finds no better point stops long before the last estimate."""
        return self.model_copy(update={"side": 2 * self.side})

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Descend from each image until it is fooled, or no step is better."""
        classes = self.aims(y, model.nb_classes)
        around = [_Around(model, one, int(k), eps, self.target is not None) for one, k in zip(x, classes, strict=True)]
        for one in around:
            self._descend(one)
        images = np.array([one.best for one in around], np.float32).reshape(x.shape)
        return Crafted(images, np.array([one.calls for one in around], np.int64))

    def _descend(self, around: _Around) -> None:
        groups, before = groups_of(around.clean.shape, self.side), np.inf
        around.ask(around.clean[None])
        for _ in range(self.max_iter):
            if not 0 <= around.least < before:
                return
            before, x = around.least, around.best
            around.ask(around.along(x, groups, around.differences(x, groups)))


def groups_of(shape: tuple[int, ...], side: int) -> NDArray[np.int64]:
    """The number of each pixel's group (h, w, c): at most `side` squares along each side, each channel alone."""
    height, width, channels = shape
    down, across = (np.arange(length) * min(side, length) // length for length in (height, width))
    squares = down[:, None] * min(side, width) + across[None]
    return squares[..., None] * channels + np.arange(channels)


@dataclass
class _Around:
    """What the budget holds around one image: answers questions, counts them, and remembers the best point."""

    model: Target
    clean: Images
    """(h, w, c)."""
    label: int
    eps: float
    aimed: bool
    """Whether the label is to be reached, and not to be left."""
    calls: int = 0
    least: float = np.inf
    """The smallest gap so far: below 0 the image is fooled."""
    best: Images = field(init=False)

    def __post_init__(self) -> None:
        self.best, budget = self.clean, np.float32(self.eps)
        self.low, self.high = (np.clip(self.clean + end, *self.model.clip_values) for end in (-budget, budget))

    def ask(self, points: Images) -> NDArray[np.float32]:
        """How far each point (n, h, w, c) is from fooling the model, in logits."""
        gaps = margin(self.model.predict(points), np.full(len(points), self.label)) * (-1 if self.aimed else 1)
        self.calls += len(points)
        if gaps.min() < self.least:
            self.least, self.best = float(gaps.min()), points[gaps.argmin()]
        return gaps

    def differences(self, x: Images, groups: NDArray[np.int64]) -> NDArray[np.float32]:
        """The gap with each group at its upper end, less that at its lower end: (groups,)."""
        from gauntlet.models.classifier import CHUNK

        numbers, found = np.arange(groups.max() + 1), []
        for some in np.array_split(numbers, math.ceil(len(numbers) / CHUNK)):
            inside = groups == some[:, None, None, None]
            found.append(self.ask(np.where(inside, self.high, x)) - self.ask(np.where(inside, self.low, x)))
        return np.concatenate(found)

    def along(self, x: Images, groups: NDArray[np.int64], differences: NDArray[np.float32]) -> Images:
        """Points down the estimate from `x`, with long and short steps, of all groups and of those that matter most."""
        order, points = np.argsort(-np.abs(differences)), []
        for share in SHARES:
            towards = np.zeros_like(differences)
            some = order[: math.ceil(share * np.count_nonzero(differences))]
            towards[some] = -np.sign(differences[some])
            points += [x + np.float32(size * self.eps) * towards[groups] for size in SIZES]
        return np.clip(np.array(points, np.float32), self.low, self.high)
