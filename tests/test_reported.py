"""`report.log_to_mlflow()`: by the contract of the flows, and into a run of others without harm to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

import gauntlet
from gauntlet import api
from gauntlet.data.datasets import read_dataset
from gauntlet.errors import InputError
from tasks.reported import FILES
from tasks.store import tracking
from tests.frozen import frozen

EPS = (0.05, 0.1)
ASKED: dict[str, Any] = {"eps": EPS, "attacks": ["fgsm", "pgd:max_iter=10"], "certify": ["interval"], "n": 60}


@pytest.fixture(scope="module")
def report() -> gauntlet.Report:
    digits = read_dataset("digits")
    return gauntlet.evaluate(frozen(), digits.x_test, digits.y_test, **ASKED, name="mine")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MlflowClient]:
    """A store that MLflow was told of; afterwards none is, as before."""
    uri, before = f"sqlite:///{tmp_path / 'mlflow.db'}", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    client.create_experiment("own", (tmp_path / "files").as_uri())
    yield client
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def start(client: MlflowClient) -> mlflow.ActiveRun:
    """A run of the user's own."""
    return mlflow.start_run(experiment_id=client.get_experiment_by_name("own").experiment_id)


def files(client: MlflowClient, run_id: str) -> set[str]:
    return {file.path for file in client.list_artifacts(run_id)}


def test_a_new_run_is_one_of_the_contract(report: gauntlet.Report, store: MlflowClient) -> None:
    run = store.get_run(report.log_to_mlflow("mine-too"))
    tags, metrics = run.data.tags, run.data.metrics
    assert store.get_experiment(run.info.experiment_id).name == "gauntlet-mine-too"
    assert (run.info.status, tags["gauntlet.stage"], tags["gauntlet.model"]) == ("FINISHED", "attack", "mine")
    assert (tags["gauntlet.validity"], tags["gauntlet.scenario"]) == (report.verdict, "white-box")
    assert tags["gauntlet.dataset_digest"] == report.data["digest"]
    assert run.inputs.dataset_inputs[0].dataset.name == tags["gauntlet.dataset"] == "mine-too"
    assert (run.data.params["eps"], run.data.params["attack.1.max_iter"]) == (str(list(EPS)), "10")
    assert metrics["clean/accuracy"] == report.clean_accuracy.value
    for name in ("robust/accuracy", "certified/accuracy"):
        assert [point.step for point in store.get_metric_history(run.info.run_id, name)] == [50, 100]
    values = [point.value for point in store.get_metric_history(run.info.run_id, "robust/accuracy")]
    assert values == [case.value for case in report.worst_case]
    assert files(store, run.info.run_id) >= set(FILES)
    assert tracking.records(run.info.run_id)["validity"] == report.verdict


def test_one_attack_has_the_metrics_of_the_flow(store: MlflowClient) -> None:
    digits = read_dataset("digits")
    one = gauntlet.evaluate(frozen(), digits.x_test, digits.y_test, EPS, attacks="pgd:max_iter=10", n=60)
    metrics = store.get_run(one.log_to_mlflow()).data.metrics
    assert metrics["robust/accuracy"] == one.robust_accuracy
    assert metrics["robust/linf_max"] == pytest.approx(0.1, abs=1e-6)
    assert {"robust/attack_success_rate", "robust/calls_mean", "robust/loss"} <= set(metrics)


@pytest.mark.usefixtures("store")
def test_mlflow_logs_where_it_did_before(
    report: gauntlet.Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = mlflow.get_tracking_uri()
    report.log_to_mlflow()
    assert mlflow.get_tracking_uri() == told
    mlflow.set_tracking_uri(None)  # told of none: the report goes into the store of the commands
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path / "state"))
    run_id = report.log_to_mlflow()
    assert not mlflow.is_tracking_uri_set()
    assert MlflowClient(f"sqlite:///{tmp_path / 'state' / 'mlflow.db'}").get_run(run_id).info.status == "FINISHED"


def test_the_open_run_keeps_what_it_has(report: gauntlet.Report, store: MlflowClient) -> None:
    with start(store) as run:
        mlflow.log_params({"seed": 7, "n": "own"})
        mlflow.log_text("mine", "notes.txt")
        assert report.log_to_mlflow() == run.info.run_id == mlflow.active_run().info.run_id
        assert store.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("later", 1)
    logged = store.get_run(run.info.run_id)
    assert (logged.data.params["seed"], logged.data.params["n"]) == ("7", "own")
    assert (logged.data.params["gauntlet.seed"], logged.data.params["gauntlet.n"]) == ("0", "60")
    assert not {"gauntlet.host", "gauntlet.process"} & set(logged.data.tags)  # by these we would end it some day
    assert files(store, run.info.run_id) >= {"notes.txt", *FILES}
    assert logged.data.metrics["robust/accuracy"] == report.robust_accuracy


def ended(run_id: str) -> None:
    MlflowClient().set_terminated(run_id)


def deleted(run_id: str) -> None:
    MlflowClient().delete_run(run_id)


def evaluated(run_id: str) -> None:
    MlflowClient().set_tag(run_id, "gauntlet.stage", "train")


def taken(run_id: str) -> None:
    MlflowClient().log_text(run_id, "mine", "report.html")


REFUSED = {
    ended: r"it has ended \(FINISHED\)",
    deleted: r"it has ended \(deleted\)",
    evaluated: r"it holds another stage already \(train\)",
    taken: "it holds report.html, which would be replaced",
}


@pytest.mark.parametrize(("change", "says"), REFUSED.items(), ids=[change.__name__ for change in REFUSED])
def test_a_run_that_cannot_be_logged_into_is_not_touched(
    change: Any, says: str, report: gauntlet.Report, store: MlflowClient
) -> None:
    run_id = start(store).info.run_id
    change(run_id)
    before, kept = store.get_run(run_id).to_dictionary(), files(store, run_id)
    with pytest.raises(InputError, match=rf"^run {run_id}: {says} \(open a"):
        report.log_to_mlflow()
    assert (store.get_run(run_id).to_dictionary(), files(store, run_id)) == (before, kept)
    if change in (ended, deleted):
        mlflow.tracking.fluent._active_run_stack.set([])  # MLflow cannot end such a run again


def test_a_run_that_the_environment_names_is_not_continued(
    report: gauntlet.Report, store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(store) as other:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
    assert report.log_to_mlflow() != other.info.run_id
    assert not store.get_run(other.info.run_id).data.metrics


def test_a_name_that_no_experiment_can_have_is_one_line(report: gauntlet.Report, store: MlflowClient) -> None:
    with pytest.raises(InputError, match="name becomes an experiment's, and cannot"):
        report.log_to_mlflow("a\nb")
    assert [one.name for one in store.search_experiments()] == ["own", "Default"]


def test_without_the_installed_package_it_says_so(report: gauntlet.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "STORES", "nothing")
    with pytest.raises(InputError, match="nothing that is installed keeps reports in mlflow"):
        report.log_to_mlflow()
