"""The flow over threat models: what it logs, and that it fails only after that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from flows.scan import scan
from gauntlet.errors import GateError, SettingError
from tasks.context import Context
from tasks.store import tracking
from tests.flows.test_command import run
from tests.gauntlet.assurance.stride.test_threat_model import content, threat

HOST = {"kind": "setting", "attribute": "mlflow_server.serve.HOST", "equals": "127.0.0.1"}
ELSEWHERE = HOST | {"equals": "0.0.0.0"}
CARD = {"kind": "test", "test": "tests/gauntlet/gate/test_card.py::test_a_card_that_was_touched_is_refused"}
SHARE = {"kind": "metric", "stage": "attack", "scenario": "white-box", "metric": "robust/accuracy", "at_least": 0.5}
DIGEST = {"kind": "tag", "stage": "attack", "tag": "gauntlet.dataset_digest", "equals": "abc"}


@pytest.fixture
def own_store(tmp_path: Path) -> str:
    """A store in which nothing has run yet."""
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def written(folder: Path, *checks: dict[str, Any]) -> str:
    """A threat model of one threat that is claimed enforced."""
    path = folder / "threats.yaml"
    path.write_text(yaml.safe_dump(content(threat(checks=list(checks)))))
    return str(path)


def attacked(store: str, **metrics: float) -> str:
    """A finished attack run that logged these."""
    with tracking.run(
        "attack", Context(dataset="digits", tracking_uri=store), None, name="a", scenario="white-box"
    ) as r:
        r.metrics({name.replace("__", "/"): value for name, value in metrics.items()})
        r.tags({"gauntlet.dataset_digest": "abc"})
    return r.id


def test_mitigations_that_hold_are_logged_with_their_evidence(own_store: str, tmp_path: Path) -> None:
    attacked(own_store, robust__accuracy=0.1)
    evidence = attacked(own_store, robust__accuracy=0.7, robust__accuracy_low=0.6)
    found = scan(threat_model=written(tmp_path, HOST, CARD, SHARE, DIGEST), tracking_uri=own_store)
    assert found["metrics"] == {f"threats/{s}": float(s == "enforced") for s in STATUSES}
    (one,) = found["threats"]
    assert (one["status"], one["found"]) == ("enforced", "enforced")
    links = [e["link"] for e in one["evidence"]]
    assert links[0].startswith("mlflow_server/serve.py:")
    assert links[1].startswith("tests/gauntlet/gate/test_card.py:")
    assert all(link.endswith(f"/runs/{evidence}") for link in links[2:])
    run = MlflowClient(own_store).get_run(found["run_id"])
    assert run.data.tags["gauntlet.threat_model"] == "ok"
    assert (run.data.tags["gauntlet.stage"], run.data.tags["gauntlet.scenario"]) == ("scan", "threat-model")
    names = {file.path for file in MlflowClient(own_store).list_artifacts(found["run_id"])}
    assert names == {"threat_model.md", "report.html", "metrics.json"}


STATUSES = ("enforced", "partial", "accepted", "open", "failed")


@pytest.mark.parametrize(
    ("checks", "says"),
    [
        ([HOST, ELSEWHERE], "T-01 is claimed enforced: mlflow_server.serve.HOST = '0.0.0.0': is '127.0.0.1'"),
        ([SHARE, HOST], "T-01 is claimed enforced: robust/accuracy ≥ 0.5 (attack, white-box): 0.7 [0.4, 0.8]"),
    ],
    ids=["setting", "metric"],
)
def test_a_refuted_claim_fails_after_everything_was_logged(
    checks: list[dict[str, Any]], says: str, own_store: str, tmp_path: Path
) -> None:
    attacked(own_store, robust__accuracy=0.7, robust__accuracy_low=0.4, robust__accuracy_high=0.8)
    with pytest.raises(GateError) as caught:
        scan(threat_model=written(tmp_path, *checks), tracking_uri=own_store)
    assert says in str(caught.value)
    context = Context(dataset="digits", tracking_uri=own_store)
    (run_id,) = tracking.search(context, {"stage": "scan", "threat_model": "failed"}, ended=False)
    run = tracking.read(run_id)
    assert run.info.status == "FAILED"
    assert run.data.metrics["threats/failed"] == 1
    assert {e["outcome"] for e in tracking.records(run_id)["threats"][0]["evidence"]} == {"passed", "failed"}
    assert says in tracking.records(run_id)["problems"][0]
    assert "What does not stand" in tracking.text(run_id, "threat_model.md")


def test_missing_evidence_is_partial_and_fails_on_request(own_store: str, tmp_path: Path) -> None:
    model = written(tmp_path, HOST, SHARE)
    found = scan(threat_model=model, tracking_uri=own_store)
    assert found["threats"][0]["found"] == "partial"
    with pytest.raises(GateError, match=r"T-01 lacks evidence: robust/accuracy ≥ 0.5 .*: no such run yet"):
        scan(threat_model=model, strict=True, tracking_uri=own_store)


def test_evidence_may_come_from_any_data_set_unless_one_is_named(own_store: str, tmp_path: Path) -> None:
    attacked(own_store, robust__accuracy=0.7)
    for dataset, status in (("digits", "enforced"), ("mnist", "partial")):
        model = written(tmp_path, SHARE | {"dataset": dataset})
        found = scan(threat_model=model, tracking_uri=own_store, dataset="cifar10")
        assert found["threats"][0]["found"] == status


@pytest.mark.parametrize(
    "flags", [{"strict": True}, {"threat_model": "x", "path": "."}, {"threat_model": "x", "fail_on": "low"}], ids=str
)
def test_settings_that_cannot_be_meant_are_refused(flags: dict[str, Any], own_store: str) -> None:
    with pytest.raises(SettingError, match=r"--threat-model|--strict"):
        scan(**flags, tracking_uri=own_store)


def test_the_command_line_ends_with_the_gates_status(own_store: str, tmp_path: Path) -> None:
    done = run("flows.scan", "--threat-model", written(tmp_path, ELSEWHERE), "--tracking-uri", own_store)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("failed: the threat model does not stand: T-01")


def test_a_wrong_file_is_one_line_and_starts_nothing(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    path = written(tmp_path)
    done = run("flows.scan", "--threat-model", path, "--tracking-uri", f"sqlite:///{store}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: threats.yaml: T-01: enforced needs a check")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not store.exists()


def test_the_flag_without_a_file_means_the_projects_own() -> None:
    from flows.command import Command, _parser
    from flows.scan import ScanConfig

    def function() -> None:
        """Scan."""

    parser = _parser(Command(function, ScanConfig, {}))
    given = [vars(parser.parse_args(words))["threat_model"] for words in ([], ["--threat-model"])]
    assert given == [None, "threat_model.yaml"]
    assert vars(parser.parse_args(["--threat-model", "--strict"]))["threat_model"] == "threat_model.yaml"
    assert vars(parser.parse_args(["--threat-model", "x.yaml"]))["threat_model"] == "x.yaml"
