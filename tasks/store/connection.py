"""The tracking store of this process: found, made when it is the project's own, and reached."""

from __future__ import annotations

import socket
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gauntlet.errors import SettingError, TrackingError
from gauntlet.state import ensure_state, store_uri, tracking_uri
from mlflow_server.store import SQLITE, initialise
from tasks.store import audit, origin
from tasks.store.patience import first_contact


def connect(uri: str | None = None) -> str:
    """Use the tracking store at `uri`, else MLFLOW_TRACKING_URI, else the project's own; returns the one used."""
    chosen = tracking_uri(uri)
    if chosen == mlflow.get_tracking_uri() and chosen in _connected:
        return chosen
    if chosen == store_uri():
        ensure_state()
    try:
        _check_file(chosen)
        initialise(chosen)
    except OSError as error:
        what = f"the tracking store {chosen} cannot be made: {(error.strerror or str(error)).lower()}"
        raise SettingError(what, where="--tracking-uri", fix="name a file in a folder of yours") from error
    mlflow.set_tracking_uri(chosen)
    mlflow.set_registry_uri(chosen)
    with first_contact():
        _end_orphans()
    _connected.add(chosen)
    return chosen


_connected: set[str] = set()


def _check_file(uri: str) -> None:
    """Refuse to take a folder, or any file, for a SQLite store."""
    path = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and path.is_dir():
        raise SettingError(f"{path} is a folder", where="--tracking-uri", fix=f"name a file in it: {uri}/mlflow.db")
    if uri.startswith(SQLITE) and path.is_file():
        with path.open("rb") as file:
            head = file.read(16)
        if head and head != b"SQLite format 3\0":
            raise SettingError(f"{path} is no SQLite database", where="--tracking-uri", fix="name another file")


def _end_orphans() -> None:
    """Runs of processes of this machine that were killed say FAILED, not RUNNING for ever."""
    client = MlflowClient()
    experiments = [e.experiment_id for e in _reached(client.search_experiments)]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'") if experiments else []
    for run in running:
        tags = run.data.tags
        if tags.get("gauntlet.host") == socket.gethostname() and not origin.alive(tags.get("gauntlet.process", "")):
            client.set_tag(run.info.run_id, "gauntlet.error", "the process was killed")
            client.set_terminated(run.info.run_id, "FAILED")
            audit.ended(run.info.run_id, "the process was killed")


def _reached(call: Any) -> Any:
    try:
        return call()
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0].rsplit(": ", 1)[-1].strip("\"')")
        raise TrackingError(f"the tracking store {mlflow.get_tracking_uri()} cannot be reached: {reason}") from error


@lru_cache
def experiment(uri: str, dataset: str) -> str:
    """The id of `gauntlet-<dataset>`, made when it is missing; a SQLite store's artifacts lie beside it."""
    name = f"gauntlet-{dataset}"
    existing = mlflow.get_experiment_by_name(name)
    if existing:
        return _living(existing)
    is_file = uri.startswith(SQLITE)
    location = (Path(uri.removeprefix(SQLITE)).absolute().parent / "artifacts" / name).as_uri() if is_file else None
    try:
        return str(mlflow.create_experiment(name, artifact_location=location, tags=_tags(dataset)))
    except MlflowException:  # another process was quicker
        existing = mlflow.get_experiment_by_name(name)
        if existing is None:
            raise
        return _living(existing)


def _living(experiment: Any) -> str:
    """The experiment's id; `SettingError` when it was deleted: MLflow neither uses it nor gives its name again."""
    if experiment.lifecycle_stage == "active":
        return str(experiment.experiment_id)
    fix = f"`mlflow experiments restore -x {experiment.experiment_id}`, or `mlflow gc` to remove it for good"
    raise SettingError(f"the experiment {experiment.name} was deleted", where=mlflow.get_tracking_uri(), fix=fix)


def _tags(dataset: str) -> dict[str, str]:
    """MLflow's page of an experiment opens for models, not for language models, and says what it holds."""
    note = f"Robustness of image classifiers on {dataset}: a suite or night is a parent run, its stages are children."
    return {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": note}


def ui_command(uri: str) -> str:
    """The command that shows the runs."""
    return ".venv/bin/python -m mlflow_server" if uri == store_uri() else f"the browser, at {uri}"
