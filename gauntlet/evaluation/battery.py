"""Run several attacks at several budgets: each on all images, or as a cascade on what the ones before left correct."""

from __future__ import annotations

import math
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
from gauntlet.declare import check_once
from gauntlet.errors import SettingError
from gauntlet.evaluation.outcome import Attacked, Knowledge, labelled
from gauntlet.evaluation.shards import SHARD, Bench, Hands, OneByOne, Piece, Shard, scored
from gauntlet.limits import GIB, MAX_GIB, MAX_SECONDS, SECONDS
from gauntlet.measurement import budget
from gauntlet.models.access import Access, Target
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import Budget, Images, Labels

Subset = Callable[[int | None], NDArray[np.int64]]
"""Positions of so many test images; None for all."""
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

    def subsets(self, available: int) -> int:
        """How many choices of test images follow each other before the first comes again; 1 where all are taken.

        >>> Battery(n=300).subsets(1_000), Battery(n=600).subsets(1_000)
        (3, 1)
        """
        sizes = {self.images(one, available) or available for one in self.attack}
        return math.lcm(*(available // size for size in sizes))

    def check(self, shape: tuple[int, ...], available: int) -> None:
        """Raise `SettingError` for budgets and numbers of images that cannot be meant on images of `shape`."""
        for name in ("attack", "certify", "eps"):
            check_once(getattr(self, name), name)
        if self.n is not None and self.n > available:
            raise SettingError(f"{self.n:,} images of a test set of {available:,}", where="n", fix="ask for fewer")
        for one in self.attack:
            budgets = one.budgets(self.eps, shape[-1])
            check_once(budgets, f"budgets of {one.name}")
            for eps in budgets:
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
        certificates = []
        for number, (one, eps) in enumerate(asked):
            progress(f"{one.name} at {budget(eps)}", number / len(asked))
            with limits.within(f"the certificate {one.name}", self.max_seconds, self.max_memory):
                certificates.append(certify(one, job.target, job.x, job.y, eps, job.seed, index))
        return certificates


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
    hands: Hands = field(default_factory=OneByOne)
    """Who makes the shards: this process, or workers."""

    @property
    def bench(self) -> Bench:
        """What shards are attacked on."""
        return Bench(self.target, self.seed, self.source)

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
    results, proven = list[Attacked](), spared(certified, len(job.x)) if battery.is_cascade else {}
    survivors: dict[tuple[str, float], Attacked] = {}
    stages, count = _stages(battery, job.hands), len(battery.attack)
    for number, stage in stages:
        step = part(progress, number / count, (number + len(stage)) / count)
        plans = [_planned(battery, one, job, subset, survivors, proven) for one in stage]
        names = ", ".join(one.name for one in stage)
        with limits.within(f"the attack {names}", len(stage) * battery.max_seconds, battery.max_memory):
            results += _gathered(plans, job, step)
        if battery.is_cascade:
            survivors |= {(r.attack.norm, r.eps): r for r in results[-len(plans[0].budgets) :] if r.attack.adversary}
    return labelled(results)


def _stages(battery: Battery, hands: Hands) -> list[tuple[int, list[Attack]]]:
    """What is attacked with at a time, and how many attacks are before it: a cascade goes attack by attack."""
    attacks = battery.ordered()
    if hands.several and not battery.is_cascade:
        return [(0, attacks)]
    return [(number, [one]) for number, one in enumerate(attacks)]


def _planned(
    battery: Battery,
    one: Attack,
    job: Job,
    subset: Subset,
    survivors: Mapping[tuple[str, float], Attacked],
    proven: Mapping[tuple[str, float], NDArray[np.bool_]],
) -> Plan:
    """An attack at its budgets, on its images."""
    budgets, index = one.budgets(battery.eps, job.x.shape[-1]), subset(battery.images(one, len(job.x)))
    at = [eps for eps in budgets if one.adversary]
    before = {eps: survivors[one.norm, eps] for eps in at if (one.norm, eps) in survivors}
    known = {eps: proven[one.norm, eps] for eps in at if (one.norm, eps) in proven}
    return plan(one, job, index, budgets, before, known, (battery.max_seconds, battery.max_memory))


def spared(certified: Sequence[Certified], n: int) -> dict[tuple[str, float], NDArray[np.bool_]]:
    """Of `n` test images those that are certified, by norm and budget."""
    masks: dict[tuple[str, float], NDArray[np.bool_]] = {}
    for one in (one for one in certified if one.certifier.itself):
        mask = masks.setdefault((one.certifier.norm, one.eps), np.zeros(n, bool))
        mask[one.index[one.proven]] = True
    return masks


@dataclass(frozen=True)
class Plan:
    """One attack at several budgets, cut into shards."""

    attack: Attack
    index: NDArray[np.int64]
    budgets: Sequence[float]
    tried: Mapping[float, NDArray[np.bool_]]
    before: Mapping[float, Attacked]
    shards: list[Shard]


def plan(
    attack: Attack,
    job: Job,
    index: NDArray[np.int64],
    budgets: Sequence[float],
    before: Mapping[float, Attacked] | None = None,
    proven: Mapping[float, NDArray[np.bool_]] | None = None,
    most: tuple[float, float] = (SECONDS, GIB),
) -> Plan:
    """One attack at several budgets on the test images `index`; of those in `before`, on the ones still correct.

    Images that are `proven` at a budget (of all test images) are not tried at it. `most` are seconds and GiB.
    """
    before, proven = before or {}, proven or {}
    tried = {eps: before[eps].robust if eps in before else np.ones(len(index), bool) for eps in budgets}
    tried |= {eps: tried[eps] & ~known[index] for eps, known in proven.items()}
    shards = []
    for start in range(0, len(index), job.hands.size):
        rows = slice(start, start + job.hands.size)
        at = index[rows]
        for together in [tuple(budgets)] if attack.minimal else [(eps,) for eps in budgets]:
            masks = {eps: tried[eps][rows] for eps in together}
            shards.append(Shard(attack, at, (job.x, job.y), at, masks, start, *most))
    return Plan(attack, index, budgets, tried, before, shards)


def attack_all(
    attack: Attack, job: Job, index: NDArray[np.int64], budgets: Sequence[float], progress: Progress = silent
) -> list[Attacked]:
    """One attack at several budgets on the test images `index`."""
    return _gathered([plan(attack, job, index, budgets)], job, progress)


def _gathered(plans: Sequence[Plan], job: Job, progress: Progress) -> list[Attacked]:
    """Every shard's pieces, from the checkpoint or made and kept there, put together budget by budget."""
    shards = [shard for plan in plans for shard in plan.shards]
    facts = f"{job.seed} {job.knowledge}"
    pieces = [_known(job, shard, facts) for shard in shards]
    missing = [place for place, known in enumerate(pieces) if known is None]
    for done, (number, fresh) in enumerate(job.hands.make(job.bench, [shards[place] for place in missing]), 1):
        place = missing[number]
        for key, piece in zip(shards[place].keys(facts), fresh, strict=True):
            job.checkpoint.save(key, piece)
        pieces[place] = [_lean(piece, shards[place].start, job.keep) for piece in fresh]
        progress(f"{shards[place].attack.name}, {done:,} of {len(missing):,} shards", done / len(missing))
    each = iter([known or [] for known in pieces])
    return [result for plan in plans for result in _results(plan, job, [next(each) for _ in plan.shards])]


def _known(job: Job, shard: Shard, facts: str) -> list[Piece] | None:
    """The pieces of a shard that the checkpoint has, when it has all of them."""
    pieces = [piece for key in shard.keys(facts) if (piece := job.checkpoint.load(key)) is not None]
    return [_lean(piece, shard.start, job.keep) for piece in pieces] if len(pieces) == len(shard.tried) else None


def _lean(piece: Piece, start: int, keep: int | None) -> Piece:
    """A piece with the images that are among the first `keep` of its attack alone."""
    return piece if keep is None else piece | {"images": piece["images"][: max(0, keep - start)]}


def _results(plan: Plan, job: Job, made: Sequence[Sequence[Piece]]) -> list[Attacked]:
    """The pieces of all shards as one result a budget; what was not tried is as the attack before left it."""
    by_budget: dict[float, list[Piece]] = {eps: [] for eps in plan.budgets}
    for shard, pieces in zip(plan.shards, made, strict=True):
        for eps, piece in zip(shard.tried, pieces, strict=True):
            by_budget[eps].append(piece)
    return [_result(plan, job, eps, by_budget[eps]) for eps in plan.budgets]


def _result(plan: Plan, job: Job, eps: float, pieces: Sequence[Piece]) -> Attacked:
    columns: dict[str, Any] = {
        name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0] if name != "seconds"
    }
    index, tried, before = plan.index, plan.tried[eps], plan.before.get(eps)
    if before is not None:
        left = {name: getattr(before, name) for name in ("predictions", "linf", "l2", "losses", "images")}
        for name, old in left.items():
            mask = tried[: len(old)].reshape(-1, *(1,) * (old.ndim - 1))
            columns[name] = np.where(mask, columns[name], old)
    facts: dict[str, Any] = {"attack": plan.attack, "eps": eps, "knowledge": job.knowledge, "index": index}
    facts |= {"labels": job.y[index], "clean_predictions": job.clean[index], "distance": columns.pop("distance", None)}
    seconds = float(sum(piece["seconds"] for piece in pieces))
    return Attacked(**facts, **columns, tried=tried, seconds=seconds)


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
    outcome = scored(job.target, job.x[index], job.y[index], images)
    return Attacked(**facts, **outcome, seconds=0.0)
