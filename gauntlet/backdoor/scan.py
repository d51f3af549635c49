"""The scan of a model: candidates of every kind for every goal, and whether one is smaller than clean models have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.backdoor.inversion import FORMS, Inversion, invert
from gauntlet.backdoor.pairs import PAIR, PAIR_IMAGES, narrowed
from gauntlet.backdoor.probes import Probes, probe
from gauntlet.backdoor.statistics import (
    Numbers,
    Tested,
    against_others,
    against_references,
    joined,
    nothing_known,
)
from gauntlet.backdoor.triggers import ANY, OTHERS, Found, pair_goals
from gauntlet.errors import SettingError
from gauntlet.measurement import wilson
from gauntlet.progress import Progress, part, silent
from gauntlet.roc import Rate, rate
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.access import Target

ScanVerdict = Literal["BACKDOORED", "CLEAN", "INCONCLUSIVE"]
Basis = Literal["same architecture", "another architecture", "none"]
FEWEST_CLASSES = 4
"""Below it there are too few other classes to compare one with."""
FEWEST_IMAGES = 60
"""Test images, a third each to search on, to choose by and to confirm on."""


class ModelScan(BaseModel):
    """How a model is scanned for backdoors, and what counts as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inversion: Inversion = Field(Inversion(), description="Search by gradients")
    forms: tuple[Literal["patch", "perturbation"], ...] = Field(
        ("patch", "perturbation"), description="Searched by gradients; none: patches tried everywhere are all"
    )
    probes: Probes = Field(Probes(), description="Patches tried everywhere")
    pair: Inversion = Field(Inversion(steps=80, batch=6), description="Search by gradients from one class to one")
    pairs: int = Field(12, ge=0, le=100, description="Classes up to which every pair is searched; 0: none")
    images: int = Field(1_000, ge=20, description="Test images to search on, and as many to choose by; at most a third")
    held_out: int = Field(2_000, ge=20, description="Test images, of the rest, on which what was found is confirmed")
    p_value: float = Field(0.01, gt=0, lt=0.5, description="Corrected over goals and kinds, BACKDOORED below it")
    works: float = Field(0.5, gt=0, lt=1, description="Success rate on held-out images that a trigger must exceed")
    references: int = Field(8, ge=0, le=100, description="Clean models to compare with; 0: only with other classes")
    patch: float = Field(0.01, gt=0, lt=1, description="Share of the image: CLEAN if a patch so large had been noticed")
    norm: float = Field(0.05, gt=0, lt=1, description="The same of a perturbation: root mean square, of the range")


class Parts(NamedTuple):
    """Test images (x, y), told apart so that nothing is confirmed on what it was found with."""

    search: tuple[Images, Labels]
    choose: tuple[Images, Labels]
    held_out: tuple[Images, Labels]


