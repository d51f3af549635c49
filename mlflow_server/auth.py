"""Users and passwords: MLflow's basic-auth app with its own database, and the users' permissions.

    state/auth/          0700: what is in it is for the servers' own user
    ├── users.db           MLflow's users, with salted hashes of their passwords; with a Postgres store they are there
    ├── mlflow.ini         where the database is, and what a user without a grant may do: nothing
    └── prefect            user:password of Prefect's API

Two MLflow users are kept in line with the environment at every start, so that a changed password is a changed
password: the administrator, and the worker, who may read and edit experiments and models and not administer users.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from gauntlet.assurance.audit import journal
from gauntlet.errors import SettingError
from gauntlet.state import ensure_state
from mlflow_server.store import POSTGRES, with_driver

if TYPE_CHECKING:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

ADMIN, ADMIN_PASSWORD = "GAUNTLET_ADMIN_USER", "GAUNTLET_ADMIN_PASSWORD"
WORKER, WORKER_PASSWORD = "worker", "GAUNTLET_WORKER_PASSWORD"
PREFECT = "PREFECT_API_AUTH_STRING"
SHORTEST = 12
"""Characters of a password; MLflow's own limit."""
KNOWN = {"password1234"}
"""What MLflow shipped as its administrator's password until 2025 (GHSA-gq3w-7jj3-x7gr)."""
PASSWORDS = (
    *(ADMIN_PASSWORD, WORKER_PASSWORD, PREFECT, "PREFECT_SERVER_API_AUTH_STRING"),
    *("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
)
"""Variables that a child process is given only when it is the one that needs them."""
REMEMBERED = 60
"""Seconds that a server process knows a right password again without hashing it: every request would cost 0.16 s of
a processor. So long may a password that was changed through another process of the server still hold."""
GRANTS = {"experiment": "EDIT", "registered_model": "EDIT"}
"""Of the worker, on all of a kind: its flows go on with runs and models that others made."""


def password(variable: str) -> str:
    """A password from the environment; `SettingError`, which does not repeat it, when it will not do."""
    secret = os.environ.get(variable, "")
    if not secret:
        raise SettingError("is not set, and --auth starts nothing without", where=variable, fix="export a password")
    if len(secret) < SHORTEST:
        raise SettingError(f"is shorter than {SHORTEST} characters", where=variable, fix="export a longer one")
    if secret in KNOWN:
        raise SettingError("is the one that MLflow used to ship", where=variable, fix="export another")
    return secret


def admin() -> str:
    """The administrator's name."""
    return os.environ.get(ADMIN, "").strip() or "admin"


def folder() -> Path:
    """The folder for all of this, made when it is missing, readable by its owner alone."""
    path = ensure_state() / "auth"
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def prefect_string() -> str:
    """`user:password` of Prefect's API: from the environment, else a random one that is kept in the folder."""
    if given := os.environ.get(PREFECT, ""):
        if len(given.partition(":")[2]) < SHORTEST:
            raise SettingError(
                f"is not user:password with {SHORTEST} characters or more after the colon", where=PREFECT
            )
        return given
    kept = folder() / "prefect"
    if not kept.is_file():
        journal.replace(kept, f"gauntlet:{secrets.token_urlsafe(32)}")
    return kept.read_text()


def prepare(uri: str = "") -> None:
    """Make the users and tell MLflow, through this process's environment, where they are: in a Postgres store with it.

    The passwords leave the environment: what MLflow starts has no use for them.
    """
    secret = password(ADMIN_PASSWORD)
    worker = password(WORKER_PASSWORD) if WORKER_PASSWORD in os.environ else None
    if "MLFLOW_AUTH_CONFIG_PATH" not in os.environ:
        os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(_config(_database(uri)))
    os.environ.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32))
    os.environ["MLFLOW_AUTH_ADMIN_USERNAME"] = admin()
    for name in PASSWORDS:
        os.environ.pop(name, None)
    store = _store()
    _ensure_user(store, admin(), secret, is_admin=True)
    if worker:
        _ensure_user(store, WORKER, worker, is_admin=False)
        for kind, permission in GRANTS.items():
            store.grant_user_permission(WORKER, kind, "*", permission)
    store.engine.dispose()


def _database(uri: str) -> str:
    """Where the users are: in a Postgres store, so that several servers have the same ones, else in a file."""
    if uri.startswith(POSTGRES):
        return with_driver(uri)
    database = folder() / "users.db"
    database.touch(mode=journal.PRIVATE)
    return f"sqlite:///{database}"


def _config(database: str) -> Path:
    """MLflow's settings. NO_PERMISSIONS, since what breaks an unreleased model is not for every user to read."""
    path = folder() / "mlflow.ini"
    escaped = database.replace("%", "%%")
    lines = ["[mlflow]", "default_permission = NO_PERMISSIONS", f"database_uri = {escaped}"]
    lines += [f"auth_cache_ttl_seconds = {REMEMBERED}"]
    journal.replace(path, "\n".join(lines) + "\n")
    return path


def _store() -> SqlAlchemyStore:
    """MLflow's users; the module reads its settings when it is imported, so not before they are there."""
    from mlflow.server.auth import auth_config
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(auth_config.database_uri)
    return store


def _ensure_user(store: SqlAlchemyStore, name: str, secret: str, *, is_admin: bool) -> None:
    if store.has_user(name):
        store.update_user(name, password=secret, is_admin=is_admin)
    else:
        store.create_user(name, secret, is_admin=is_admin)
