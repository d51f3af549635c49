"""Runs that others opened: logged into while they are open, never ended, nothing of theirs replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import mlflow
from mlflow import MlflowClient

from gauntlet.errors import SettingError
from tasks.store import tracking


def active() -> str | None:
    """The id of the run that this thread has open in MLflow, if there is one."""
    run = mlflow.active_run()
    return str(run.info.run_id) if run else None


def store() -> str | None:
    """The store that MLflow was told of, if it was told of one."""
    return str(mlflow.get_tracking_uri()) if mlflow.is_tracking_uri_set() else None


@contextmanager
def unmoved() -> Iterator[None]:
    """Once the block is over, MLflow logs to where it did before."""
    tracking_uri, registry = store(), os.environ.get("MLFLOW_REGISTRY_URI")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking_uri)  # type: ignore[arg-type]
        mlflow.set_registry_uri(registry)  # type: ignore[arg-type]
        if registry is None:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)


def check(run_id: str, names: Iterable[str]) -> None:
    """Raise `SettingError` when a run has ended, holds a stage already, or files of one of these names."""
    run, where = tracking.read(run_id), f"run {run_id}"
    if run.info.status != "RUNNING" or run.info.lifecycle_stage != "active":
        ended = run.info.status if run.info.lifecycle_stage == "active" else "deleted"
        raise SettingError(f"it has ended ({ended})", where=where, fix="open a new run")
    if stage := run.data.tags.get("gauntlet.stage"):
        what = f"it holds another stage already ({stage})"
        raise SettingError(what, where=where, fix="open a run for each evaluation")
    taken = sorted({file.path for file in MlflowClient().list_artifacts(run_id)} & set(names))
    if taken:
        what = f"it holds {', '.join(taken)}, which would be replaced"
        raise SettingError(what, where=where, fix="open a run for each evaluation")
