"""`make serve` and `prefect deployment run`, as a person uses them: real servers, a real worker, real flows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.processes import HOST, deployment_run, free_port, running, wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]

QUICK = ["-p", "epochs=2", "-p", "n=40", "-p", "eps=[0.2]", "-p", 'attack=["fgsm"]']


@dataclass(frozen=True)
class Served:
    """Where the servers listen, and a data set of a user's."""

    mlflow: str
    prefect: str
    data: Path

    def deployment_run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`prefect deployment run NAME ...`, which waits for the end with `--watch`."""
        return deployment_run({"PREFECT_API_URL": self.prefect, "NO_COLOR": "1", "COLUMNS": "200"}, name, *words)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """MLflow, Prefect, the deployments and a worker over a state folder of their own."""
    from gauntlet.data.datasets import read_dataset

    folder = tmp_path_factory.mktemp("served")
    digits = read_dataset("digits")
    data = {"x_train": digits.x_train[:480], "y_train": digits.y_train[:480]}
    data |= {"x_test": digits.x_test[:120], "y_test": digits.y_test[:120]}
    np.savez(folder / "small.npz", allow_pickle=False, **data)
    mlflow_port, prefect_port, log = free_port(), free_port(), folder / "serve.log"
    flags = ["--mlflow-port", str(mlflow_port), "--prefect-port", str(prefect_port)]
    told = pytest.MonkeyPatch()
    told.setenv("GAUNTLET_STATE", str(folder / "state"))
    told.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")
    told.setenv("MLFLOW_REGISTRY_URI", "sqlite:////nowhere/else.db")  # a shell's own must not lead a worker astray
    try:
        with running("mlflow_server.serve", *flags, log=log) as process:
            wait_until(lambda: "Ready." in log.read_text() or process.poll() is not None, log, 180)
            assert process.poll() is None, log.read_text()
            yield Served(f"http://{HOST}:{mlflow_port}", f"http://{HOST}:{prefect_port}/api", folder / "small.npz")
    finally:
        told.undo()


def test_deployments_run_on_the_worker_and_refuse_what_is_wrong(served: Served) -> None:
    """One test, so that the servers start once and the attacked model is the one the suite trained."""
    data = ["-p", f"dataset={served.data}"]
    night = served.deployment_run("suite/suite", "--watch", *data, *QUICK, "-p", 'defense=["on-the-fly"]')
    assert night.returncode == 0, night.stdout + night.stderr
    assert "Completed" in night.stdout

    model = "models:/gauntlet-small-baseline@candidate"
    attacked = served.deployment_run("attack/attack", "--watch", *data, "-p", f"model={model}", *QUICK[2:])
    assert attacked.returncode == 0, attacked.stdout + attacked.stderr

    wrong = served.deployment_run("attack/attack", *data, "-p", f"model={model}", "-p", "n=many")
    assert wrong.returncode != 0
    assert "'many'" in wrong.stdout + wrong.stderr
    unknown = served.deployment_run("attack/attack", *data, "-p", f"model={model}", "-p", "images=5")
    assert unknown.returncode != 0
    assert "images" in unknown.stdout + unknown.stderr

    bad = served.data.with_name("bad.npz")
    bad.write_bytes(b"PK\x03\x04 broken")
    failed = served.deployment_run("attack/attack", "--watch", "-p", f"dataset={bad}", "-p", f"model={model}")
    assert failed.returncode == 1
    assert "bad.npz" in failed.stdout + failed.stderr

    from mlflow import MlflowClient

    client = MlflowClient(served.mlflow)
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=100)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["gauntlet.stage"] for run in runs} >= {
        "suite",
        "train",
        "attack",
        "poison",
        "defend",
        "compare",
    }
