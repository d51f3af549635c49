"""Train a model and register it."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet.quiet import load_tensorflow
from gauntlet.training import fit
from tasks.context import Context
from tasks.progress import shown
from tasks.store import registry, tracking
from tasks.trained import record


@task(name="train", cache_policy=NO_CACHE)
def train(context: Context, training: fit.Training, role: str = "baseline") -> str:
    """Train `training.architecture` on clean data, log and register it as `role`; returns the run's id."""
    load_tensorflow()
    dataset = context.load()
    settings = training.resolved(len(dataset.x_train))
    params = context.params() | settings.model_dump()
    with (
        tracking.run("train", context, dataset, name=role, params=params) as run,
        shown(f"train {role}") as progress,
    ):
        trained = fit.train(dataset, settings, progress=progress)
        recorded = record(run, dataset, trained)
        run.record([recorded.clean], recorded.metrics)
    registry.register(run.id)
    return run.id
