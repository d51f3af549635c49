"""MLflow's store: its tables are created once, even if several processes need them at the same time; and its driver.

MLflow creates its tables in whichever process opens a fresh SQLite file, without a lock: of four that do
so at once three fail during the migrations. So every process that opens the store directly
calls `initialise` before.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gauntlet.errors import TrackingError

if TYPE_CHECKING:
    from sqlalchemy import Engine

SQLITE, POSTGRES = "sqlite:///", ("postgresql://", "postgres://", "postgresql+")
TABLES_LOCK = 0x6761756E
"""The number under which servers that start at once take turns in making a Postgres' tables."""


def with_driver(uri: str, driver: str = "psycopg") -> str:
    """A Postgres' address with the driver that is part of the extra; SQLAlchemy would look for psycopg2."""
    scheme, separator, rest = uri.partition("://")
    return f"postgresql+{driver}{separator}{rest}" if scheme in ("postgresql", "postgres") else uri


def place(uri: str) -> tuple[str | None, int, str]:
    """Host, port and database of a Postgres' address, whatever user and driver it names."""
    parts = urlsplit(uri)
    return parts.hostname, parts.port or 5432, parts.path


def engine(uri: str, patience: int = 10) -> Engine:
    """SQLAlchemy's engine for a store, without a pool; `patience` in seconds for a Postgres to answer.

    Whatever driver an address names for another program, here it is ours.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    scheme, separator, rest = uri.partition("://")
    waits = {"connect_timeout": patience} if uri.startswith(POSTGRES) else {}
    plain = f"{scheme.partition('+')[0]}{separator}{rest}"
    return create_engine(with_driver(plain), poolclass=NullPool, connect_args=waits)


def initialise_shared(uri: str) -> None:
    """Create the tables of a store that a server is about to serve; those that start at once take turns."""
    if not uri.startswith(POSTGRES):
        return initialise(uri)
    from sqlalchemy import text

    with engine(uri).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": TABLES_LOCK})
        # the lock goes with the connection; artifacts go through the server, so the place is never used
        _open(with_driver(uri), "mlflow-artifacts:/")
        return None


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

    # Lines about making tables are no news on a first run, and what fails is logged at every try and then raised.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
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
