"""A GPU is chosen, hidden or refused before anything looks for one. No GPU is needed: what is seen is stated."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from gauntlet.errors import SettingError
from gauntlet.models import device
from gauntlet.models.device import NONE, ORDER, VISIBLE, Device, choose
from gauntlet.state import PROJECT_ROOT

BOTH = {"TensorFlow": ["NVIDIA A100"], "PyTorch": ["NVIDIA A100"]}
NOBODY: dict[str, list[str]] = {"TensorFlow": [], "PyTorch": []}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored afterwards; two GPUs are seen."""
    for name in (VISIBLE, ORDER):
        monkeypatch.setenv(name, "")  # so that it is restored, even where it was not set
        monkeypatch.delenv(name)
    monkeypatch.setattr(device, "seen", lambda: BOTH)


@pytest.mark.parametrize(
    ("asked", "visible"), [("auto", None), ("gpu", None), ("gpu:1", "1"), ("gpu:12", "12")], ids=str
)
def test_only_the_gpus_that_are_meant_are_shown(asked: str, visible: str | None) -> None:
    assert choose(asked) == ""
    assert choose(asked) == ""  # the command and the flow both ask
    assert os.environ.get(VISIBLE) == visible
    assert (ORDER in os.environ) == (visible is not None)


def test_the_processor_is_all_there_is_where_gpus_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "seen", lambda: NOBODY)
    assert choose("cpu") == ""
    assert os.environ[VISIBLE] == NONE


def test_a_gpu_that_nobody_sees_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "seen", lambda: NOBODY)
    for asked in ("gpu", "gpu:3"):
        with pytest.raises(SettingError, match=f"device {asked}: no GPU is seen by TensorFlow or PyTorch"):
            choose(asked)


def test_a_gpu_that_was_hidden_from_us_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2,3")
    with pytest.raises(SettingError, match=r"hidden by CUDA_VISIBLE_DEVICES=2,3 \(give gpu\)"):
        choose("gpu:0")
    choose("gpu:3")
    assert os.environ[VISIBLE] == "3"


def test_a_gpu_that_is_in_use_cannot_be_hidden_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    with pytest.raises(SettingError, match="this process has taken a GPU already"):
        choose("cpu")


def test_one_framework_alone_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "seen", lambda: BOTH | {"TensorFlow": []})
    assert choose("gpu") == "TensorFlow sees no GPU: its models are computed by the processor"


@pytest.mark.parametrize("text", ["gpu:", "gpu:-1", "cuda", "gpu:1,2", "GPU", ""])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Device).validate_python(text)


@pytest.mark.slow
def test_a_command_refuses_a_gpu_in_one_line(tmp_path: object) -> None:
    words = [sys.executable, "-m", "flows.train", "--device", "gpu", "--tracking-uri", f"sqlite:///{tmp_path}/m.db"]
    told = os.environ | {VISIBLE: NONE}
    done = subprocess.run(words, cwd=PROJECT_ROOT, env=told, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: device gpu: no GPU is seen by TensorFlow")
    assert len(done.stderr.strip().splitlines()) == 1
