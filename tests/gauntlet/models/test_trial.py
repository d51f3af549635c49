"""A stranger's model is tried in a process with limits: what these stop, and what the process is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet.errors import ModelError
from gauntlet.models import trial
from gauntlet.state import PROJECT_ROOT
from tests.hostile import making

LIMITED = {
    "memory": "bytearray(trial.MEMORY + (1 << 30))",
    "a file": "open(sys.argv[1], 'wb', buffering=0).write(b'x')",
}


@pytest.mark.parametrize("what", LIMITED.values(), ids=LIMITED)
def test_the_child_is_held_to_its_limits(what: str, tmp_path: Path) -> None:
    code = f"import sys\nfrom gauntlet.models import trial\ntrial._limit()\n{what}"
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr or "File too large" in done.stderr
    assert not any(path.stat().st_size for path in tmp_path.iterdir())


def test_the_child_ends_when_its_time_is_over() -> None:
    code = "from gauntlet.models import trial\ntrial.SECONDS = 1\ntrial._limit()\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False, timeout=60)
    assert "more than" in trial._reason(done.returncode, "")


def test_who_waits_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))
    monkeypatch.setattr(trial, "SECONDS", -29.9)
    path = making.described(tmp_path / "m.keras", making.config())
    with pytest.raises(ModelError, match="was not built and asked"):
        trial.passed(path, "0" * 64)
    assert not list(tmp_path.glob("checked/*"))


def test_the_child_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str] = {}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:password@example.org")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: told.update(env))
    trial._started(tmp_path / "m.keras", "0" * 64)
    assert set(told) <= {*trial.KEPT, "TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES", "KERAS_BACKEND"}
    assert "PATH" in told


def test_what_passed_is_remembered_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))
    monkeypatch.setattr(trial, "_started", lambda *_: pytest.fail("tried again"))
    trial.remember("0" * 64)
    trial.passed(tmp_path / "m.keras", "0" * 64)
    with pytest.raises(pytest.fail.Exception, match="tried again"):
        trial.passed(tmp_path / "m.keras", "1" * 64)


@pytest.mark.parametrize("code", ["pass", "import time; time.sleep(60)"], ids=["ended", "running"])
def test_a_child_that_is_not_waited_for_leaves_no_pipe_open(code: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    if code == "pass":
        child.wait(30)
    trial._kill(child)
    assert child.returncode is not None
    assert child.stdout is not None
    assert child.stdout.closed
