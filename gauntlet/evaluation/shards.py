"""A shard: some test images under one attack, at one budget. What is made of it does not depend on where it is made."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack
from gauntlet.limits import GIB, SECONDS
from gauntlet.models.access import Target
from gauntlet.models.outputs import cross_entropies
from gauntlet.threat import Images, Labels, lengths

SHARD = 1_024
"""Images that an attack gets at once, and a piece of a checkpoint: bounds the memory."""
Piece = dict[str, Any]
"""What was made of a shard at one budget: columns with a row per image, and the seconds that it took."""


@dataclass(frozen=True)
class Bench:
    """What shards are attacked on."""

    target: Target
    """The model that is scored."""
    seed: int
    source: Target | None = None
    """The model that images are made against, when it is not the one that is scored."""


@dataclass(frozen=True)
class Shard:
    """The images at `index` (n,) of a test set, which are at `rows` (n,) of the `data` that is at hand."""

    attack: Attack
    index: NDArray[np.int64]
    data: tuple[Images, Labels] = field(repr=False)
    """(m, h, w, c) and (m,)."""
    rows: NDArray[np.int64]
    tried: Mapping[float, NDArray[np.bool_]]
    """By budget, which of the images are tried, (n,). Several budgets only where one search serves them all."""
    start: int = 0
    """Its first row among the images of the attack."""
    seconds: float = SECONDS
    gib: float = GIB
    """Limits of the attack as a whole; and of the process it is made in."""

    @property
    def x(self) -> Images:
        """Its images, (n, h, w, c): a copy."""
        return self.data[0][self.rows]

    @property
    def y(self) -> Labels:
        """Their labels, (n,)."""
        return self.data[1][self.rows]

    def alone(self) -> Shard:
        """The same with no more data than its own images: to be sent."""
        return replace(self, data=(self.x, self.y), rows=np.arange(len(self.rows)))

    def digest(self) -> str:
        """SHA-256 (hex) of its images, labels and positions."""
        parts = self.x, self.y, self.index
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    def keys(self, facts: str) -> list[str]:
        """What tells each of its pieces from all others, given the `facts` that all shards share."""
        tried = [f"{eps!r} {mask.tobytes().hex()}" for eps, mask in self.tried.items()]
        mine = " ".join([self.attack.model_dump_json(), *tried])
        return [f"{mine} {eps!r} {self.index.tobytes().hex()} {facts}" for eps in self.tried]


class Hands(Protocol):
    """Who makes pieces of shards."""

    size: int
    """Images of a shard."""
    several: bool
    """Whether shards are made side by side, so that they are best asked for all at once."""

    def make(self, bench: Bench, shards: Sequence[Shard]) -> Iterator[tuple[int, list[Piece]]]:
        """The place of a shard and its pieces, one a budget, in whatever order they are done; each shard once."""


class OneByOne:
    """This process, one shard after the other."""

    size, several = SHARD, False

    def make(self, bench: Bench, shards: Sequence[Shard]) -> Iterator[tuple[int, list[Piece]]]:
        """In order, each when it is asked for."""
        for place, shard in enumerate(shards):
            yield place, made(bench, shard)


def made(bench: Bench, shard: Shard) -> list[Piece]:
    """Per budget: images, calls and outcomes of the images that are tried; the others have their clean ones."""
    attack, x, pieces, smallest = shard.attack, shard.x, list[Piece](), None
    for eps, mask in shard.tried.items():
        started = time.perf_counter()
        images, calls = x.copy(), np.zeros(len(x), np.int64)
        if attack.minimal:
            # One search serves all budgets: its images are cut back to each of them.
            smallest = smallest or crafted(bench, shard, np.logical_or.reduce(list(shard.tried.values())), eps)
        if mask.any():
            images, calls = _cut(shard, mask, eps, smallest, bench) if smallest else crafted(bench, shard, mask, eps)
        piece = scored(bench.target, x, shard.y, images) | {"calls": calls}
        if smallest and attack.norm in ("inf", "2"):
            piece["distance"] = np.where(mask, _distances(bench, shard, smallest[0]), np.nan)
        pieces.append(piece | {"seconds": np.float64(time.perf_counter() - started)})
    return pieces


def _cut(
    shard: Shard, mask: NDArray[np.bool_], eps: float, smallest: tuple[Images, NDArray[np.int64]], bench: Bench
) -> tuple[Images, NDArray[np.int64]]:
    """The smallest perturbations of the rows of `mask`, cut back to a budget; clean images of the others."""
    images, calls = shard.x, np.where(mask, smallest[1], 0)
    images[mask] = shard.attack.clip(smallest[0][mask], images[mask], eps, bench.target.clip_values)
    return images, calls


def crafted(bench: Bench, shard: Shard, mask: NDArray[np.bool_], eps: float) -> tuple[Images, NDArray[np.int64]]:
    """Attacked images and calls of the rows of `mask`, clean images and none of the others.

    A search for the smallest perturbation has no budget.
    """
    attack, x = shard.attack, shard.x
    images, calls = x.copy(), np.zeros(len(x), np.int64)
    if mask.any():
        make = attack.smallest if attack.minimal else attack.run
        done = make(bench.source or bench.target, x[mask], shard.y[mask], eps, bench.seed, shard.index[mask])
        images[mask], calls[mask] = done.images, done.calls
    return images, calls


def scored(target: Target, x: Images, y: Labels, images: Images) -> Piece:
    """What a model makes of `images` of the clean `x`; the perturbation is measured here."""
    scores = target.predict(images)
    return {
        "images": images,
        "predictions": scores.argmax(axis=1).astype(np.int64),
        "losses": cross_entropies(scores, y),
        "linf": lengths(images - x, "inf"),
        "l2": lengths(images - x, "2"),
    }


def _distances(bench: Bench, shard: Shard, smallest: Images) -> NDArray[np.float64]:
    """The norm of the smallest perturbations, infinite where the image is not fooled."""
    norm: Any = shard.attack.norm
    wrong = bench.target.labels(smallest) != shard.y
    return np.where(wrong, lengths(smallest - shard.x, norm), np.inf)
