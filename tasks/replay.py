"""Try every image that ever fooled a model on this one, before fresh attacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.evaluation.bank import Bank
from gauntlet.evaluation.battery import Battery, Job
from gauntlet.evaluation.outcome import Attacked
from gauntlet.quiet import load_tensorflow
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset

FILE, TAG, MAKER = "bank.npz", "gauntlet.bank", "gauntlet.bank_of"
LEAST = 30
"""Images below which a bank says nothing."""


def deposits(context: Context) -> list[str]:
    """The finished attacks on this data set that left images in the bank."""
    digest = context.load().digest
    return tracking.search(context, {"dataset_digest": digest, "stage": "attack"}, f"tags.`{TAG}` != '0'")


def bank_of(runs: Sequence[str], shape: tuple[int, ...]) -> Bank:
    """What these runs left."""
    return Bank.joined([Bank.empty(shape), *(Bank.from_arrays(tracking.arrays(r, FILE), shape) for r in runs)])


def frozen(context: Context, without: Collection[str]) -> tuple[tuple[str, ...], int]:
    """The runs of a night's bank, and how many images they left: none that was made against weights of `without`.

    Images fool the model that they were made against. A bank that holds those of one of two models takes sides.
    """
    tags = {run_id: tracking.read(run_id).data.tags for run_id in deposits(context)}
    kept = {run_id: tagged for run_id, tagged in tags.items() if tagged.get(MAKER) not in {None, *without}}
    return tuple(sorted(kept)), sum(int(tagged[TAG]) for tagged in kept.values())


def deposit(run: tracking.Run, context: Context, dataset: Dataset, results: list[Attacked], weights: str) -> None:
    """Keep what fooled the model of these weights and is not in the bank yet."""
    known = bank_of(deposits(context), dataset.input_shape)
    fresh = Bank.gathered(results, dataset.input_shape, known)
    if len(fresh):
        run.file(FILE, fresh.to_bytes())
        run.tags({TAG: len(fresh), MAKER: weights})


@step("replay")
def replay(context: Context, target: Source, battery: Battery, runs: Sequence[str], role: str = "model") -> str:
    """Show a model what `runs` left in the bank, at every L∞ and L2 budget of `battery`; returns the run's id."""
    load_tensorflow()
    dataset, loaded = context.load(), target.load(context.load())
    bank = bank_of(runs, dataset.input_shape)
    params = context.params() | target.model_dump() | battery.model_dump() | {"entries": len(bank)}
    with tracking.run("replay", context, dataset, name=f"replay on {role}", model=role, params=params) as run:
        with shown(f"replay on {role}"):
            clean = loaded.classifier.labels(dataset.x_test)
            job = Job(loaded.classifier, dataset.x_test, dataset.y_test, clean, context.seed)
            results = _replayed(bank, job, battery.filled(loaded.classifier.access), context)
        _log(run, results)
    return run.id


def _replayed(bank: Bank, job: Job, battery: Battery, context: Context) -> list[Attacked]:
    """The bank against a model, at every norm and budget that the battery's adversaries have."""
    channels = job.x.shape[-1]
    several: Any = {
        (one.norm, eps): battery.images(one, len(job.x))
        for one in battery.attack
        if one.adversary and one.norm in ("inf", "2")
        for eps in one.budgets(battery.eps, channels)
    }
    sizes = [n for n in several.values() if n is not None]
    index = context.images(min(sizes) if sizes else None)
    return bank.replay(job, index, sorted(several))


def _log(run: tracking.Run, results: list[Attacked]) -> None:
    import pandas as pd

    for result in results:
        accuracy, known = result.accuracy(run.model), result.linf > 0
        metrics = {"replay/accuracy": accuracy.value, "replay/low": accuracy.low, "replay/high": accuracy.high}
        metrics |= {"replay/broken": float(np.count_nonzero(known & ~result.robust))}
        run.metrics(metrics, step=round(1_000 * result.eps))
    if results:
        run.table("outcomes.parquet", pd.concat([result.frame() for result in results], ignore_index=True))
    run.record([result.accuracy(run.model) for result in results], {})
