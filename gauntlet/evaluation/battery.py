"""Run several attacks at several budgets: each on all images, or as a cascade on what the ones before left correct."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gauntlet import limits
from gauntlet.attacks import PRESETS, Attack, Attacks, Fgsm, GaussianNoise, Pgd, Square, attack
from gauntlet.certify import AnyCertifier, Certified, certify
from gauntlet.checkpoint import Checkpoint
from gauntlet.errors import SettingError
from gauntlet.evaluation.clean import cross_entropies
from gauntlet.evaluation.outcome import Attacked, Knowledge, labelled
from gauntlet.limits import GIB, MAX_GIB, MAX_SECONDS, SECONDS
from gauntlet.models.access import Access, Target
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import Budget, Images, Labels, lengths

Subset = Callable[[int | None], NDArray[np.int64]]
"""Positions of so many test images; None for all."""
SHARD = 1_024
"""Images that an attack gets at once, and a piece of a checkpoint: bounds the memory."""
ITERATIVE_IMAGES = 1_000
"""Test images that an iterative attack gets when no number is asked for."""


class Battery(BaseModel):
    """Which attacks, at which budgets, on how many images, one by one or as a cascade."""

    model_config = ConfigDict(frozen=True)

    attack: Attacks = ()
    """None for the usual ones."""
    eps: tuple[Budget, ...] = ()
    n: int | None = Field(None, ge=1)
    max_seconds: float = Field(SECONDS, gt=0, le=MAX_SECONDS)
    """Of one attack at all its budgets."""
    max_memory: float = Field(GIB, gt=0, le=MAX_GIB)
    """Of the process, in GiB."""
    cascade: bool | None = None
    certify: tuple[AnyCertifier, ...] = ()
    planted: bool = False
    """Whether the attacks must find adversarial images that are planted (`validity.planted`)."""
    left_out: tuple[str, ...] = ()
    """What was asked for and cannot be done on this data, and why."""

    @property
    def is_cascade(self) -> bool:
        """As told, else whether a preset is among the attacks."""
        names = {one.name for one in self.attack}
        return any(names >= set(preset) for preset in PRESETS.values()) if self.cascade is None else self.cascade

    def ordered(self) -> list[Attack]:
        """The attacks in order: in a cascade by their place, cheap ones first."""
        return sorted(self.attack, key=lambda one: one.place) if self.is_cascade else list(self.attack)

    def filled(self, access: Access) -> Battery:
        """The same with the usual attacks on a model that shows so much, where none is named."""
        return self if self.attack else self.model_copy(update={"attack": usual(access)})

    def fitted(self, n_classes: int) -> Battery:
        """The same without the attacks that need more classes; `SettingError` where no other adversary is left."""
        fits = [one.fitted(n_classes) for one in self.attack]
        attacks = tuple(one for one in fits if one is not None)
        short = [one.name for one, fit in zip(self.attack, fits, strict=True) if fit is None]
        if short and not any(one.adversary for one in attacks):
            what = f"{short[0]} needs more than the {n_classes} classes of this data"
            raise SettingError(what, where="attack", fix="take apgd-ce")
        if attacks == self.attack:
            return self
        out = tuple(f"{name} is left out: it needs more than {n_classes} classes" for name in short)
        changes = {"attack": attacks, "cascade": self.is_cascade, "left_out": (*self.left_out, *out)}
        return self.model_copy(update=changes)

    def without_early_stop(self) -> Battery:
        """The same, for images that are to fool other models."""
        return self.model_copy(update={"attack": tuple(one.without_early_stop() for one in self.attack)})

    def budgets(self, channels: int) -> list[float]:
        """All budgets of all attacks, rising."""
        return sorted({eps for one in self.attack for eps in one.budgets(self.eps, channels)})

    def images(self, one: Attack, available: int) -> int | None:
        """How many test images an attack gets; None for all of them. A cascade's attacks get the same."""
        iterative = any(a.iterative for a in self.attack) if self.is_cascade else one.iterative
        return self.n if self.n is not None else min(ITERATIVE_IMAGES, available) if iterative else None

    def check(self, shape: tuple[int, ...], available: int) -> None:
        """Raise `SettingError` for budgets and numbers of images that cannot be meant on images of `shape`."""
        if double := [one.name for place, one in enumerate(self.attack) if one in self.attack[:place]]:
            raise SettingError(f"{double[0]} is given twice with the same settings", where="attack", fix="give it once")
        if self.n is not None and self.n > available:
            raise SettingError(f"{self.n:,} images of a test set of {available:,}", where="n", fix="ask for fewer")
        for one in self.attack:
            for eps in one.budgets(self.eps, shape[-1]):
                one.check_budget(eps)

    def check_access(self, target: Target, source: Target | None = None) -> None:
        """Raise an `InputError` when the model does not show what an attack or a certificate needs."""
        for one in self.attack:
            one.check_access(source or target)
        for certifier in self.certify:
            certifier.check(target)

    def certified(self, job: Job, subset: Subset, progress: Progress = silent) -> list[Certified]:
        """Every certificate at every budget, on the images that iterative attacks get."""
        index = subset(self.n if self.n is not None else min(ITERATIVE_IMAGES, len(job.x)))
        asked = [(one, eps) for one in self.certify for eps in one.budgets(self.eps, job.x.shape[-1])]
        found = []
        for number, (one, eps) in enumerate(asked):
            progress(f"{one.name} at {eps:g}", number / len(asked))
            with limits.within(f"the certificate {one.name}", self.max_seconds, self.max_memory):
                found.append(certify(one, job.target, job.x, job.y, eps, job.seed, index))
        return found


