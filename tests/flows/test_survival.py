"""A night that is killed at any moment, and then started again, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gauntlet.state import PROJECT_ROOT

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("GAUNTLET_KILLS", "2"))
"""Moments tried; docs/nightly.md has the figures of 20."""

# The flow as `python -m flows.nightly` runs it, with one canary of fourteen.
PROGRAM = """
import runpy
from gauntlet import canaries
canaries.CANARIES = {"constant": canaries.CANARIES["constant"]}
canaries.HONEST = {}
runpy.run_module("flows.nightly", run_name="__main__", alter_sys=True)
"""
WORDS = ["--epochs", "2", "--n", "280", "--eps", "0.2", "--promote"]
WORDS += ["--attack", "noise-uniform", "--attack", "fgsm", "--attack", "pgd", "--attack", "apgd-ce:max_iter=30"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A night over the store in `folder`, a process group of its own."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "safe.py").write_text("print()\n")
    told = os.environ | {"GAUNTLET_STATE": str(folder)} | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
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


def tables(folder: Path) -> dict[str, Any]:
    """What the last night says, and what the store holds."""
    from mlflow import MlflowClient

    from tasks import tracking

    tracking.connect(f"sqlite:///{folder}/mlflow.db")
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


def test_killed_at_random_moments_it_ends_the_same(tmp_path: Path) -> None:
    calm, hit, begun = tmp_path / "calm", tmp_path / "hit", time.monotonic()
    statuses = [start(calm).wait(300) for _ in range(2)]
    whole = (time.monotonic() - begun) / 2
    assert statuses == [3, 0], (calm / "log.txt").read_text()[-3_000:]

    draw = random.Random(0)
    for _ in range(KILLS):
        process = start(hit)
        time.sleep(draw.uniform(0.2, 1.0) * whole)
        kill(process)
    statuses = [start(hit).wait(300) for _ in range(2)]
    assert statuses[-1] == 0, (hit / "log.txt").read_text()[-3_000:]
    assert tables(hit) == tables(calm)
