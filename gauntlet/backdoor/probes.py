"""Small patches tried everywhere: needs no gradients, only the class that a model names.

The patches that published backdoors use are few: bright, dark, grey and chequered squares, mostly near a corner. Each
is put into a few images at every place of a coarse grid; what is counted is how many images of other classes go to
each class, and how many leave their own. On a clean model some patch looks like a part of a digit and moves some
images, so that here, too, the reference decides what is much.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.backdoor.triggers import Floats, Found
from gauntlet.progress import Progress, silent
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.models.access import Target

EDGES = (0, 1)
"""Pixels from a border at which patches are tried beside the grid's."""


class Probes(BaseModel):
    """Which patches are tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(32, ge=4, le=10_000, description="Images that each patch is put into")
    sides: tuple[float, ...] = Field((1 / 14, 1 / 9, 1 / 6), min_length=1, description="Shares of the image's height")
    grid: int = Field(3, ge=1, le=100, description="Places along each axis")


def probe(model: Target, x: Images, y: Labels, settings: Probes, seed: int = 0, progress: Progress = silent) -> Found:
    """For each goal the patch that sends most images (n, h, w, c) there; values are -logits of the share."""
    rows = np.random.default_rng(seed).permutation(len(x))[: settings.images]
    x, y, k = x[rows], y[rows], model.nb_classes
    others = np.maximum((y[:, None] != np.arange(k + 1)).sum(axis=0), 1)
    clean = model.labels(x)
    tried = list(patches(x.shape[1:], model.clip_values, settings))
    best, chosen = np.full(k + 1, -1), [tried[0]] * (k + 1)
    for number, (mask, pattern) in enumerate(tried):
        said = model.labels((x + mask * (pattern - x)).astype(np.float32))
        there = said[(said != y) & (said != clean)]
        moved = np.append(np.bincount(there, minlength=k)[:k], len(there))
        for goal in np.flatnonzero(moved > best):
            best[goal], chosen[goal] = moved[goal], (mask, pattern)
        progress(f"probes: {number + 1} of {len(tried)} patches", (number + 1) / len(tried))
    values = -np.log((best + 0.5) / (others - best + 0.5))
    masks, patterns = (np.stack(part).astype(np.float32) for part in zip(*chosen, strict=True))
    return Found("probe", "pixels", masks.sum(axis=(1, 2, 3), dtype=np.float64), values, masks, patterns)


def patches(shape: tuple[int, ...], bounds: tuple[float, float], settings: Probes) -> Iterator[tuple[Floats, Floats]]:
    """Mask (h, w, 1) and pattern (h, w, c) of every patch on images of `shape` (h, w, c)."""
    height, width = shape[:2]
    low, high = bounds
    chequers = np.indices((height, width)).sum(axis=0) % 2
    squares = [np.ones((height, width)), np.zeros((height, width)), chequers, 1 - chequers]
    textures = [
        np.repeat((low + (high - low) * one)[..., None], shape[2], axis=2).astype(np.float32) for one in squares
    ]
    for side in sorted({max(1, round(share * min(height, width))) for share in settings.sides}):
        for row in _places(height, side, settings.grid):
            for column in _places(width, side, settings.grid):
                mask = np.zeros((height, width, 1), np.float32)
                mask[row : row + side, column : column + side] = 1
                for texture in textures:
                    yield mask, texture


def _places(length: int, side: int, grid: int) -> list[int]:
    """Where a patch begins along an axis: a grid, and close to both ends."""
    last = length - side
    ends = [place for edge in EDGES for place in (edge, last - edge)]
    return sorted({round(place) for place in np.linspace(0, last, grid)} | {one for one in ends if 0 <= one <= last})