def usual(access: Access) -> tuple[Attack, ...]:
    """The attacks to try when none is named, on a model that shows so much."""
    strong: dict[Access, tuple[Attack, ...]] = {"gradients": (Fgsm(), Pgd()), "scores": (Square(max_iter=1_000),)}
    return (GaussianNoise(), *strong.get(access, (attack("hopskipjump"),)))


@dataclass(frozen=True)
class Job:
    """One model, its test images, and how the attacks are to be run on them."""

    target: Target
    x: Images
    y: Labels
    clean: Labels
    """Predictions on all of `x`, (len(x),)."""
    seed: int
    source: Target | None = None
    """The model that images are made against, when it is not the one that is scored."""
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    keep: int | None = SHARD
    """Attacked images to keep in memory of each result; None for all."""

    @property
    def knowledge(self) -> Knowledge:
        """What the attacker knows of the model that is scored."""
        return "transfer" if self.source else "white-box" if self.target.access == "gradients" else "black-box"


def run(
    battery: Battery,
    job: Job,
    subset: Subset,
    progress: Progress = silent,
    certified: Sequence[Certified] = (),
) -> list[Attacked]:
    """Every attack at every budget.

    In a cascade the images that an adversary breaks at a budget are spared the later attacks of that norm and budget,
    and those that are `certified` are spared all of them.
    """
    attacks, results = battery.ordered(), list[Attacked]()
    proven = spared(certified, len(job.x)) if battery.is_cascade else {}
    survivors: dict[tuple[str, float], Attacked] = {}
    for number, one in enumerate(attacks):
        step = part(progress, number / len(attacks), (number + 1) / len(attacks))
        budgets = one.budgets(battery.eps, job.x.shape[-1])
        before = {eps: survivors[one.norm, eps] for eps in budgets if (one.norm, eps) in survivors}
        index = subset(battery.images(one, len(job.x)))
        with limits.within(f"the attack {one.name}", battery.max_seconds, battery.max_memory):
            known = {eps: proven[one.norm, eps] for eps in budgets if (one.norm, eps) in proven and one.adversary}
            made = attack_all(one, job, index, budgets, before if one.adversary else {}, known, step)
        for result in made:
            results.append(result)
            if battery.is_cascade and one.adversary:
                survivors[one.norm, result.eps] = result
    return labelled(results)


def spared(certified: Sequence[Certified], n: int) -> dict[tuple[str, float], NDArray[np.bool_]]:
    """Of `n` test images those that are certified, by norm and budget."""
    found: dict[tuple[str, float], NDArray[np.bool_]] = {}
    for one in (one for one in certified if one.certifier.itself):
        mask = found.setdefault((one.certifier.norm, one.eps), np.zeros(n, bool))
        mask[one.index[one.proven]] = True
    return found


def attack_all(
    attack: Attack,
    job: Job,
    index: NDArray[np.int64],
    budgets: Sequence[float],
    before: dict[float, Attacked] | None = None,
    proven: Mapping[float, NDArray[np.bool_]] | None = None,
    progress: Progress = silent,
) -> list[Attacked]:
    """One attack at several budgets on the test images `index`; of those in `before`, on the ones still correct.

    Images that are `proven` at a budget (of all test images) are not tried at it.
    """
    before, proven = before or {}, proven or {}
    tried = {eps: before[eps].robust if eps in before else np.ones(len(index), bool) for eps in budgets}
    tried |= {eps: tried[eps] & ~known[index] for eps, known in proven.items()}
    starts = range(0, len(index), SHARD)
    pieces: dict[float, list[dict[str, Any]]] = {eps: [] for eps in budgets}
    for number, start in enumerate(starts):
        rows = np.arange(start, min(start + SHARD, len(index)))
        made = _piece(attack, job, index[rows], {eps: tried[eps][rows] for eps in budgets})
        for place, eps in enumerate(budgets):
            room = len(index) if job.keep is None else job.keep
            pieces[eps].append(made[place] | {"images": made[place]["images"][: max(0, room - start)]})
        progress(f"{attack.name}, {min(start + SHARD, len(index)):,} of {len(index):,}", (number + 1) / len(starts))
    return [_result(attack, job, index, eps, pieces[eps], tried[eps], before.get(eps)) for eps in budgets]


