"""A night that is killed at any moment, and then started again, ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gauntlet.state import PROJECT_ROOT
from tests.processes import free_port, wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("GAUNTLET_KILLS", "1"))
"""How often a night is killed, at moments spread over its work; more by hand."""
OUTAGE = float(os.environ.get("GAUNTLET_OUTAGE", "5"))
"""Seconds that the server is away; more by hand."""

LOGGED = ("runs", "metrics", "params", "tags")
"""Tables whose rows are a night's work."""

# The flow as `python -m flows.nightly` runs it, with one canary of fourteen and one frozen model of five.
PROGRAM = """
import runpy
from gauntlet.validity import canaries, reference
canaries.CANARIES = {"constant": canaries.CANARIES["constant"]}
canaries.HONEST = {}
canaries.FROZEN = {reference.NAME: canaries.FROZEN[reference.NAME]}
runpy.run_module("flows.nightly", run_name="__main__", alter_sys=True)
"""
WORDS = ["--epochs", "2", "--n", "280", "--eps", "0.2", "--promote", "--no-planted"]
WORDS += ["--attack", "noise-uniform", "--attack", "fgsm", "--attack", "pgd", "--attack", "apgd-ce:max_iter=30"]


def start(folder: Path, store: str | None = None) -> subprocess.Popen[bytes]:
    """A night over `store`, or the one in `folder`, in a process group of its own."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "safe.py").write_text("print()\n")
    told = os.environ | {"GAUNTLET_STATE": str(folder), "MLFLOW_TRACKING_URI": store or f"sqlite:///{folder}/mlflow.db"}
    told = {name: value for name, value in told.items() if name not in ("MLFLOW_REGISTRY_URI", "PREFECT_API_URL")}
    with (folder / "log.txt").open("ab") as log:
        command = [sys.executable, "-c", PROGRAM, *WORDS, "--scan-path", str(folder / "code")]
        return subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env=told,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, the servers it started included."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """MLflow's server over the store in `folder`; killed at the end."""
    told = os.environ | {"GAUNTLET_STATE": str(folder), "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db"}
    told.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "server.txt").open("ab") as log:
        words = [sys.executable, "-m", "mlflow_server", "--port", str(port)]
        process = subprocess.Popen(words, cwd=PROJECT_ROOT, env=told, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or answers(port), folder / "server.txt", 120)
        yield
    finally:
        kill(process)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tables(folder: Path) -> dict[str, Any]:
    """What the last night says, and what the store holds."""
    from mlflow import MlflowClient

    from tasks.store import connection, tracking

    connection.connect(f"sqlite:///{folder}/mlflow.db")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1_000, order_by=["attributes.start_time ASC"])
    nights = [run for run in runs if run.data.tags["gauntlet.stage"] == "nightly" and run.info.status == "FINISHED"]
    last = tracking.records(nights[-1].info.run_id)
    return {
        "verdict": last["verdict"],
        "conditions": last["conditions"],
        "measured": [m.model_dump(exclude={"run_id"}) for m in last["measurements"]],
        "running": [run.info.run_name for run in runs if run.info.status not in ("FINISHED", "FAILED")],
        "versions": len(client.search_model_versions("")),
        "champions": client.get_registered_model("gauntlet-digits-baseline").aliases,
    }


def work(folder: Path) -> int:
    """How much a night has logged: rows of the store, of whichever run; what was killed stays and counts."""
    store = folder / "mlflow.db"
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30)) as rows:
        try:
            return sum(rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in LOGGED)
        except sqlite3.OperationalError:  # the tables are being made
            return 0


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Two nights that nobody disturbed, and the work of the first."""
    folder = tmp_path_factory.mktemp("calm")
    assert start(folder).wait(300) == 3, (folder / "log.txt").read_text()[-3_000:]
    whole = work(folder)
    assert start(folder).wait(300) == 0, (folder / "log.txt").read_text()[-3_000:]
    return folder, whole


def wait(share: float, folder: Path, night: subprocess.Popen[bytes], whole: int) -> None:
    """Return once the night has logged this share of the whole; it must not be over by then."""
    while work(folder) < share * whole and night.poll() is None:
        time.sleep(0.05)
    assert night.poll() is None, f"it was over before {share:.0%} of the work: {(folder / 'log.txt').read_text()}"


def test_killed_at_moments_spread_over_its_work_it_ends_the_same(tmp_path: Path, calm: tuple[Path, int]) -> None:
    undisturbed, whole = calm
    for number in range(1, KILLS + 1):
        process = start(tmp_path)
        wait(number / (KILLS + 1), tmp_path, process, whole)
        kill(process)
    statuses = [start(tmp_path).wait(300) for _ in range(2)]
    assert statuses[-1] == 0, (tmp_path / "log.txt").read_text()[-3_000:]
    assert tables(tmp_path) == tables(undisturbed)


def test_a_server_that_goes_away_is_waited_for(tmp_path: Path, calm: tuple[Path, int]) -> None:
    port, (undisturbed, whole) = free_port(), calm
    with server(tmp_path, port):
        night = start(tmp_path, f"http://127.0.0.1:{port}")
        wait(0.5, tmp_path, night, whole)
    time.sleep(OUTAGE)
    with server(tmp_path, port):
        assert night.wait(300) == 3, (tmp_path / "log.txt").read_text()[-3_000:]
        assert start(tmp_path, f"http://127.0.0.1:{port}").wait(300) == 0, (tmp_path / "log.txt").read_text()[-3_000:]
    assert tables(tmp_path) == tables(undisturbed)
