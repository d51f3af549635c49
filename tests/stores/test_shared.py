"""Two machines on one shared store: Postgres behind MLflow and Prefect, artifacts in a bucket, passwords on.

A machine is a folder of its own: packages, state, audit log, home. They share nothing but the servers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gauntlet.state import PROJECT_ROOT
from mlflow_server import auth, serve
from tests.processes import HOST, deployment_run, free_port, running, wait_until
from tests.stores.postgres import Postgres
from tests.stores.swift import Swift

ASKED = "GAUNTLET_SHARED"
pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(ASKED), reason=f"half an hour on two processors: set {ASKED}=1"),
]

ADMIN, WORKER = "correct horse battery", "of a worker elsewhere"
PACKAGES = ("gauntlet", "tasks", "flows", "mlflow_server")
# One canary of fourteen: a night on two cores shall take a minute.
NIGHT = """
import runpy
from gauntlet.validity import canaries
canaries.CANARIES = {"constant": canaries.CANARIES["constant"]}
canaries.HONEST = {}
runpy.run_module("flows.nightly", run_name="__main__", alter_sys=True)
"""
SUITE = "import runpy; runpy.run_module('flows.suite', run_name='__main__', alter_sys=True)"
BRIEF = ["--n", "100", "--eps", "0.1", "--attack", "noise-uniform", "--attack", "fgsm", "--attack", "pgd:max_iter=5"]
BRIEF += ["--scan-path", "code", "--promote", "--allowed", "0.5", "--floor", "clean=0.1", "--floor", "trigger=0.1"]
NAME = "gauntlet-small-baseline"


@dataclass(frozen=True)
class Shared:
    """The servers."""

    mlflow: str
    prefect: str
    prefect_string: str
    postgres: Postgres
    swift: Swift


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, swift: Swift) -> Iterator[Shared]:
    """`make serve` with both stores and users: one start for the whole module."""
    folder = tmp_path_factory.mktemp("shared")
    ports = free_port(), free_port()
    flags = ["--auth", "--mlflow-port", str(ports[0]), "--prefect-port", str(ports[1])]
    flags += ["--artifacts", f"{swift.bucket('gauntlet')}/artifacts"]
    log = folder / "serve.log"
    with pytest.MonkeyPatch.context() as patch:
        for variable in [v for v in os.environ if v.startswith(("PREFECT_", "GAUNTLET_STATE", "MLFLOW_TRACKING"))]:
            patch.delenv(variable)
        told = {serve.STORE: postgres.database("mlflow"), serve.PREFECT_STORE[0]: postgres.database("prefect")}
        told |= {auth.ADMIN_PASSWORD: ADMIN, auth.WORKER_PASSWORD: WORKER, "GAUNTLET_STATE": str(folder / "state")}
        for name, value in {**told, **swift.environment(), "PREFECT_WORKER_QUERY_SECONDS": "1"}.items():
            patch.setenv(name, value)
        with running("mlflow_server.serve", *flags, log=log) as process:
            wait_until(lambda: "Ready." in log.read_text() or process.poll() is not None, log, 900)
            assert process.poll() is None, log.read_text() + logs(folder)
            kept = (folder / "state" / "auth" / "prefect").read_text()
            yield Shared(f"http://{HOST}:{ports[0]}", f"http://{HOST}:{ports[1]}/api", kept, postgres, swift)


def logs(folder: Path) -> str:
    return "\n".join(path.read_text()[-2_000:] for path in folder.rglob("logs/*.log"))


@dataclass(frozen=True)
class Machine:
    """A checkout with a state of its own, and who it says it is."""

    folder: Path
    shared: Shared

    def run(self, program: str, *words: str, user: str = auth.WORKER, password: str = WORKER) -> Any:
        """A flow's `--json` result, or the error it told."""
        names = ("PREFECT_", "MLFLOW_", "GAUNTLET_", "AWS_")
        told = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        told |= {"MLFLOW_TRACKING_URI": self.shared.mlflow, "PREFECT_API_URL": self.shared.prefect}
        told |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        told |= {"PREFECT_API_AUTH_STRING": self.shared.prefect_string, "HOME": str(self.folder / "home")}
        done = subprocess.run(
            [sys.executable, "-c", program, *words, "--json"],
            cwd=self.folder,
            env=told,
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
        )
        lines = done.stdout.splitlines()
        result = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return result | {"status": done.returncode, "told": done.stderr}


