"""Train a model and register it."""

from __future__ import annotations

from pathlib import Path

from gauntlet.data.dropping import read_suspects
from gauntlet.quiet import load_tensorflow
from gauntlet.training import fit
from tasks.context import Context
from tasks.progress import shown
from tasks.stage import step
from tasks.store import registry, tracking
from tasks.trained import record


@step("train")
def train(context: Context, training: fit.Training, role: str = "baseline", drop: str | None = None) -> str:
    """Train `training.architecture` on clean data, log and register it as `role`; returns the run's id.

    Without the images that the file `drop` names: how many, and the file's digest, are recorded.
    """
    load_tensorflow()
    dataset = context.load()
    settings = training.resolved(len(dataset.x_train))
    params = context.params() | settings.model_dump()
    dropped = read_suspects(Path(drop), dataset) if drop else None
    x, y = dropped.kept(dataset) if dropped else (dataset.x_train, dataset.y_train)
    params |= {"drop": drop, "dropped": len(dropped.rows), "drop_digest": dropped.digest} if dropped else {}
    with (
        tracking.run("train", context, dataset, name=role, params=params) as run,
        shown(f"train {role}") as progress,
    ):
        trained = fit.train(dataset, settings, x=x, y=y, progress=progress)
        recorded = record(run, dataset, trained)
        more = {"train/dropped": float(len(dropped.rows))} if dropped else {}
        run.record([recorded.clean], recorded.metrics | more)
    registry.register(run.id)
    return run.id
