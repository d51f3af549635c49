"""Rotations and translations: every one of a grid, the worst for each image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gauntlet.attacks.base import Attack, Crafted
from gauntlet.attacks.search import margin
from gauntlet.attacks.streams import Streams
from gauntlet.errors import SettingError
from gauntlet.models.access import Access, Target, suffices
from gauntlet.threat import Images, Labels


class Move(NamedTuple):
    """A rotation about the centre, then a shift."""

    degrees: float
    down: float
    """Share of the height."""
    right: float
    """Share of the width."""


class Spatial(Attack):
    """Rotation and translation by grid search (Engstrom et al. 2019, section 3.2); its budget scales both.

    Ours, as ART's looks for one move of the whole batch and Foolbox's wants a TensorFlow model.
    """

    name: Literal["spatial"] = "spatial"
    norm: Literal["spatial"] = Field("spatial", description="Moved, not perturbed: its budget is a share of the moves")
    rotation: float = Field(30.0, ge=0, le=180, description="Largest rotation either way, in degrees")
    translation: float = Field(0.1, ge=0, le=1, description="Largest shift along each axis, as a share of the side")
    angles: int = Field(11, ge=1, le=1_000, description="Rotations tried")
    shifts: int = Field(5, ge=1, le=100, description="Shifts tried along each axis")
    strength: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="Shares of the largest rotation and shift"
    )
    iterative: ClassVar[bool] = True
    access: ClassVar[Access] = "labels"
    place: ClassVar[int] = 600

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """The first move that fools; otherwise the one with the lowest margin, or without scores the last one."""
        images, calls = x.copy(), np.zeros(len(x), np.int64)
        closest, left = np.full(len(x), np.inf, np.float32), np.arange(len(x))
        for move in self.moves(eps):
            tried = moved(x[left], move, model.clip_values[0])
            gap = _gaps(model, tried, y[left])
            better = gap <= closest[left]
            images[left[better]], closest[left[better]] = tried[better], gap[better]
            calls[left] += 1
            left = left[gap > -np.inf]
            if not len(left):
                break
        return Crafted(images, calls)

    def moves(self, eps: float) -> list[Move]:
        """The grid, the farthest moves first: they fool the most."""
        turns, steps = _spread(eps * self.rotation, self.angles), _spread(eps * self.translation, self.shifts)
        grid = [Move(*move) for move in product(turns, steps, steps)]
        return sorted(grid, key=lambda move: -sum(map(abs, (move.degrees / 180, move.down, move.right))))

    def clip(self, images: Images, x: Images, eps: float, bounds: tuple[float, float]) -> Images:
        """Within the bounds; a moved image is far away in every norm."""
        return np.clip(images, *bounds).astype(np.float32)

    def budgets(self, asked: Sequence[float], channels: int) -> tuple[float, ...]:
        """Its own strengths: a bound of the norm says nothing about them."""
        return self.strength

    def check_budget(self, eps: float) -> None:
        """Raise `SettingError` unless it is a share."""
        if not 0 < eps <= 1:
            where, fix = f"eps of {self.name}", "a share of its rotation and translation"
            raise SettingError(f"a strength of {eps:g} is not in (0, 1]", where=where, fix=fix)


def _spread(largest: float, n: int) -> list[float]:
    """`n` values from one end to the other; nothing but 0 if there is only one."""
    return [0.0] if n == 1 else [float(value) for value in np.linspace(-largest, largest, n)]


def _gaps(model: Target, x: Images, y: Labels) -> NDArray[np.float32]:
    """How far images are from being wrong, (n,): minus infinity where they are, the same for all without scores."""
    if suffices(model.access, "scores"):
        scores = model.predict(x)
        return np.where(scores.argmax(axis=1) != y, -np.inf, margin(scores, y)).astype(np.float32)
    return np.where(model.labels(x) != y, -np.inf, 0).astype(np.float32)


def moved(x: Images, move: Move, fill: float) -> Images:
    """Images (n, h, w, c) turned counter-clockwise and shifted, bilinear; `fill` comes in from outside."""
    from scipy.ndimage import affine_transform

    _, height, width, _ = x.shape
    cos, sin = np.cos(np.deg2rad(move.degrees)), np.sin(np.deg2rad(move.degrees))
    # From a pixel of the result back to where it came from; channels stay.
    back = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2, 0])
    shift = np.array([move.down * height, move.right * width, 0])
    offset = centre - back @ (centre + shift)
    turned = [affine_transform(image, back, offset, order=1, mode="constant", cval=fill) for image in x]
    return np.stack(turned).astype(np.float32)