@pytest.fixture(scope="module")
def small_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """480 training and 120 test digits as a user's own file."""
    from gauntlet.data.datasets import read_dataset

    digits = read_dataset("digits")
    arrays = {"x_train": digits.x_train[:480], "y_train": digits.y_train[:480]}
    arrays |= {"x_test": digits.x_test[:120], "y_test": digits.y_test[:120]}
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return path


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, shared: Shared, small_npz: Path) -> tuple[Machine, Machine]:
    """Two of them."""
    made = []
    for name in ("first", "second"):
        folder = tmp_path_factory.mktemp(name)
        for package in PACKAGES:
            shutil.copytree(PROJECT_ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "prefect.toml", "prefect.yaml", "threat_model.yaml", "constraints.txt"):
            shutil.copy(PROJECT_ROOT / file, folder / file)
        (folder / "code").mkdir()
        (folder / "code" / "safe.py").write_text("print()\n")
        shutil.copy(small_npz, folder / "small.npz")
        made.append(Machine(folder, shared))
    return made[0], made[1]


@pytest.fixture(scope="module")
def client(shared: Shared) -> Iterator[Any]:
    """MLflow's client, as the administrator."""
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        yield MlflowClient(shared.mlflow, shared.mlflow)


def keys(shared: Shared) -> list[str]:
    pages = shared.swift.client().get_paginator("list_objects_v2").paginate(Bucket="gauntlet")
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


def artifacts_on(machine: Machine) -> list[Path]:
    return [path for path in (machine.folder / "state" / "artifacts").rglob("*") if path.is_file()]


def test_a_suite_leaves_everything_on_the_servers(machines: tuple[Machine, Machine], client: Any) -> None:
    first, _ = machines
    brief = ["--dataset", "small.npz", "--epochs", "1", "--n", "20", "--eps", "0.2"]
    suite = first.run(SUITE, *brief, "--attack", "fgsm", "--defense", "on-the-fly")
    assert suite["status"] == 0, suite["told"]
    run = client.get_run(suite["run_id"])
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert f"artifacts/{run.info.experiment_id}/{run.info.run_id}/artifacts/report.html" in keys(first.shared)
    assert not artifacts_on(first)
    assert first.shared.postgres.sql("SELECT count(*) FROM runs WHERE status = 'RUNNING'", "mlflow") == "0"
    assert int(first.shared.postgres.sql("SELECT count(*) FROM flow_run", "prefect")) >= 1
    assert int(first.shared.postgres.sql("SELECT count(*) FROM users", "mlflow")) == 2


def test_nights_on_two_machines_promote_one_after_the_other(machines: tuple[Machine, Machine], client: Any) -> None:
    """What one machine promoted the other is held against; each has an audit log of its own."""
    first, second = machines
    crowned = first.run(NIGHT, "--dataset", "small.npz", *BRIEF, "--epochs", "1")
    assert (crowned["status"], crowned.get("verdict")) == (3, "INCONCLUSIVE"), crowned["told"]
    champion = client.get_model_version_by_alias(NAME, "champion").version

    better = second.run(NIGHT, "--dataset", "small.npz", *BRIEF, "--epochs", "3")
    assert (better["status"], better.get("verdict")) == (0, "PASS"), better
    after = client.get_model_version_by_alias(NAME, "champion").version
    assert int(after) > int(champion)
    assert client.get_model_version_by_alias(NAME, "previous-champion").version == champion

    again = first.run(NIGHT, "--dataset", "small.npz", *BRIEF, "--epochs", "4")
    assert again["status"] in (0, 3), again["told"]
    night = client.get_run(again["run_id"])
    assert night.info.status == "FINISHED"
    assert not [*artifacts_on(first), *artifacts_on(second)]
    assert first.shared.postgres.sql("SELECT count(*) FROM runs WHERE status <> 'FINISHED'", "mlflow") == "0"


def test_a_wrong_password_is_told_in_one_line(machines: tuple[Machine, Machine]) -> None:
    refused = machines[0].run(SUITE, "--epochs", "1", "--n", "20", password="not the one")
    assert refused["status"] == 1
    (line,) = [line for line in refused["told"].splitlines() if line.startswith("failed")]
    assert "cannot be reached" in line


def test_the_worker_runs_deployments_over_prefects_own_database(shared: Shared) -> None:
    path = PROJECT_ROOT / "mlflow_server" / "port.py"
    told = {"PREFECT_API_URL": shared.prefect, auth.PREFECT: shared.prefect_string}
    done = deployment_run(told, "scan/scan", "--watch", "-p", f"path={path}", seconds=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shared.postgres.sql("SELECT DISTINCT state_type FROM flow_run WHERE name IS NOT NULL", "prefect")


def test_the_stores_keys_reach_the_server_that_needs_them_alone(shared: Shared) -> None:
    """Not the worker, which runs flows and so perhaps a stranger's model; and no argument of a process."""
    from tests.stores.postgres import PASSWORD
    from tests.stores.swift import SECRET

    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, told = file.read_bytes(), file.with_name("environ").read_bytes()
        except OSError:
            continue
        if b"worker\0start" in words and shared.prefect.encode() in told:
            assert not any(secret.encode() in told for secret in (SECRET, PASSWORD.replace(" ", "%20"), ADMIN))
        if str(PROJECT_ROOT).encode() in told and serve.STORE.encode() in told:
            assert PASSWORD.replace(" ", "%20").encode() not in words
