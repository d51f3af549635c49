"""The way that an attack went: every point it asked about, image by image, and what the model says there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack
from gauntlet.attacks.search import margin
from gauntlet.evaluation.outcome import Attacked
from gauntlet.threat import TOLERANCE, Images, Labels, lengths
from gauntlet.validity.samples import Sample
from gauntlet.validity.stakes import at_stake, mine

IMAGES = 24
"""Images that an attack is followed on."""
CALLS = 400
"""Gradients an image up to which it is followed."""


@dataclass(frozen=True)
class Followed:
    """Of `n` images that all attacks left correct, each followed on its own way."""

    after: Attacked
    n: int
    silent: int
    """Broken at a point within the budget, while another was returned."""
    rising: int
    """Would be broken by as many steps again, at the pace of the last quarter."""
    robust: float
    """The share of all images that the attacks left."""

    def sample(self, count: int) -> Sample:
        """So many of the images followed."""
        return Sample(count, self.n)


def followed(model: Any, x: Images, y: Labels, results: Sequence[Attacked], seed: int) -> Iterator[Followed]:
    """Each gradient attack of each norm, where images are at stake, on a few of those that all attacks left."""
    for case in at_stake(results):
        rows = np.random.default_rng(0).permutation(case.index[case.robust])[:IMAGES]
        for after in (r for r in mine(case, results) if _followable(r)):
            kept, ways = curves(model, after.attack, x[rows], y[rows], after.eps, seed, rows)
            if any(len(way) for way in ways):
                silent = sum(bool(left and (way < 0).any()) for left, way in zip(kept, ways, strict=True))
                rising = sum(bool(left and rises(way)) for left, way in zip(kept, ways, strict=True))
                yield Followed(after, len(rows), silent, rising, float(case.robust.mean()))


def _followable(result: Attacked) -> bool:
    attack = result.attack
    untargeted = getattr(attack, "target", None) is None
    descends = attack.iterative and attack.access == "gradients" and not attack.minimal
    return descends and untargeted and attack.norm in ("inf", "2") and bool(result.calls.max() <= CALLS)


def curves(
    model: Any, attack: Attack, x: Images, y: Labels, eps: float, seed: int, rows: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[NDArray[np.float32]]]:
    """Attack images (n, h, w, c): which are still correct (n,), and each one's margins at the points asked about.

    A point belongs to the only image within whose budget it lies; points beyond all budgets, or within two, to none.
    """
    watched, points = watch(model)
    made = attack.run(watched, x, y, eps, seed, rows).images
    owner = np.concatenate([np.zeros(0, np.int64), *(_owners(batch, x, attack.norm, eps) for batch in points)])
    way = np.concatenate([x[:0], *points])[owner >= 0]
    owner = owner[owner >= 0]
    margins = margin(model.predict(way), y[owner]) if len(way) else np.zeros(0, np.float32)
    return model.labels(made) == y, [margins[owner == row] for row in range(len(x))]


def _owners(points: Images, x: Images, norm: Any, eps: float) -> NDArray[np.int64]:
    """Of each point the one image of `x` that is so near, -1 where it is none or several."""
    near = np.stack([lengths(points - image, norm) <= eps + TOLERANCE for image in x], axis=1)
    return np.where(near.sum(axis=1) == 1, near.argmax(axis=1), -1)


def rises(margins: NDArray[np.floating[Any]]) -> bool:
    """Whether a curve of margins (steps,) falls below 0 when the best so far goes on for as many steps at its pace."""
    best, steps = np.minimum.accumulate(margins), len(margins)
    if steps < 4 or best[-1] <= 0:
        return False
    last = max(1, steps // 4)
    return bool(best[-1] - (best[-1 - last] - best[-1]) / last * steps < 0)


def watch(model: Any) -> tuple[Any, list[Images]]:
    """The model once more, and a list to which every point is added that gradients or scores are asked of."""
    points: list[Images] = []

    class Watched(type(model)):  # type: ignore[misc]
        def look(self, x: Any, *rest: Any, **more: Any) -> Any:
            points.append(np.array(x, np.float32))
            return super().look(x, *rest, **more)

        def loss_gradient(self, x: Any, *rest: Any, **more: Any) -> Any:
            points.append(np.array(x, np.float32))
            return super().loss_gradient(x, *rest, **more)

    twin = object.__new__(Watched)
    twin.__dict__.update(model.__dict__)
    return twin, points
