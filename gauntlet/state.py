"""Where the project keeps what it makes: the tracking store, its artifacts, and the servers' logs.

    state/               GAUNTLET_STATE, or `state` beside the packages
    ├── mlflow.db          runs, params, metrics, registered models
    ├── audit.jsonl        who did what, when: hash-chained (GAUNTLET_AUDIT moves it)
    ├── artifacts/         what the runs logged: one folder per experiment
    ├── prefect/           Prefect's own database (PREFECT_HOME of `make serve`)
    └── logs/              what the servers of `make serve` printed

Nothing is made on import, and asking for a path makes nothing either: only `ensure_state` does.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gauntlet.errors import SettingError

VARIABLE = "GAUNTLET_STATE"
PROJECT_ROOT = Path(__file__).resolve().parents[1]


def state_dir() -> Path:
    """The absolute folder everything is kept in; it may not exist yet.

    A relative GAUNTLET_STATE means relative to the working directory, as it would for any other command.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    return Path(chosen).expanduser().absolute() if chosen else PROJECT_ROOT / "state"


def ensure_state() -> Path:
    """Make the state folder and its artifact folder, prove that they can be written, return the former."""
    root = state_dir()
    for folder in (root, _artifacts()):
        _make_writable(folder)
    return root


def store_uri() -> str:
    """The tracking store, as SQLAlchemy and MLflow spell it: `sqlite:////abs/state/mlflow.db`."""
    return f"sqlite:///{state_dir() / 'mlflow.db'}"


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
