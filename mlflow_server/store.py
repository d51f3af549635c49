"""Make MLflow's tables once, however many processes want them at the same moment.

MLflow creates its tables in whichever process opens a fresh SQLite file, without a lock: of four that do
so at once three fail half-way through the migrations. So everyone who is about to open the store directly
calls `initialise` first.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gauntlet.errors import TrackingError

SQLITE = "sqlite:///"


def initialise(uri: str) -> None:
    """Create the tables of a SQLite store, or do nothing when they exist; other stores are left alone.

    The experiment `Default` that comes with the tables puts its artifacts into `artifacts` beside the file,
    not into an `mlruns` of whatever the working directory happens to be.
    """
    if not uri.startswith(SQLITE):
        return
    path = Path(uri.removeprefix(SQLITE)).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(path.name + ".lock")):
        _open(uri, (path.parent / "artifacts").as_uri())


def _open(uri: str, artifacts: str) -> None:
    """Open the store as MLflow does, which creates what is missing and refuses another version's tables."""
    # Imported here because it costs two seconds, and `--help` or a remote store need none of it.
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    # Two lines about making tables are no news on a first run.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        SqlAlchemyStore(uri, artifacts).engine.dispose()
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(f"{uri}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel releases it even when its holder is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
