"""The replay bank: adversarial images that fooled an earlier model, tried on every later one before new attacks.

One forward pass per image gives a lower bound on the damage, and a cascade has fewer images to attack.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack
from gauntlet.attacks.base import Crafted
from gauntlet.attacks.streams import Streams
from gauntlet.errors import SettingError
from gauntlet.evaluation.battery import Job, rescored
from gauntlet.evaluation.outcome import Attacked
from gauntlet.models.access import Access, Target
from gauntlet.threat import TOLERANCE, Images, Labels, Norm, lengths


class Replay(Attack):
    """Images of the bank, in the place of an attack: the worst of them for each test image within the budget."""

    name: Literal["replay"] = "replay"
    norm: Norm = "inf"
    access: ClassVar[Access] = "labels"

    def craft(self, model: Target, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Nothing is made here: `Bank.replay` looks them up."""
        raise NotImplementedError


@dataclass(frozen=True)
class Bank:
    """Adversarial images with the test images that they are of; all arrays have a row per entry."""

    images: Images
    index: NDArray[np.int64]
    """Positions in the test set."""
    attack: NDArray[np.str_]
    norm: NDArray[np.str_]
    eps: NDArray[np.float64]
    digest: NDArray[np.str_]
    """Of position and pixels: an entry's name, so that none is kept twice."""

    def __len__(self) -> int:
        """The number of entries."""
        return len(self.index)

    def to_bytes(self) -> bytes:
        """The bank as `.npz`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> Bank:
        """A bank read back; `SettingError` unless every entry is what its digest says, and of this image shape."""
        bank = cls(**{f.name: arrays[f.name] for f in fields(cls)})
        named = [_digest(int(i), image) for i, image in zip(bank.index, bank.images, strict=True)]
        if bank.images.shape[1:] != shape or named != bank.digest.tolist():
            raise SettingError("the replay bank is damaged or of another data set", where="bank", fix="remove its run")
        return bank

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Bank:
        """No entries of images of `shape`."""
        text, number = np.array([], "<U64"), np.array([], np.int64)
        return cls(np.zeros((0, *shape), np.float32), number, text, text, number.astype(np.float64), text)

    @classmethod
    def gathered(cls, results: Iterable[Attacked], shape: tuple[int, ...], known: Bank) -> Bank:
        """The images with which attacks broke a model and which are not in `known`; results must have kept them all."""
        banks, seen = [cls.empty(shape)], set(known.digest.tolist())
        for r in results:
            if not r.attack.adversary or r.attack.norm not in ("inf", "2") or isinstance(r.attack, Replay):
                continue
            rows = np.flatnonzero(r.broken)
            named = np.array([_digest(int(r.index[row]), r.images[row]) for row in rows], "<U64")
            fresh = np.array([name not in seen for name in named], bool)
            seen |= set(named.tolist())
            n = int(fresh.sum())
            makers = np.full(n, r.attack.name), np.full(n, r.attack.norm), np.full(n, r.eps)
            banks.append(cls(r.images[rows[fresh]], r.index[rows[fresh]], *makers, named[fresh]))
        return cls.joined(banks)

    @classmethod
    def joined(cls, banks: Sequence[Bank]) -> Bank:
        """All entries, each once."""
        columns = {f.name: np.concatenate([getattr(bank, f.name) for bank in banks]) for f in fields(cls)}
        first = np.sort(np.unique(columns["digest"], return_index=True)[1])
        return cls(**{name: column[first] for name, column in columns.items()})

    def replay(self, job: Job, index: NDArray[np.int64], budgets: Sequence[tuple[Norm, float]]) -> list[Attacked]:
        """What the bank does to the test images `index` at each (norm, eps): one forward pass an entry."""
        wanted = np.flatnonzero(np.isin(self.index, index))
        images, at = self.images[wanted], self.index[wanted]
        wrong = job.target.labels(images) != job.y[at] if len(at) else np.zeros(0, bool)
        rows = []
        for norm, eps in budgets:
            fooling = wrong & (lengths(images - job.x[at], norm) <= eps + TOLERANCE)
            tried = job.x[index].copy()
            places = {int(position): row for row, position in enumerate(index)}
            for row in np.flatnonzero(fooling)[::-1]:
                tried[places[int(at[row])]] = images[row]
            result = rescored(Replay(norm=norm), eps, index, tried, job)
            rows.append(_as_of(result, job))
        return rows


def _as_of(result: Attacked, job: Job) -> Attacked:
    """The images stand for an attack on this model: they lie within the budget and fool it."""
    return replace(result, knowledge=job.knowledge, images=result.images[: job.keep])


def _digest(position: int, image: Images) -> str:
    return hashlib.sha256(position.to_bytes(8, "little") + np.ascontiguousarray(image).tobytes()).hexdigest()
