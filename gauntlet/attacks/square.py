"""The square attack: random search with scores alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gauntlet.attacks.base import Crafted, Targeted
from gauntlet.attacks.search import Search, State, walk
from gauntlet.attacks.streams import Rows, Streams
from gauntlet.models.access import Access, Target
from gauntlet.threat import Images, Labels, Norm, ThreatModel

HALVINGS = (10, 50, 200, 500, 1_000, 2_000, 4_000, 6_000, 8_000)
"""Queries, of 10,000, after which the squares' area is halved (section 4 and supplement)."""


class Square(Targeted):
    """Random squares that are kept when the margin shrinks (Andriushchenko et al. 2020); needs scores, no gradient.

    Ours, as ART's draws one square for a whole batch, goes on with fooled images and returns NaN in L2.
    """

    name: Literal["square"] = "square"
    norm: Norm = Field("inf", description="Norm of the budget")
    max_iter: int = Field(5_000, ge=1, le=1_000_000, description="Queries of each run")
    p_init: float = Field(0.8, gt=0, le=1, description="Share of the image that the first squares cover")
    num_random_init: int = Field(1, ge=1, le=100, description="Random starts")
    iterative: ClassVar[bool] = True
    access: ClassVar[Access] = "scores"
    place: ClassVar[int] = 500

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Search with `max_iter` queries an image."""
        from gauntlet.models.classifier import CHUNK

        threat = ThreatModel(norm=self.norm, eps=eps, bounds=model.clip_values)
        aimed = None if self.target is None else self.aims(y, model.nb_classes)
        kind = _LinfSquares if self.norm == "inf" else _L2Squares
        settings = threat, streams, self.max_iter - 1, self.num_random_init
        return walk(kind(model, x, y, aimed, *settings, self), CHUNK)

    def side(self, query: int, height: int, width: int) -> int:
        """The side of a square, in pixels, at a query."""
        rescaled = int(query / self.max_iter * 10_000)
        area = self.p_init / 2 ** sum(rescaled > step for step in HALVINGS)
        return min(max(round(np.sqrt(area * height * width)), 1), height, width)


class _Scores(NamedTuple):
    logits: Images


@dataclass
class _Squares(Search):
    attack: Square = field(default_factory=Square)

    def ask(self, state: State) -> _Scores:
        return _Scores(self.model.predict(state["x"]))

    def start(self, rows: Rows, run: Rows) -> State:
        clean = self.clean[rows]
        x = self._first(rows, clean)
        return {"x": x, "kept": x, "margin": np.full(len(rows), np.inf, np.float32)}

    def move(self, state: State, answer: _Scores) -> None:
        margin = self.gap(state, answer.logits)
        better = margin < state["margin"]
        state["margin"] = np.minimum(margin, state["margin"])
        state["kept"] = np.where(better.reshape(-1, 1, 1, 1), state["x"], state["kept"])
        state["x"] = self._next(state["row"], state["kept"], self.clean[state["row"]], state["step"])

    def _first(self, rows: Rows, clean: Images) -> Images:
        raise NotImplementedError

    def _next(self, rows: Rows, kept: Images, clean: Images, steps: Rows) -> Images:
        raise NotImplementedError

    def _signs(self, rows: Rows, shape: tuple[int, ...]) -> Images:
        """-1 or 1 with the same chance."""
        return np.where(self.streams.uniform(rows, 0, 1, shape) < 0.5, -1, 1).astype(np.float32)

    def _corner(self, rows: Rows, side: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Where squares of these sides may begin along an axis of `length` pixels."""
        return (self.streams.uniform(rows, 0, 1) * (length - side + 1)).astype(np.int64)


class _LinfSquares(_Squares):
    def _first(self, rows: Rows, clean: Images) -> Images:
        """Vertical stripes of the whole budget."""
        stripes = self._signs(rows, (1, *clean.shape[2:]))
        return self.threat.project(clean + np.float32(self.threat.eps) * stripes, clean)

    def _next(self, rows: Rows, kept: Images, clean: Images, steps: Rows) -> Images:
        """One square more, of one sign in each channel."""
        _, height, width, channels = clean.shape
        side = np.array([self.attack.side(int(step), height, width) for step in steps])
        inside = _between(self._corner(rows, side, height), side, height)[:, :, None, None]
        inside = inside & _between(self._corner(rows, side, width), side, width)[:, None, :, None]
        sign = self._signs(rows, (1, 1, channels))
        return self.threat.project(kept + np.float32(2 * self.threat.eps) * sign * inside, clean)


