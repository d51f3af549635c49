"""Keep the libraries' messages out of the terminal."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator


def printable(text: str) -> str:
    """A text whose every character shows: no terminal's escapes, no marks that turn lines round; lines and tabs stay.

    >>> printable("red\\x1b[31m, turned\\u202e")
    'red?[31m, turned?'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # threads of PyTorch's that wait do not keep TensorFlow's from a processor
    "OMP_WAIT_POLICY": "PASSIVE",
    # TensorFlow leaves the rest of a GPU's memory to PyTorch and to other processes
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # with a server MLflow prints the address of every run, to where results go
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # 20 s are too few for a fresh database on a busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
"""What the libraries read when they are imported; a value that is set already stands."""

ECHOING = ("mlflow.store.db.utils", "sqlalchemy")
"""They log what they also raise."""
CHATTY = ("art", "absl", "mlflow", "tensorflow", "alembic", "matplotlib", "bandit", "stevedore")


def hush() -> None:
    """Set the environment and the libraries' loggers; call it before they are imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # attacks are compiled by TensorFlow, whatever else Keras could use
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ECHOING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(keras|tensorflow|mlflow|prefect|art|google|starlette)\b.*")


def load_tensorflow() -> None:
    """Import TensorFlow without the lines that its C++ code prints in spite of all settings."""
    if "tensorflow" not in sys.modules:
        hush()
        with no_standard_error():
            import keras
            import tensorflow  # noqa: F401
        # a person's keras.json is for the person's own code
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")


def load_art() -> None:
    """Import ART's classifiers, without PyTorch unless that is loaded already.

    Where PyTorch is installed, ART's certification imports it, which takes seconds and serves nothing here.
    """
    if "art" in sys.modules:
        return
    hidden = {"torch": None} if "torch" not in sys.modules else {}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PyTorch not found")
            importlib.import_module("art.estimators.classification")
    finally:
        for name in hidden:
            del sys.modules[name]


def no_standard_error() -> contextlib.AbstractContextManager[None]:
    """Send file descriptor 2 nowhere for a block: C++ does not know `sys.stderr`."""
    return _dropped(2)


def no_standard_output() -> contextlib.AbstractContextManager[None]:
    """The same for file descriptor 1, which belongs to results alone."""
    return _dropped(1)


@contextlib.contextmanager
def _dropped(descriptor: int) -> Iterator[None]:
    (sys.stdout, sys.stderr)[descriptor - 1].flush()
    saved = os.dup(descriptor)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


@contextlib.contextmanager
def no_prints() -> Iterator[None]:
    """Drop what a library prints: progress bars and good news that cannot be switched off."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
