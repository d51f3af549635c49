"""The flow `scan`: what a run keeps of models, baselines and locked packages; and real models of MLflow."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from flows.scan import scan
from gauntlet.assurance.scan.models import scan as look_into
from gauntlet.errors import GateError
from tasks.store import tracking

CODE = str(Path(__file__).parents[1] / "fixtures" / "twins")


def artifact(run_id: str, name: str) -> Any:
    path = tracking.find(run_id, name)
    assert path is not None
    return json.loads(path.read_text())


def test_a_run_keeps_findings_of_code_and_model_with_their_states(store: str, tmp_path: Path) -> None:
    model, accepted = tmp_path / "m.pkl", tmp_path / "accepted.json"
    model.write_bytes(pickle.dumps(1))
    asked = {"path": CODE, "model": str(model), "tracking_uri": store}
    first = scan(write_baseline=str(accepted), **asked)
    assert first["model"] == str(model)
    assert "scan/new" not in first["metrics"]
    model.write_bytes(b"cos\nsystem\n(S'id'\ntR.")
    with pytest.raises(GateError, match=r"1 new findings of severity low or above, first GM010 in m\.pkl"):
        scan(baseline=str(accepted), fail_on_new=True, **asked)
    (failed,) = MlflowClient(store).search_runs(
        [tracking.read(first["run_id"]).info.experiment_id], "attributes.status = 'FAILED' and metrics.`scan/new` = 1"
    )
    assert failed.data.tags["gauntlet.scenario"] == "bandit, model-file"
    table = artifact(failed.info.run_id, "findings.json")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert {(row["tool"], row["state"]) for row in rows} == {("bandit", "known"), ("model-file", "new")}
    assert all(len(row["fingerprint"]) == 64 for row in rows)
    log = artifact(failed.info.run_id, "findings.sarif")
    assert [result["baselineState"] for result in log["runs"][1]["results"]] == ["new"]
    assert artifact(failed.info.run_id, "bandit.json")["results"]


def test_what_could_not_be_looked_into_makes_a_gate_inconclusive(store: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\x03")
    asked = {"model": str(tmp_path / "m.gguf"), "tracking_uri": store}
    assert "exit_status" not in scan(**asked)
    gated = scan(fail_on="high", **asked)
    assert (gated["exit_status"], gated["metrics"]["scan/errors"]) == (3, 1)
    assert artifact(gated["run_id"], "not_scanned.json") == ["m.gguf: not a model file that can be inspected"]


def test_packages_that_nobody_asked_for_are_tagged_so(store: str) -> None:
    assert scan(path=CODE, tracking_uri=store)["dependencies"] == "not asked"


def test_packages_out_of_reach_are_tagged_so(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    (tmp_path / "lock.txt").write_text("jinja2==3.1.6\n")
    found = scan(lock=str(tmp_path / "lock.txt"), fail_on="low", tracking_uri=store)
    assert found["dependencies"].startswith("not checked: ")
    assert found["exit_status"] == 3


def test_findings_are_shown_and_a_strangers_markup_is_not(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "[red]m.pkl").write_bytes(b"c[bold]somebody\nModel\n.")
    scan(model=str(tmp_path / "[red]m.pkl"), tracking_uri=store)
    shown = capsys.readouterr()
    assert "medium" in shown.err
    assert "GM011" in shown.err
    assert "[red]m.pkl" in shown.err
    assert "[bold]somebody.Model" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(("stored", "found"), [("skops", set()), ("pickle", {"GM014"}), ("cloudpickle", {"GM014"})])
@pytest.mark.filterwarnings("ignore")
def test_a_real_model_of_mlflow(tmp_path: Path, stored: str, found: set[str]) -> None:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    mlflow.sklearn.save_model(model, str(tmp_path / "m"), serialization_format=stored, pip_requirements=["numpy"])
    result = look_into(tmp_path / "m")
    assert ({finding.rule for finding in result.findings}, result.errors) == (found, ())


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_somebodys_python_is_told(tmp_path: Path) -> None:
    class Own(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):  # type: ignore[no-untyped-def]
            return model_input

    mlflow.pyfunc.save_model(str(tmp_path / "m"), python_model=Own(), pip_requirements=["numpy"])
    assert {finding.rule for finding in look_into(tmp_path / "m").findings} >= {"GM010", "GM014"}
