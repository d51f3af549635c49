"""What stands in a person's environment is theirs: it is used, or made harmless, or named in one line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from flows.local import check_server
from gauntlet.errors import SettingError
from gauntlet.quiet import load_tensorflow
from mlflow_server.store import initialise
from tasks.context import Context
from tasks.store import connection, tracking

ROOT = Path(__file__).parents[2]


def _typed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A flow in a process of its own."""
    command = [sys.executable, "-m", f"flows.{words[0]}", *words[1:]]
    given = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A store of the test's own."""
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_of_somebody_elses_is_not_touched(own: str, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.connect(own)
    client = MlflowClient()
    foreign = client.create_run(client.create_experiment("theirs"), tags={"owner": "them"}).info.run_id
    if ended:
        client.set_terminated(foreign)
    before = client.get_run(foreign).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", foreign)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    with tracking.run("scan", Context(dataset="digits", tracking_uri=own), None, name="scan") as run:
        assert run.id != foreign
    assert client.get_run(foreign).to_dictionary() == before
    assert client.get_run(run.id).info.status == "FINISHED"
    assert client.get_experiment(client.get_run(run.id).info.experiment_id).name == "gauntlet-digits"


def test_a_folder_for_a_store_is_named_at_once(tmp_path: Path) -> None:
    """MLflow would try for a minute and log every try."""
    with pytest.raises(SettingError, match=rf"{tmp_path} is a folder \(name a file in it: .*/mlflow.db\)"):
        connection.connect(f"sqlite:///{tmp_path}")


def test_mlflow_does_not_log_what_it_raises(own: str) -> None:
    initialise(own)
    assert logging.getLogger("mlflow.store.db.utils").getEffectiveLevel() == logging.CRITICAL


def test_a_deleted_experiment_is_named_with_what_to_do(own: str) -> None:
    connection.connect(own)
    made = mlflow.create_experiment("gauntlet-deleted")
    mlflow.delete_experiment(made)
    with pytest.raises(SettingError, match=rf"gauntlet-deleted was deleted \(`mlflow experiments restore -x {made}`"):
        connection.experiment(own, "deleted")
    mlflow.MlflowClient().restore_experiment(made)
    assert connection.experiment(own, "deleted") == made


def test_an_address_where_no_prefect_server_answers_is_named() -> None:
    done = _typed("scan", "--path", "tests/fixtures/sast", PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: http://127.0.0.1:1/api: no Prefect server answers: ")
    assert "unset PREFECT_API_URL" in line


@pytest.mark.usefixtures("prefect_server")
def test_the_tests_own_server_answers() -> None:
    from prefect.settings import PREFECT_API_URL

    address = PREFECT_API_URL.value()
    assert address
    check_server(address)


@pytest.mark.slow
@pytest.mark.parametrize("floatx", ["float64", "float16"])
def test_other_settings_of_keras_are_for_other_code(floatx: str, tmp_path: Path, small_npz: str, own: str) -> None:
    settings: dict[str, Any] = {"image_data_format": "channels_first", "floatx": floatx, "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    words = ["train", "--dataset", small_npz, "--epochs", "1", "--tracking-uri", own, "--json"]
    done = _typed(*words, KERAS_HOME=str(tmp_path), KERAS_BACKEND="torch", TF_USE_LEGACY_KERAS="1", PREFECT_API_URL="")
    assert done.returncode == 0, done.stderr
    assert 0.1 < json.loads(done.stdout.splitlines()[-1])["metrics"]["clean/accuracy"] <= 1


def test_tensorflow_is_loaded_once_as_it_should_be() -> None:
    load_tensorflow()
    import keras

    assert (keras.config.image_data_format(), keras.config.floatx()) == ("channels_last", "float32")
    assert keras.backend.backend() == "tensorflow"
