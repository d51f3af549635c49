"""Attack a model with a battery: every attack at every budget, and the worst case per image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet import limits
from gauntlet.attacks import Attack
from gauntlet.certify import Certified
from gauntlet.checkpoint import Checkpoint, sweep
from gauntlet.evaluation.battery import Battery, Job, rescored
from gauntlet.evaluation.battery import run as run_battery
from gauntlet.evaluation.clean import Clean, evaluate
from gauntlet.evaluation.outcome import Attacked, labelled
from gauntlet.evaluation.parcel import check as check_sendable
from gauntlet.evaluation.provenance import code_digest, identity
from gauntlet.evaluation.shards import SHARD
from gauntlet.models.adapter import INVERTED
from gauntlet.models.loaded import Loaded
from gauntlet.progress import part
from gauntlet.quiet import load_tensorflow
from gauntlet.state import state_dir
from gauntlet.validity import verdicts
from gauntlet.validity.evidence import Evaluation
from gauntlet.validity.notes import notes as notes_of
from gauntlet.validity.probes import probe
from tasks.attacked import AttackFindings, log
from tasks.context import Context
from tasks.progress import shown
from tasks.replay import deposit
from tasks.source import Source
from tasks.stage import step
from tasks.store import origin, tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset


TRUSTED = "trusted: code that came with the model was run; what it measured is only as honest as that code"


@step("attack")
def attack(
    context: Context,
    target: Source,
    battery: Battery,
    *,
    role: str = "model",
    source: Source | None = None,
    images_of: str | None = None,
    save_images: bool = False,
    bank: str | None = None,
) -> str:
    """Attack `target`; returns the run's id. A battery's run holds the worst case, its children one attack each.

    Transfer instead of white-box: images made against `source`, or those that the attack run `images_of` saved.
    What fools the model of weights `bank` is kept for later models.
    """
    load_tensorflow()
    dataset, transfer = context.load(), bool(source or images_of)
    with limits.within("loading the model", battery.max_seconds, battery.max_memory):
        loaded, other = target.load(dataset), source.load(dataset) if source else None
    battery = battery.filled(loaded.classifier.access)
    battery = battery.without_early_stop() if transfer or save_images else battery
    battery.check(dataset.input_shape, len(dataset.x_test))
    battery.check_access(loaded.classifier, other.classifier if other else None)
    if context.workers or context.cluster:
        check_sendable(*(one.classifier for one in (loaded, other) if one))
    name, scenario = f"{'transfer to' if transfer else 'attack'} {role}", _knowledge(loaded, transfer)
    params = _params(context, target, battery, dataset) | {"source": source.model if source else images_of}
    with tracking.run("attack", context, dataset, name=name, model=role, scenario=scenario, params=params) as run:
        with shown(name) as progress:
            with limits.within("the clean evaluation", battery.max_seconds, battery.max_memory):
                clean = evaluate(loaded.classifier, dataset.x_test, dataset.y_test, dataset.class_names)
                job = _job(context, dataset, loaded, clean, other, None if save_images or bank else SHARD)
                job = job if images_of else replace(job, hands=context.hands())
            certified = battery.certified(job, context.images, part(progress, 0, 0.2 * bool(battery.certify)))
            if images_of:
                results = _rescored(battery, job, tracking.arrays(images_of, "adversarial.npz"))
            else:
                rest = part(progress, 0.2 * bool(battery.certify), 1)
                results = run_battery(battery, job, context.images, rest, certified)
        with limits.within("the probes", battery.max_seconds, battery.max_memory):
            findings = _judge(role, dataset, loaded, clean, job, results, certified, battery)
        log(run, context, dataset, findings, params)
        if bank:
            deposit(run, context, dataset, results, bank)
        if save_images:
            run.arrays("adversarial.npz", **_saved(results))
    job.checkpoint.clear()
    return run.id


def _knowledge(loaded: Loaded, transfer: bool) -> str:
    return "transfer" if transfer else "white-box" if loaded.classifier.access == "gradients" else "black-box"


def _params(context: Context, target: Source, battery: Battery, dataset: Dataset) -> dict[str, Any]:
    """The flattened config: what was asked for, with the budgets filled in."""
    asked = battery.model_dump() | {"eps": battery.budgets(dataset.input_shape[-1]), "cascade": battery.is_cascade}
    return context.params() | target.model_dump() | asked


def _job(
    context: Context, dataset: Dataset, loaded: Loaded, clean: Clean, other: Loaded | None, keep: int | None
) -> Job:
    """The model under attack; finished pieces are kept beside the store until the run is logged."""
    sweep(state_dir() / "unfinished")
    checkpoint = _checkpoint([one.classifier for one in (loaded, other) if one], dataset)
    data = dataset.x_test, dataset.y_test, clean.predictions
    return Job(loaded.classifier, *data, context.seed, other.classifier if other else None, checkpoint, keep)


def _checkpoint(models: Sequence[Any], dataset: Dataset) -> Checkpoint:
    """Pieces of these very models, data, code and libraries; without a folder where a model is a black box."""
    facts = [identity(model) for model in models]
    if None in facts:
        return Checkpoint()
    key = " ".join([*map(str, facts), dataset.digest, code_digest(), str(origin.versions())])
    return Checkpoint(state_dir() / "unfinished" / hashlib.sha256(key.encode()).hexdigest()[:32])


def _saved(results: Sequence[Attacked]) -> dict[str, np.ndarray]:
    """Images and their indices, by the attack's settings and budget."""
    arrays: dict[str, np.ndarray] = {}
    for result in results:
        arrays[f"images {_key(result.attack, result.eps)}"] = result.images
        arrays[f"index {_key(result.attack, result.eps)}"] = result.index
    return arrays


def _rescored(battery: Battery, job: Job, saved: Mapping[str, np.ndarray]) -> list[Attacked]:
    """The same images, scored on another model."""
    results = []
    for one in battery.ordered():
        for eps in one.budgets(battery.eps, job.x.shape[-1]):
            images, index = (saved[f"{kind} {_key(one, eps)}"] for kind in ("images", "index"))
            results.append(rescored(one, eps, index, images, job))
    return labelled(results)


def _key(attack: Attack, eps: float) -> str:
    return f"{attack.id} {eps:.6g}"


def _judge(
    role: str,
    dataset: Dataset,
    loaded: Loaded,
    clean: Clean,
    job: Job,
    results: list[Attacked],
    certified: list[Certified],
    battery: Battery,
) -> AttackFindings:
    """The results and what speaks against them."""
    asked: dict[str, Any] = {"better_range": loaded.better_range, "plant": battery.planted, "seed": job.seed}
    probes = probe(job.target, job.x, job.y, job.clean, results=results, **asked)
    evidence = Evaluation(
        results,
        dataset.n_classes,
        probes,
        inverted=loaded.outputs.endswith(INVERTED),
        accept_chance=loaded.accept_chance,
        bounds=dataset.bounds,
        certified=certified,
    )
    notes = [*battery.left_out, *loaded.notes, *notes_of(evidence), *([TRUSTED] if loaded.trusted else [])]
    return AttackFindings(role, clean, loaded, results, verdicts.doubts(evidence), notes, certified)
