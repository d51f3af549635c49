"""The project's state folder: the tracking store, its artifacts, and the servers' logs.

    state/               GAUNTLET_STATE; else `state` in the checkout, or the user's data folder of an installed package
    ├── mlflow.db          runs, params, metrics, registered models
    ├── audit.jsonl        who did what, when: hash-chained (GAUNTLET_AUDIT moves it)
    ├── artifacts/         what the runs logged: one folder per experiment
    ├── prefect/           Prefect's own database (PREFECT_HOME of `make serve`)
    └── logs/              what the servers of `make serve` printed

Nothing is created on import or when a path is asked for; only `ensure_state` creates folders.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from pathlib import Path

from platformdirs import user_data_dir

from gauntlet.errors import SettingError
from gauntlet.limits import MAX_TEXT

VARIABLE = "GAUNTLET_STATE"
_STORES = re.compile(r"(sqlite:///|https?://[^/\s]|(postgresql|mysql|mssql)(\+\w+)?://|databricks)")
PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""The checkout; of an installed package the folder that holds it."""
CHECKOUT = (PROJECT_ROOT / "pyproject.toml").is_file()
"""Whether the packages lie in a checkout of the project, rather than being installed."""


def state_dir() -> Path:
    """The absolute folder everything is kept in; it may not exist yet.

    A relative GAUNTLET_STATE means relative to the working directory, as it would for any other command.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    return PROJECT_ROOT / "state" if CHECKOUT else Path(user_data_dir("gauntlet"))


def shipped(name: str) -> Path:
    """A file of the project that lies beside the packages: in the checkout, or where the wheel put it."""
    return PROJECT_ROOT / name if CHECKOUT else Path(sys.prefix) / "share" / "gauntlet" / name


def ensure_state() -> Path:
    """Make the state folder and its artifact folder, prove that they can be written, return the former."""
    root = state_dir()
    for folder in (root, _artifacts()):
        _make_writable(folder)
    return root


def store_uri() -> str:
    """The tracking store, as SQLAlchemy and MLflow spell it: `sqlite:////abs/state/mlflow.db`."""
    return f"sqlite:///{state_dir() / 'mlflow.db'}"


def tracking_uri(uri: str | None = None) -> str:
    """The store to use: the one named, else MLFLOW_TRACKING_URI, else the project's own.

    Raises `SettingError` for what is no store's address: MLflow would take any word for a folder, and make it.
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or store_uri()
    where = "--tracking-uri" if uri else "MLFLOW_TRACKING_URI"
    shown = "".join(c if c.isprintable() else "?" for c in chosen[:200])
    if chosen.startswith("file:"):
        fix = "`mlflow migrate-filestore` moves it into a database; then give sqlite:////FOLDER/mlflow.db"
        raise SettingError(f"{shown!r} is a folder of files, which MLflow reads no more", where=where, fix=fix)
    if len(chosen) > MAX_TEXT or shown != chosen[:200] or not _STORES.match(chosen):
        fix = "give sqlite:////FOLDER/mlflow.db or http://HOST:PORT"
        raise SettingError(f"{shown!r} is no address of a tracking store", where=where, fix=fix)
    return chosen


def artifact_root() -> str:
    """The folder that new experiments put their artifacts into, as a file URI."""
    return _artifacts().as_uri()


def _artifacts() -> Path:
    return state_dir() / "artifacts"


def _make_writable(folder: Path) -> None:
    """Make the folder and write a nameless file into it: permission bits alone lie on read-only mounts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingError(
            f"cannot write to {folder}: {reason}", where=VARIABLE, fix=f"set {VARIABLE} to a folder of yours"
        ) from error


def disk_trouble(error: BaseException) -> str:
    """What is wrong with the disk, if that is why `error` came, directly or behind others; else ""."""
    seen: BaseException | None = error
    while seen is not None:
        number, text = getattr(seen, "errno", None), str(seen)
        if number in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in text:
            return f"no room is left on the disk of {state_dir()} (free some: what was finished is kept, and taken up)"
        if "readonly database" in text and not state_dir().exists():
            return f"{state_dir()} was removed while it was in use"
        if number == errno.EROFS or "readonly database" in text:
            return f"{state_dir()} can be read only ({VARIABLE} names another folder)"
        seen = seen.__cause__ or seen.__context__
    return ""