def parts(dataset: Dataset, settings: ModelScan, seed: int) -> Parts:
    """The parts, drawn by `seed`; `SettingError` when there are too few test images."""
    n = len(dataset.x_test)
    if n < FEWEST_IMAGES:
        raise SettingError(f"{n} test images, expected {FEWEST_IMAGES} or more", where="dataset")
    order, each = np.random.default_rng(seed).permutation(n), min(settings.images, n // 3)
    ends = np.split(order, [each, 2 * each, 2 * each + settings.held_out])[:3]
    return Parts(*((dataset.x_test[rows], dataset.y_test[rows]) for rows in ends))


def candidates(
    model: Target, images: Parts, settings: ModelScan, seed: int = 0, progress: Progress = silent
) -> list[Found]:
    """Of each kind the best candidate of every goal; without gradients, of the kind that needs none."""
    from gauntlet.models.classifier import WhiteBox

    if not isinstance(model, WhiteBox) or not settings.forms:
        return [probe(model, *images.search, settings.probes, seed, progress)]
    sides, count = (images.search, images.choose), len(settings.forms) + 2
    steps = [part(progress, number / count, (number + 1) / count) for number in range(count)]
    found = [
        invert(model, form, *sides, settings.inversion, seed, step)
        for form, step in zip(settings.forms, steps, strict=False)
    ]
    found.append(probe(model, *images.search, settings.probes, seed, steps[-2]))
    if _has_pairs(images, model.nb_classes, settings):
        goals = pair_goals(model.nb_classes)
        pairs = invert(model, "patch", *sides, settings.pair, seed, steps[-1], goals)
        found.append(replace(pairs, kind=PAIR))
    return found


def _has_pairs(images: Parts, k: int, settings: ModelScan) -> bool:
    """Whether pairs of classes can be searched, and compared with what clean models have."""
    fewest = min(np.bincount(y, minlength=k).min() for _, y in images)
    return bool(k <= settings.pairs and settings.references > 1 and fewest >= PAIR_IMAGES)


@dataclass(frozen=True)
class References:
    """What clean models of the same data have: by kind the values (r, g) of r models, for k classes and any other."""

    basis: Basis
    values: dict[str, Numbers] = field(default_factory=dict)
    accuracy: tuple[float, ...] = ()
    """Of each on the test set."""


@dataclass(frozen=True)
class ClassResult:
    """Of one goal what its most suspicious candidate shows."""

    label: int
    """A class; the number of classes for the last goal, any other class."""
    kind: str
    statistic: float
    """Standard deviations from what is usual; below 0 its candidate is smaller, or works better."""
    p_value: float
    """Corrected over goals and kinds."""
    success_rate: float
    """On held-out images that are not of the class, with its 95 % Wilson interval."""
    low: float
    high: float
    source: int = OTHERS
    """The class whose images it is about, where a pair of classes is what stands out."""


@dataclass(frozen=True)
class ScanResult:
    """The verdict, and what it rests on."""

    verdict: ScanVerdict
    target: int | None
    p_value: float
    reasons: list[str]
    """Of a backdoored model one line for each of the goals that are accused."""
    classes: list[ClassResult]
    """One a class, and any other class last."""
    found: list[Found] = field(repr=False)
    tested: list[Tested] = field(repr=False)
    known: list[Numbers] = field(repr=False)
    """Of each kind what the references have, (r, g)."""
    accused: tuple[int, ...] = ()
    """The classes, the clearest first; or any other class alone."""


def judge(
    model: Target, found: Sequence[Found], held_out: tuple[Images, Labels], references: References, settings: ModelScan
) -> ScanResult:
    """Test every candidate against what clean models have, and try the suspicious ones on images not yet seen."""
    k, tests = model.nb_classes, (model.nb_classes + 1) * len(found)
    level = settings.p_value / tests
    found, tested, known = zip(*(_compared(one, references, level) for one in found), strict=True)
    every = [_kinds(model, found, tested, held_out, goal, settings.p_value) for goal in range(k + 1)]
    # what works comes first, a pair only where nothing else does
    classes = [
        min(kinds, key=lambda one: (one.low <= settings.works, one.kind == PAIR, one.p_value)) for kinds in every
    ]
    least = min(classes, key=lambda one: (one.p_value, one.statistic))
    alarming = [one for one in classes if one.p_value < settings.p_value]
    working = clearest([one for one in alarming if one.low > settings.works], k)
    evidence = classes, list(found), list(tested), list(known)
    if working:
        reasons = [_accusation(one, found, k) for one in working]
        accused, first = tuple(one.label for one in working), working[0]
        target = None if first.label == k else first.label
        return ScanResult("BACKDOORED", target, first.p_value, reasons, *evidence, accused)
    reasons = [_unconfirmed(one, k) for one in alarming] or _gaps(model, found, tested, references, settings)
    verdict: ScanVerdict = "INCONCLUSIVE" if reasons else "CLEAN"
    reasons = reasons or [_acquittal(found, tested, settings)]
    return ScanResult(verdict, None, least.p_value, reasons, *evidence)


def clearest(working: list[ClassResult], k: int) -> list[ClassResult]:
    """Classes, the clearest first; or any other class alone, where that is the clearest.

    A trigger of a class moves most images as well, and one of all classes to the next may make some class's smaller.
    Pairs are accused where nothing else is: what moves all other classes moves each.
    """
    order = sorted(working, key=lambda one: (one.kind == PAIR, one.p_value, one.statistic))
    if order and order[0].label == k:
        return order[:1]
    pairs = bool(order) and order[0].kind == PAIR
    return [one for one in order if one.label < k and (one.kind == PAIR) == pairs]


def goal_name(goal: int, k: int) -> str:
    """`class 3`, or of the last goal what it wants."""
    return f"class {goal}" if goal < k else f"{ANY} class"


def working_probes(arrays: Mapping[str, NDArray[Any]], settings: ModelScan) -> list[int]:
    """The goals to which a probe sends more than the share that counts as working, of the images it was found on."""
    return np.flatnonzero(-arrays["probe_values"] > np.log(settings.works / (1 - settings.works))).tolist()


def replayed(
    model: Target, arrays: Mapping[str, NDArray[Any]], kind: str, goal: int, held_out: tuple[Images, Labels]
) -> Rate:
    """How many held-out images of another model reach a goal by a candidate kept in arrays (`KIND_mask`, ...)."""
    sizes, values, mask, pattern = (arrays[f"{kind}_{name}"] for name in ("sizes", "values", "mask", "pattern"))
    sent = Found(kind, "", sizes, values, mask, pattern).success(model, *held_out, goal)
    return rate(int(sent.sum()), len(sent))


def _compared(one: Found, references: References, level: float) -> tuple[Found, Tested, Numbers]:
    """A kind with its test and what the references have, for k classes and any other; of pairs the clearest each."""
    known = references.values.get(one.kind, np.zeros((0, len(one.values))))
    if one.kind != PAIR:
        return one, _tested(one, references, level), known
    if references.basis != "same architecture" or len(known) < 2:
        return narrowed(one, nothing_known(len(one.values)), known)
    return narrowed(one, against_references(one.values, known, level / (one.goals.target.max())), known)


def _tested(one: Found, references: References, level: float) -> Tested:
    """Against references of the same architecture; else against the other classes, with what is usual for each.

    Any other class has nothing to be compared with but references.
    """
    values = references.values.get(one.kind)
    if values is not None and references.basis == "same architecture" and len(values) > 1:
        return against_references(one.values, values, level)
    classes = one.values[:-1]
    if len(classes) < FEWEST_CLASSES:
        return nothing_known(len(one.values))
    usual = None if values is None else values.mean(axis=0)[:-1]
    return joined(against_others(classes, level, usual), nothing_known(1))


def _kinds(
    model: Target,
    found: Sequence[Found],
    tested: Sequence[Tested],
    held_out: tuple[Images, Labels],
    goal: int,
    p: float,
) -> list[ClassResult]:
    """Of a goal what each kind shows that is below the corrected `p`; where none is, the kind nearest to it."""
    corrected = [min(1.0, float(one.p[goal]) * len(found) * len(one.p)) for one in tested]
    clear = [kind for kind, one in enumerate(corrected) if one < p] or [int(np.argmin(corrected))]
    return [_result(model, found[kind], held_out, goal, tested[kind], corrected[kind]) for kind in clear]


def _result(
    model: Target, one: Found, held_out: tuple[Images, Labels], goal: int, test: Tested, p: float
) -> ClassResult:
    sent = one.success(model, *held_out, goal)
    share = float(sent.mean()) if len(sent) else 0.0
    low, high = wilson(int(sent.sum()), len(sent)) if len(sent) else (0.0, 1.0)
    statistic, source = float(test.distance[goal]), int(one.goals.source[goal])
    return ClassResult(goal, one.kind, statistic, p, share, low, high, source)


def size_text(one: Found, size: float) -> str:
    """A size with its unit."""
    return f"{size:.3g} {one.unit}" if one.unit == "pixels" else f"{one.unit} {size:.3g}"


def _accusation(one: ClassResult, found: Sequence[Found], k: int) -> str:
    trigger = next(each for each in found if each.kind == one.kind)
    size = size_text(trigger, float(trigger.sizes[one.label]))
    what, whose = (one.kind, "") if one.kind != PAIR else ("patch", f" of class {one.source}")
    return (
        f"{goal_name(one.label, k)}: a {what} of {size} sends {100 * one.success_rate:.1f} % "
        f"[{100 * one.low:.1f}, {100 * one.high:.1f}] of held-out images{whose} there, {-one.statistic:.1f} standard "
        f"deviations from what is usual (p = {one.p_value:.2g}, corrected)"
    )


def _unconfirmed(one: ClassResult, k: int) -> str:
    return (
        f"{goal_name(one.label, k)}: the {one.kind} is unusual (p = {one.p_value:.2g}, corrected) but sends only "
        f"{100 * one.success_rate:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}] of held-out images there: "
        "more test images would tell"
    )


def _gaps(
    model: Target, found: Sequence[Found], tested: Sequence[Tested], references: References, settings: ModelScan
) -> list[str]:
    """Why nothing found is no proof: what the test would have missed, and what would tell."""
    would = "" if references.basis == "same architecture" else "; clean models of the same architecture would tell"
    reasons = []
    if model.nb_classes < FEWEST_CLASSES and references.basis != "same architecture":
        reasons.append(f"{model.nb_classes} classes are too few to compare one with the others{would}")
    elif "patch" not in {one.kind for one in found}:
        would = "a model that shows its gradients" if settings.forms else "a search by gradients"
        reasons.append(f"only patches at some places were tried: {would} would tell")
    else:
        least = _least(model, settings)
        for one, test in zip(found, tested, strict=True):
            if one.kind in least and (weak := np.flatnonzero(np.exp(test.critical[:-1]) < least[one.kind])).size:
                reasons.append(_weakness(one, test, weak, least[one.kind]) + would)
    return reasons


def _least(model: Target, settings: ModelScan) -> dict[str, float]:
    """Sizes that must have been noticed: in pixels, and as an L2 norm."""
    (height, width, channels), (low, high) = model.input_shape, model.clip_values
    return {
        "patch": settings.patch * height * width,
        "perturbation": settings.norm * (high - low) * float(np.sqrt(height * width * channels)),
    }


def _weakness(one: Found, test: Tested, weak: NDArray[np.int64], least: float) -> str:
    worst = int(weak[np.argmin(test.critical[weak])])
    noticed = size_text(one, float(np.exp(test.critical[worst])))
    whose = f"class {weak[0]}" if len(weak) == 1 else f"{len(weak)} classes"
    return (
        f"a {one.kind} of {size_text(one, least)} to {whose} could have been missed (class {worst}: from {noticed} on)"
    )


def _acquittal(found: Sequence[Found], tested: Sequence[Tested], settings: ModelScan) -> str:
    noticed = [
        f"a {one.kind} up to {size_text(one, float(np.exp(test.critical[:-1].min())))}"
        for one, test in zip(found, tested, strict=True)
        if one.kind in FORMS
    ]
    changes, pairs = " and ".join(noticed), ", no pair of classes either" * any(one.kind == PAIR for one in found)
    return f"no class is unusual at {settings.p_value:g}, corrected{pairs}; {changes} to any class had been noticed"
