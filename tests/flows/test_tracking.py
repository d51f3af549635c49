"""No record lies: killed processes, tampered models, absent servers."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from gauntlet.errors import ModelError, TrackingError
from tasks.context import Context
from tasks.store import connection, registry, tracking


@pytest.fixture
def own_store(tmp_path: Path) -> str:
    """A fresh store, already connected to."""
    return connection.connect(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_run_of_a_killed_process_is_failed_at_the_next_start(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'killed.db'}"
    code = (
        "import os, sys\nfrom tasks.store import connection, tracking\nfrom tasks.context import Context\n"
        f"context = Context(dataset='digits', tracking_uri='{uri}')\n"
        "with tracking.run('train', context, None, name='doomed') as run:\n"
        "    print(run.id, flush=True)\n    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    run_id = done.stdout.strip()
    assert MlflowClient(uri).get_run(run_id).info.status == "RUNNING"
    connection.connect(uri)
    ended = MlflowClient(uri).get_run(run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["gauntlet.error"] == "the process was killed"


def test_a_run_of_a_living_process_is_left_alone(own_store: str) -> None:
    with tracking.run("train", Context(dataset="digits", tracking_uri=own_store), None, name="alive") as run:
        connection._end_orphans()
        assert tracking.read(run.id).info.status == "RUNNING"
    assert tracking.read(run.id).info.status == "FINISHED"


def test_a_run_says_what_was_asked_for_and_what_computed(own_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "used", lambda: "TensorFlow: NVIDIA A100")
    context = Context(dataset="digits", device="gpu:1", tracking_uri=own_store)
    with tracking.run("train", context, None, name="placed", params=context.params()) as run:
        pass
    ended = tracking.read(run.id).data
    assert (ended.params["device"], ended.tags["gauntlet.device"]) == ("gpu:1", "TensorFlow: NVIDIA A100")


@pytest.mark.parametrize("error", [ValueError("broke"), KeyboardInterrupt()])
def test_an_error_ends_the_run_failed_and_is_named(error: BaseException, own_store: str) -> None:
    opened = []

    def fail() -> None:
        with tracking.run("train", Context(dataset="digits", tracking_uri=own_store), None, name="fails") as run:
            opened.append(run.id)
            raise error

    with pytest.raises(type(error)):
        fail()
    ended = tracking.read(opened[0])
    assert ended.info.status == "FAILED"
    assert ended.data.tags["gauntlet.error"].startswith(type(error).__name__)


def test_a_tampered_model_is_refused(own_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gauntlet.data.datasets import read_dataset
    from gauntlet.models import trial
    from gauntlet.models.architectures import architecture

    monkeypatch.setattr(trial, "_started", lambda *_: pytest.fail("what was written here is tried"))
    dataset = read_dataset("digits")
    model = architecture("cnn3x3").build(dataset.input_shape, dataset.n_classes)
    with tracking.run("train", Context(dataset="digits", tracking_uri=own_store), dataset, name="mine") as run:
        registry.log_model(run, model, dataset, "mine")
    uri = registry.register(run.id)
    assert uri == registry.register(run.id) == registry.model_uri(run.id)
    assert registry.load_model(uri) is not None
    folder = Path(mlflow.artifacts.download_artifacts(uri))
    model.layers[-1].bias.assign_add([0.1] * 10)
    model.save(next(folder.rglob("model.keras")))
    tried: set[str] = set()
    monkeypatch.setattr(trial, "passed", lambda _, sha256: tried.add(sha256))
    for form in (uri, "models:/gauntlet-digits-mine@candidate", f"runs:/{run.id}/model"):
        with pytest.raises(ModelError, match="not those that were registered"):
            registry.load_model(form)
    assert len(tried) == 1
    assert not trial._mark(tried.pop()).exists()


def test_a_finished_stage_is_found_by_its_key_and_a_failed_one_is_not(own_store: str) -> None:
    where = Context(dataset="digits", tracking_uri=own_store, key="abc")
    with pytest.raises(ZeroDivisionError), tracking.run("train", where, None, name="mine"):
        raise ZeroDivisionError
    assert tracking.finished(where, "abc") is None
    with tracking.run("train", where, None, name="mine") as run:
        assert tracking.finished(where, "abc") is None
    assert tracking.finished(where, "abc") == run.id
    assert tracking.finished(where, "abd") is None
    assert where.below(run.id).key is None


def test_an_absent_server_is_one_line(own_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        with pytest.raises(TrackingError, match="cannot be reached"):
            connection.connect(f"http://127.0.0.1:{port}")
    finally:
        connection.connect(own_store)


def test_the_environment_names_the_store_unless_told(own_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store)
    assert connection.connect() == own_store


def test_nested_params_are_flattened() -> None:
    nested = {"a": {"b": 1}, "c": [{"d": 2}], "e": [3, 4]}
    assert tracking.flat(nested) == {"a.b": 1, "c.0.d": 2, "e": [3, 4]}
