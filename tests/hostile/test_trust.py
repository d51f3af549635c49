"""What may run code does so with trust alone; then it says so. The payloads of the corpus are alive."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gauntlet.data.datasets import read_dataset
from gauntlet.errors import ModelError
from gauntlet.models.files import load_file
from tests.hostile import corpus
from tests.hostile import making as m


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_runs_with_trust_alone(suffix: str, folder: Path) -> None:
    path = corpus.lambda_layer(folder, suffix)
    with pytest.raises(ModelError, match="--trust"):
        load_file(path)
    assert not (folder / m.CANARY).exists()
    load_file(path, trust=True)(np.zeros((1, 28, 28, 1), np.float32))
    assert (folder / m.CANARY).exists()


@pytest.mark.parametrize("name", ["objects", "code"])
def test_what_lies_beside_a_registered_model_runs_with_trust_alone(
    name: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.store import connection, registry

    monkeypatch.setenv("GAUNTLET_STATE", str(state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connection.connect()
    uri = f"models:/gauntlet-{name}/1"
    with pytest.raises(ModelError, match="code comes with the model"):
        registry.load_model(uri)
    assert not (state / m.CANARY).exists()
    with suppress(Exception):  # what was unpickled is no model's objects
        registry.load_model(uri, trust=True)
    assert (state / m.CANARY).exists()
    (state / m.CANARY).unlink()


def test_a_function_over_a_network_needs_trust() -> None:
    from tasks.source import Source

    with pytest.raises(ModelError, match=r"^json:loads: importing it runs its code \(pass trust"):
        Source(model="json:loads").load(read_dataset("digits"))


MODULE = """
import numpy as np
from gauntlet.data.datasets import read_dataset

digits = read_dataset("digits")
means = np.stack([digits.x_train[digits.y_train == k].mean(axis=0).ravel() for k in range(10)])

def nearest(x):
    return -((x.reshape(len(x), 1, -1) - means) ** 2).sum(axis=2)
"""


def test_a_run_with_trust_is_tagged_and_says_so(
    folder: Path, typed: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.store import tracking

    (folder / "nearest_of_trust.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GAUNTLET_STATE", str(folder / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["--attack", "noise-uniform", "--eps", "0.1", "--n", "10", "--json"]
    status, out, error = typed("attack", "--model", "nearest_of_trust:nearest", *words)
    assert status == 0, error
    assert "trusted: code that comes with nearest_of_trust:nearest is run" in error
    told = json.loads(out.splitlines()[-1])
    assert any("code that came with the model was run" in note for note in told["notes"])
    assert tracking.read(told["run_id"]).data.tags["gauntlet.trusted"] == "true"
