"""`--workers` and `--cluster` as a person types them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from gauntlet.commandline import TERMINATED
from gauntlet.quiet import load_tensorflow
from gauntlet.state import PROJECT_ROOT
from tests.frozen import frozen
from tests.processes import free_port, wait_until

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed (requirements-cluster.txt)"
)
WORDS = ["--attack", "noise-uniform", "--attack", "fgsm", "--attack", "pgd:max_iter=5", "--eps", "0.1", "--n", "300"]


def gauntlet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, with a state folder of its own."""
    told = os.environ | {"GAUNTLET_STATE": str(folder / "state")}
    told = {name: value for name, value in told.items() if name not in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")}
    command = [sys.executable, "-m", "flows", *words]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=told, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_tensorflow()
    path = tmp_path_factory.mktemp("model") / "model.keras"
    frozen().save(path)
    return path


@needs_dask
@pytest.mark.slow
def test_with_workers_the_figures_are_the_same(model: Path, tmp_path: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, more in {"alone": [], "workers": ["--workers", "2"]}.items():
        done = gauntlet(tmp_path / name, "attack", "--model", str(model), *WORDS, *more, "--json")
        assert done.returncode == 0, done.stderr
        assert "distributed" not in done.stderr
        found[name] = json.loads(done.stdout.splitlines()[-1])
    assert found["workers"]["workers"] == 2
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in one["results"]] for one in found.values()]
    for one, other in zip(*rows, strict=True):
        # shards are smaller with workers, and a rounding may flip an image
        assert abs(one.pop("robust_accuracy") - other.pop("robust_accuracy")) <= 1 / 300
        assert (one["attack"], one["n"], one["tried"]) == (other["attack"], other["n"], other["tried"])
    assert found["alone"]["clean_accuracy"] == found["workers"]["clean_accuracy"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--workers", "0"), "error: --workers: "),
        (("--cluster", "somewhere"), "error: --cluster 'somewhere': no address of a scheduler"),
        (("--cluster", f"tcp://127.0.0.1:{free_port()}"), "no scheduler answers: "),
        (("--workers", "2", "--cluster", "tcp://127.0.0.1:1"), "--workers, --cluster: two kinds of workers"),
    ],
)
@pytest.mark.parametrize("command", ["attack", "run", "nightly"])
@needs_dask
def test_workers_that_cannot_be_had_are_one_line_and_status_2(
    command: str, words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    more = ("--model", "module:function") if command == "attack" else ()
    done = gauntlet(tmp_path, command, *more, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "state").exists()


def below(pid: int) -> list[psutil.Process]:
    """The workers of a command, and whoever else it started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@needs_dask
@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_command_however_it_ends(model: Path, tmp_path: Path, end: signal.Signals) -> None:
    told = os.environ | {"GAUNTLET_STATE": str(tmp_path / "state"), "MLFLOW_TRACKING_URI": ""}
    told = {name: value for name, value in told.items() if value}
    words = ["attack", "--model", str(model), "--attack", "pgd:max_iter=10000,early_stop=False", "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "flows", *words]
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=told, stdout=log, stderr=log, start_new_session=True)
    busy: list[psutil.Process] = []
    try:
        wait_until(lambda: process.poll() is not None or at_work(busy, process.pid), tmp_path / "log", 200)
        assert process.poll() is None, (tmp_path / "log").read_text()
        started = below(process.pid)
        process.send_signal(end)
        status = process.wait(120)
    finally:
        process.kill()
        process.wait()
    assert status == (TERMINATED if end == signal.SIGTERM else -9)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive


def at_work(busy: list[psutil.Process], pid: int) -> bool:
    """Whether two processes below `pid` have TensorFlow loaded, and so make shards."""
    busy[:] = [one for one in below(pid) if one.is_running() and resident(one) > 300e6]
    return len(busy) >= 2


def resident(process: psutil.Process) -> int:
    """Bytes in memory; 0 of a process that has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
