"""Try every image that ever fooled a model on this one, before fresh attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet.evaluation.bank import Bank
from gauntlet.evaluation.battery import Battery, Job
from gauntlet.evaluation.outcome import Attacked
from gauntlet.quiet import load_tensorflow
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.store import tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset

FILE, TAG = "bank.npz", "gauntlet.bank"


def bank_of(context: Context, dataset: Dataset) -> Bank:
    """All entries that finished attacks on this data set left."""
    shape = dataset.input_shape
    runs = tracking.search(context, {"dataset_digest": dataset.digest, "stage": "attack"}, f"tags.`{TAG}` != '0'")
    return Bank.joined([Bank.empty(shape), *(Bank.from_arrays(tracking.arrays(r, FILE), shape) for r in runs)])


def entries(context: Context) -> int:
    """How many images the bank holds for the data set."""
    runs = tracking.search(context, {"dataset_digest": context.load().digest, "stage": "attack"})
    return sum(int(tracking.read(run_id).data.tags.get(TAG, 0)) for run_id in runs)


def deposit(run: tracking.Run, context: Context, dataset: Dataset, results: list[Attacked]) -> None:
    """Keep what fooled this model and is not in the bank yet."""
    fresh = Bank.gathered(results, dataset.input_shape, bank_of(context, dataset))
    if len(fresh):
        run.file(FILE, fresh.to_bytes())
        run.tags({TAG: len(fresh)})


@task(name="replay", cache_policy=NO_CACHE)
def replay(context: Context, target: Source, battery: Battery, role: str = "model") -> str:
    """Show a model the bank's images within every L∞ and L2 budget of `battery`; returns the run's id."""
    load_tensorflow()
    dataset, loaded = context.load(), target.load(context.load())
    bank = bank_of(context, dataset)
    params = context.params() | target.model_dump() | battery.model_dump() | {"entries": len(bank)}
    with tracking.run("replay", context, dataset, name=f"replay on {role}", model=role, params=params) as run:
        with shown(f"replay on {role}"):
            clean = loaded.classifier.labels(dataset.x_test)
            job = Job(loaded.classifier, dataset.x_test, dataset.y_test, clean, context.seed)
            results = replayed(bank, job, battery.filled(loaded.classifier.access), dataset)
        _log(run, results)
    return run.id


def replayed(bank: Bank, job: Job, battery: Battery, dataset: Dataset) -> list[Attacked]:
    """The bank against a model, at every norm and budget that the battery's adversaries have."""
    channels = dataset.input_shape[-1]
    several: Any = {
        (one.norm, eps): battery.images(one, len(job.x))
        for one in battery.attack
        if one.adversary and one.norm in ("inf", "2")
        for eps in one.budgets(battery.eps, channels)
    }
    sizes = [n for n in several.values() if n is not None]
    index = dataset.test_subset(min(sizes) if sizes else None, job.seed)
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
