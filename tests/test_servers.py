"""The tracking server and `make serve`, for real and on free ports."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gauntlet.state import PROJECT_ROOT, artifact_root, store_uri
from tests import strangers
from tests.processes import HOST, free_port, running, wait_until, with_group


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a space in its name, because people have such folders."""
    folder = tmp_path / "my state"
    monkeypatch.setenv("GAUNTLET_STATE", str(folder))
    return folder


def answers(port: int, path: str) -> bytes | None:
    """The body, or None while the server is not up."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


# The servers themselves


def log_run(uri: str, name: str) -> str:
    """An experiment with one run: a metric, a file, and a registered model."""
    import mlflow

    def echo(model_input: list[int]) -> list[int]:
        return model_input

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    location = f"{artifact_root()}/{name}" if uri == store_uri() else None
    experiment = mlflow.MlflowClient(uri).create_experiment(name, artifact_location=location)
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("clean/accuracy", 0.5)
        mlflow.log_text(name, "report.md")
        mlflow.pyfunc.log_model(
            name="model",
            python_model=mlflow.pyfunc.utils.pyfunc(echo),
            pip_requirements=["mlflow"],
            registered_model_name=name,
        )
    return str(run.info.run_id)


def check_run(uri: str, name: str, run_id: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(uri)
    assert client.get_run(run_id).data.metrics == {"clean/accuracy": 0.5}
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.md"]
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/report.md") == name
    assert mlflow.pyfunc.load_model(f"models:/{name}/1").predict([3]) == [3]


@pytest.fixture
def mlflow_left_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow's URIs are global: put them back."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    yield
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")
@pytest.mark.usefixtures("mlflow_left_alone")
def test_clients_with_and_without_the_server_read_each_other(state: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    url = f"http://{HOST}:{port}"
    with running("mlflow_server", "--port", str(port), log=log) as process:
        wait_until(lambda: answers(port, "/health"), log)
        runs = {(uri, name): log_run(uri, name) for uri, name in [(store_uri(), "direct"), (url, "served")]}
        for (_, name), run_id in runs.items():
            check_run(store_uri(), name, run_id)
            check_run(url, name, run_id)
            # What the web page fetches when someone clicks on an artifact.
            assert answers(port, f"/get-artifact?path=report.md&run_uuid={run_id}") == name.encode()
        # Read while it serves: on a busy machine uvicorn may complain of being stopped.
        said = log.read_text()
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group.
        process.wait(20)
    assert not with_group(process.pid, signal.SIGTERM)
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 2
    assert state.is_dir()


FLOW = """
import time
from prefect import flow

@flow(name="{name}")
def {name}(seconds: float = 0) -> None:
    time.sleep(seconds)
"""


LONG = {"parameters": {"seconds": 300}, "state": {"type": "SCHEDULED"}}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The servers and the real deployments, over flows that do nothing."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_ROOT / "mlflow_server", folder / "mlflow_server", ignore=ignored)
    for name in (
        "prefect.yaml",
        "prefect.toml",
        "pyproject.toml",
        "gauntlet/__init__.py",
        "gauntlet/errors.py",
        "gauntlet/assurance/__init__.py",
        "gauntlet/assurance/audit/__init__.py",
        "gauntlet/assurance/audit/journal.py",
        "gauntlet/limits.py",
        "gauntlet/state.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / name, folder / name)
    (folder / "flows").mkdir()
    for name in (
        "suite",
        "train",
        "attack",
        "poison",
        "defend",
        "detect",
        "scan",
        "reproduce",
        "nightly",
        "privacy",
        "datascan",
        "backdoor",
    ):
        (folder / "flows" / f"{name}.py").write_text(FLOW.format(name=name))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # What the test session's own Prefect was told is not for these servers.
    for variable in [v for v in os.environ if v.startswith(("PREFECT_", "GAUNTLET_", "MLFLOW_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
    return folder


def marked(checkout: Path) -> list[int]:
    """Every process that knows this checkout's state folder, whatever its group."""
    wanted = f"GAUNTLET_STATE={checkout / 'state'}".encode()
    pids = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            known = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in known:
            pids.append(int(file.parent.name))
    return pids


def post(port: int, path: str, body: str = "{}") -> str:
    """The answer, or nothing when it was not a success; with the token that writes need."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        client = "tests"
        connection.request("GET", f"/api/csrf-token?client={client}")
        token = json.loads(connection.getresponse().read()).get("token", "")
        headers = {"content-type": "application/json", "Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        body = response.read().decode()
        # Prefect on SQLite says 503 when it is busy, and then nothing was done.
        return body if response.status < 300 else ""
    finally:
        connection.close()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts processes by /proc")
def test_serve_brings_everything_up_schedules_the_night_and_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    mlflow_port, prefect_port, log = free_port(), free_port(), tmp_path / "serve.log"
    flags = ["--mlflow-port", str(mlflow_port), "--prefect-port", str(prefect_port)]
    with running("mlflow_server.serve", *flags, cwd=checkout, log=log) as process:
        wait_until(lambda: "Ready." in log.read_text() or process.poll() is not None, log, 120)
        assert process.poll() is None, log.read_text()
        assert strangers.let_in(mlflow_port, prefect_port) == []
        wait_until(lambda: post(prefect_port, "/api/deployments/filter"), log)
        deployments = json.loads(post(prefect_port, "/api/deployments/filter"))
        stages = {"train", "attack", "poison", "defend", "detect", "scan", "privacy", "datascan", "backdoor"}
        names = {"suite", "nightly", "reproduce", *stages}
        assert {d["name"] for d in deployments} == names | {"mnist", "all"}  # two old names
        # A scheduler that fails says so in a log only, and no night would ever start.
        wait_until(lambda: '"auto_scheduled":true' in post(prefect_port, "/api/flow_runs/filter"), log, 30)
        # A flow run leaves the worker's process group; it must not outlive the worker's death either.
        train = next(d["id"] for d in deployments if d["name"] == "train")
        before = len(marked(checkout))
        create = f"/api/deployments/{train}/create_flow_run"
        wait_until(lambda: post(prefect_port, create, json.dumps(LONG)), log)
        log = checkout / "state" / "logs" / "worker.log"
        wait_until(lambda: len(marked(checkout)) > before, log, 60)
        worker = next(p for p in marked(checkout) if b"worker\0start" in Path(f"/proc/{p}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        assert process.wait(60) == 1
    assert marked(checkout) == []
    said = (tmp_path / "serve.log").read_text()
    assert "worker ended with status -9" in said
    assert f"http://{HOST}:{mlflow_port}" in said
    assert f"http://{HOST}:{prefect_port}" in said


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts processes by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_serve_stops_cleanly_even_while_it_starts(checkout: Path, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "serve.log"
    flags = ["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    with running("mlflow_server.serve", *flags, cwd=checkout, log=log) as process:
        wait_until(lambda: "Starting" in log.read_text(), log)
        time.sleep(2)
        process.send_signal(number)
        assert process.wait(40) == 0
    assert marked(checkout) == []
    assert log.read_text().splitlines()[-1] == "Stopping."


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts processes by /proc")
def test_a_deployment_that_cannot_be_registered_stops_everything(checkout: Path, tmp_path: Path) -> None:
    (checkout / "flows" / "scan.py").write_text("raise RuntimeError('no such flow')\n")
    log = tmp_path / "serve.log"
    flags = ["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    with running("mlflow_server.serve", *flags, cwd=checkout, log=log) as process:
        assert process.wait(120) == 1
    assert marked(checkout) == []
    assert "deploy ended with status 1" in log.read_text()
