"""MLflow's app with users and two more rules: names of the flows are reserved, and the server chooses artifact folders.

MLflow lets every user create experiments and registered models and makes this user their owner. Whoever registers
`gauntlet-digits-model` first would own the name under which nights promote; whoever creates an experiment with its own
`artifact_location` makes the server, or a colleague's client, read and write there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlflow_server import auth

NAME = "gauntlet-auth"
"""Of this app among `mlflow server --app-name`."""
PREFIX = "gauntlet-"
"""Names that begin so are made by the worker and the administrator alone."""


def create_app() -> Any:
    """The app of `basic-auth` with these rules before its own checks. Raises `RuntimeError` when a route is missing."""
    from mlflow.protos import model_registry_pb2 as models
    from mlflow.protos import service_pb2 as runs
    from mlflow.server import auth as theirs

    rules: dict[str, tuple[Any, Callable[[Any, bool], bool]]] = {
        "/mlflow/experiments/create": (
            runs.CreateExperiment,
            lambda m, ours: (ours or free(m.name)) and not m.artifact_location,
        ),
        "/mlflow/experiments/update": (runs.UpdateExperiment, lambda m, ours: ours or free(m.new_name)),
        "/mlflow/registered-models/create": (models.CreateRegisteredModel, lambda m, ours: ours or free(m.name)),
        "/mlflow/registered-models/rename": (models.RenameRegisteredModel, lambda m, ours: ours or free(m.new_name)),
    }
    for suffix, (message, allows) in rules.items():
        routes = [key for key in theirs.BEFORE_REQUEST_VALIDATORS if key[0].endswith(suffix)]
        if not routes:
            raise RuntimeError(f"MLflow has no route {suffix} any more: its rule would not hold")
        for route in routes:
            checked = _both(message, allows, theirs.BEFORE_REQUEST_VALIDATORS[route])
            theirs.BEFORE_REQUEST_VALIDATORS[route] = checked
    return theirs.create_app()


def free(name: str) -> bool:
    """Whether a user may take a name."""
    return not name.strip().lower().startswith(PREFIX)


def _both(message: Any, allows: Callable[[Any, bool], bool], theirs: Callable[[], bool]) -> Callable[[], bool]:
    """MLflow's check and ours, on the request as MLflow's handler will read it; the administrator is never asked."""

    def check() -> bool:
        from flask import g
        from mlflow.server.handlers import _get_request_message

        message_of = _get_request_message(message())
        ours = allows(message_of, g.mlflow_authenticated_user == auth.WORKER)
        return ours and theirs()

    return check
