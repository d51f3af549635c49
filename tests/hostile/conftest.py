"""A store with a few models in it, some of them hostile, and a way to type a command."""

from __future__ import annotations

import io
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from tests.hostile import making as m

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with registered models: good, unpickling, importing, and changed afterwards."""
    folder, told = tmp_path_factory.mktemp("state"), pytest.MonkeyPatch()
    told.setenv("GAUNTLET_STATE", str(folder))
    _forget(told)
    try:
        _fill(folder)
    finally:
        told.undo()
    return folder


def _forget(told: pytest.MonkeyPatch) -> None:
    """MLflow writes the store of earlier tests into the environment."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        told.delenv(name, raising=False)


def _fill(folder: Path) -> None:
    from gauntlet.quiet import load_tensorflow

    load_tensorflow()
    import keras
    import mlflow
    from sklearn.linear_model import LogisticRegression

    from tasks.store import connection

    connection.connect()
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    network.compile()
    kept: dict[str, Any] = {"pip_requirements": ["keras"], "name": "model"}
    canary = folder / m.CANARY

    def register(name: str, change: Callable[[Path], None] | None = None, digest: str | None = None) -> None:
        with mlflow.start_run():
            info = mlflow.tensorflow.log_model(network, **kept)
        version = mlflow.register_model(info.model_uri, f"gauntlet-{name}", tags={DIGEST: digest} if digest else None)
        if change:
            change(Path(unquote(urlsplit(mlflow.MlflowClient().get_model_version_download_uri(*_id(version))).path)))

    def objects(place: Path) -> None:
        (place / "data" / "custom_objects.cloudpickle").write_bytes(m.pickled(folder))

    def code(place: Path) -> None:
        (place / "code").mkdir()
        (place / "code" / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
        _edit(place, "    code: null", "    code: code\n    keras_module: evil")

    register("tiny")
    register("objects", objects)
    register("code", code)
    register("module", lambda place: _edit(place, "    code: null", "    keras_module: evil"))
    register("outside", lambda place: _edit(place, "data: data", "data: ../../../.."))
    register("changed", digest="0" * 64)
    with mlflow.start_run():
        few = LogisticRegression().fit(np.eye(10), np.arange(10))
        info = mlflow.sklearn.log_model(few, name="model", pip_requirements=["scikit-learn"])
    mlflow.register_model(info.model_uri, "gauntlet-sklearn")


DIGEST = "gauntlet.model_digest"


def _id(version: Any) -> tuple[str, str]:
    return version.name, version.version


def _edit(place: Path, old: str, new: str) -> None:
    text = (place / "MLmodel").read_text()
    assert old in text, text
    (place / "MLmodel").write_text(text.replace(old, new))


class Typed(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    error: str


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Typed]:
    """Type a command, in this process and without Prefect around it: the module that `python -m flows.NAME` runs."""
    import prefect

    from flows import command

    def typed(flow: str, *words: str) -> Typed:
        monkeypatch.setattr(sys, "argv", [f"flows.{flow}", *words])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        monkeypatch.setattr(command.Command, "make", lambda one: command._with_fields(one.function, one.config))
        monkeypatch.setattr(prefect.Task, "__call__", lambda one, *words, **named: one.fn(*words, **named))
        out, error = io.StringIO(), io.StringIO()
        with pytest.raises(SystemExit) as done, redirect_stdout(out), redirect_stderr(error):
            runpy.run_path(str(ROOT / "flows" / f"{flow}.py"), run_name="__main__")
        return Typed(int(done.value.code or 0), out.getvalue(), error.getvalue())

    return typed


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the files of a case are made; large ones are not kept."""
    place = tmp_path / "case"
    place.mkdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)