def _piece(
    attack: Attack, job: Job, index: NDArray[np.int64], tried: dict[float, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """One shard at every budget: from the checkpoint, or made, scored and kept there."""
    facts = [attack.model_dump_json(), *(f"{eps!r} {mask.tobytes().hex()}" for eps, mask in tried.items())]
    keys = [" ".join([*facts, repr(eps), index.tobytes().hex(), str(job.seed), job.knowledge]) for eps in tried]
    known = [piece for key in keys if (piece := job.checkpoint.load(key)) is not None]
    if len(known) == len(keys):
        return known
    made = _made(attack, job, index, tried)
    for key, piece in zip(keys, made, strict=True):
        job.checkpoint.save(key, piece)
    return made


def _made(
    attack: Attack, job: Job, index: NDArray[np.int64], tried: dict[float, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """Per budget: images, calls and outcomes of the images that are tried; the others have their clean ones."""
    found, smallest = [], None
    for eps, mask in tried.items():
        started, x = time.perf_counter(), job.x[index]
        images, calls = x.copy(), np.zeros(len(x), np.int64)
        if attack.minimal:
            # One search serves all budgets: its images are cut back to each of them.
            smallest = smallest or _craft(attack, job, index, np.logical_or.reduce(list(tried.values())), eps)
            images[mask] = attack.clip(smallest[0][mask], x[mask], eps, job.target.clip_values)
            calls[mask] = smallest[1][mask]
        elif mask.any():
            images, calls = _craft(attack, job, index, mask, eps)
        scored = _scored(job, index, images) | {"calls": calls}
        if smallest and attack.norm in ("inf", "2"):
            scored["distance"] = np.where(mask, _distances(attack, job, index, smallest[0]), np.nan)
        found.append(scored | {"seconds": np.float64(time.perf_counter() - started)})
    return found


def _craft(
    attack: Attack, job: Job, index: NDArray[np.int64], mask: NDArray[np.bool_], eps: float
) -> tuple[Images, NDArray[np.int64]]:
    """Attacked images and calls of the rows of `mask`, clean images and none of the others.

    A search for the smallest perturbation has no budget.
    """
    x, y = job.x[index], job.y[index]
    images, calls = x.copy(), np.zeros(len(x), np.int64)
    if mask.any():
        make = attack.smallest if attack.minimal else attack.run
        made = make(job.source or job.target, x[mask], y[mask], eps, job.seed, index[mask])
        images[mask], calls[mask] = made.images, made.calls
    return images, calls


def _scored(job: Job, index: NDArray[np.int64], images: Images) -> dict[str, Any]:
    """What the scored model makes of images; the perturbation is measured here, not believed."""
    clean, labels = job.x[index], job.y[index]
    scores = job.target.predict(images)
    return {
        "images": images,
        "predictions": scores.argmax(axis=1).astype(np.int64),
        "losses": cross_entropies(scores, labels),
        "linf": lengths(images - clean, "inf"),
        "l2": lengths(images - clean, "2"),
    }


def _distances(attack: Attack, job: Job, index: NDArray[np.int64], smallest: Images) -> NDArray[np.float64]:
    """The norm of the smallest perturbations, infinite where the image is not fooled."""
    norm: Any = attack.norm
    wrong = job.target.labels(smallest) != job.y[index]
    return np.where(wrong, lengths(smallest - job.x[index], norm), np.inf)


def _result(
    attack: Attack,
    job: Job,
    index: NDArray[np.int64],
    eps: float,
    pieces: list[dict[str, Any]],
    tried: NDArray[np.bool_],
    before: Attacked | None,
) -> Attacked:
    """The pieces of all shards as one result; what was not tried is as the attack before left it."""
    columns: dict[str, Any] = {
        name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0] if name != "seconds"
    }
    if before is not None:
        left = {name: getattr(before, name) for name in ("predictions", "linf", "l2", "losses", "images")}
        for name, old in left.items():
            mask = tried[: len(old)].reshape(-1, *(1,) * (old.ndim - 1))
            columns[name] = np.where(mask, columns[name], old)
    facts: dict[str, Any] = {"attack": attack, "eps": eps, "knowledge": job.knowledge, "index": index, "tried": tried}
    facts |= {"labels": job.y[index], "clean_predictions": job.clean[index], "distance": columns.pop("distance", None)}
    return Attacked(**facts, **columns, seconds=float(sum(piece["seconds"] for piece in pieces)))


def rescored(attack: Attack, eps: float, index: NDArray[np.int64], images: Images, job: Job) -> Attacked:
    """Images that were made before, scored on another model: a transfer."""
    nothing = np.zeros(len(index), np.int64)
    facts: dict[str, Any] = {
        "attack": attack,
        "eps": eps,
        "knowledge": "transfer",
        "index": index,
        "labels": job.y[index],
    }
    facts |= {"tried": nothing == 0, "calls": nothing, "clean_predictions": job.clean[index], "distance": None}
    return Attacked(**facts, **_scored(job, index, images), seconds=0.0)