def _between(start: NDArray[np.int64], side: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Which of `length` pixels lie in [start, start + side): (n, length)."""
    at = np.arange(length)[None]
    return (at >= start[:, None]) & (at < (start + side)[:, None])


class _L2Squares(_Squares):
    def _first(self, rows: Rows, clean: Images) -> Images:
        """A grid of bumps, five to a side."""
        _, height, width, channels = clean.shape
        side = max(min(height, width) // 5, 1)
        delta = np.zeros_like(clean)
        for top in range((height % side) // 2, height - side + 1, side):
            for left in range((width % side) // 2, width - side + 1, side):
                sign, turned = self._signs(rows, (1, 1, channels)), self._signs(rows, ()) > 0
                delta[:, top : top + side, left : left + side] += bumps(side, turned) * sign
        return self._scaled(delta, clean)

    def _next(self, rows: Rows, kept: Images, clean: Images, steps: Rows) -> Images:
        """Move the budget of one window to another, with a bump added there."""
        _, height, width, channels = clean.shape
        side = np.array([max(self.attack.side(int(step), height, width), 3) for step in steps])
        side = np.minimum(side + (side % 2 == 0), min(height, width))
        corners = [self._corner(rows, side, length) for length in (height, width, height, width)]
        sign, turned = self._signs(rows, (1, 1, channels)), self._signs(rows, ()) > 0
        delta = kept - clean
        for n in range(len(rows)):
            top, left, top2, left2 = (int(corner[n]) for corner in corners)
            here = np.s_[top : top + side[n], left : left + side[n]]
            there = np.s_[top2 : top2 + side[n], left2 : left2 + side[n]]
            _shift(delta[n], here, there, bumps(int(side[n]), turned[n : n + 1])[0] * sign[n], self.threat.eps)
        return self._scaled(delta, clean)

    def _scaled(self, delta: Images, clean: Images) -> Images:
        """Images at the whole budget, clipped to the bounds."""
        size = np.sqrt((delta.astype(np.float64) ** 2).sum(axis=(1, 2, 3), keepdims=True))
        return np.clip(clean + self.threat.eps * delta / np.maximum(size, 1e-12), *self.threat.bounds).astype(
            np.float32
        )


def _shift(delta: Images, here: tuple[slice, ...], there: tuple[slice, ...], bump: Images, eps: float) -> None:
    """Give the window `here` a bump and the budget that the window `there` and the unspent rest leave (algorithm 3)."""
    both = np.zeros(delta.shape[:2], bool)
    both[here] = both[there] = True
    unspent = max(eps**2 - float((delta**2).sum()), 0) / delta.shape[2]
    old = delta[here]
    fresh = bump + old / (1e-12 + np.sqrt((old**2).sum(axis=(0, 1), keepdims=True)))
    budget = np.sqrt(unspent + (delta[both] ** 2).sum(axis=0))
    delta[there] = 0
    delta[here] = fresh / (1e-12 + np.sqrt((fresh**2).sum(axis=(0, 1), keepdims=True))) * budget


def bumps(side: int, turned: NDArray[np.bool_]) -> Images:
    """Two opposite bumps of length one, side by side or, where `turned`, one below the other: (n, side, side, 1)."""
    one = _bump(side)
    return np.where(turned.reshape(-1, 1, 1), one.T, one)[..., None]


@lru_cache(maxsize=512)
def _bump(side: int) -> Images:
    """The upper half a bump, the lower half its opposite; of length one."""
    whole = np.concatenate([_pyramid(side // 2, side), -_pyramid(side - side // 2, side)])
    return (whole / np.sqrt((whole**2).sum())).astype(np.float32)


def _pyramid(height: int, width: int) -> NDArray[np.float64]:
    """Nested rectangles around the middle; the n-th adds 1 / n² (supplement, equation of the initial shape)."""
    perturbation = np.zeros((height, width))
    for n in range(max(height, width) // 2 + 1):
        top, left = height // 2 - n, width // 2 - n
        perturbation[max(top, 0) : top + 2 * n + 1, max(left, 0) : left + 2 * n + 1] += 1 / (n + 1) ** 2
    return perturbation
