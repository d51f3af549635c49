"""One whole suite on real data, with real tracking: what it leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow import MlflowClient

from gauntlet.measurement import Measurement, wilson
from tasks.store import connection, registry, tracking

DEFENDED = ("adversarial-training", "on-the-fly")
MODELS = ("baseline", "poisoned", *DEFENDED)
TRAINED = {"clean/accuracy", "clean/loss", "clean/loss_low", "clean/loss_high", "clean/inference_ms", "train/seconds"}
ROBUST = {
    f"robust/{name}"
    for name in (
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "attack_success_rate",
        "linf_max",
        "l2_mean",
        "seconds",
    )
}
CONTRACT = {
    "train": TRAINED,
    "poison": TRAINED
    | {f"backdoor/attack_success_rate{end}" for end in ("", "_low", "_high")}
    | {"backdoor/accuracy", "backdoor/clean_model_success_rate"},
    "defend": TRAINED | {"train/cost_ratio"},
    "scan": {"scan/high", "scan/medium", "scan/low", "scan/lines"},
}


pytestmark = pytest.mark.usefixtures("suite_run")


@pytest.fixture(scope="module")
def client(store: str) -> MlflowClient:
    return MlflowClient(store)


@pytest.fixture(scope="module")
def stages(suite_run: dict[str, Any], client: MlflowClient) -> list[Any]:
    """The suite's children, oldest first."""
    connection.connect(client.tracking_uri)
    return tracking.children(suite_run["run_id"])


@pytest.fixture(scope="module")
def attacks(stages: list[Any]) -> list[Any]:
    """The runs of single attacks, below the batteries."""
    batteries = [stage for stage in stages if stage.data.tags["gauntlet.stage"] == "attack"]
    return [run for battery in batteries for run in tracking.children(battery.info.run_id)]


@pytest.fixture(scope="module")
def measured(suite_run: dict[str, Any]) -> list[Measurement]:
    return [Measurement(**row) for row in suite_run["measurements"]]


def test_every_stage_is_a_finished_child_of_the_suite(stages: list[Any]) -> None:
    kinds = [stage.data.tags["gauntlet.stage"] for stage in stages]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "train": 1, "attack": 6, "poison": 1, "defend": 2, "scan": 1, "compare": 1, "backdoor": 2,
    }  # fmt: skip
    assert all(stage.info.status == "FINISHED" for stage in stages)


def test_every_run_says_what_it_is_of(stages: list[Any]) -> None:
    for stage in stages:
        tags = stage.data.tags
        assert tags["gauntlet.dataset"] == "small"
        assert tags["prefect.flow_run_id"]
        if tags["gauntlet.stage"] not in ("scan", "compare"):
            assert len(tags["gauntlet.dataset_digest"]) == 64
            assert tags["gauntlet.model"] in MODELS


@pytest.mark.parametrize("kind", CONTRACT)
def test_stages_log_the_contracts_metrics(kind: str, stages: list[Any]) -> None:
    found = [set(stage.data.metrics) for stage in stages if stage.data.tags["gauntlet.stage"] == kind]
    assert found
    assert all(metrics >= CONTRACT[kind] for metrics in found)


def test_an_attacks_metrics_step_with_its_budget(attacks: list[Any], client: MlflowClient) -> None:
    bounded = [run for run in attacks if run.data.params["attack.name"] == "pgd" and "source" in run.data.params]
    white_box = [run for run in bounded if run.data.params["source"] == "None"]
    assert len(white_box) == len(MODELS)
    for run in white_box:
        assert set(run.data.metrics) >= ROBUST
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "robust/accuracy")]
        assert steps == [100, 300]


def test_white_box_and_transfer_are_never_mixed(attacks: list[Any], measured: list[Measurement]) -> None:
    for run in attacks:
        kinds = {name.partition("/")[0] for name in run.data.metrics} & {"robust", "transfer"}
        assert len(kinds) == 1
    transferred = {m.model for m in measured if m.knowledge == "transfer"}
    assert transferred == set(DEFENDED)
    assert {m.model for m in measured if m.knowledge == "white-box"} == set(MODELS)


def test_perturbations_kept_their_budget(attacks: list[Any], client: MlflowClient) -> None:
    for run in attacks:
        if run.data.params["attack.name"] == "noise-gaussian" or "robust/linf_max" not in run.data.metrics:
            continue
        for point in client.get_metric_history(run.info.run_id, "robust/linf_max"):
            assert 0 < point.value <= point.step / 1_000 + 1e-5


def test_outcomes_give_the_numbers_of_the_report(stages: list[Any], measured: list[Measurement]) -> None:
    import pandas as pd

    for stage in stages:
        if stage.data.tags.get("gauntlet.scenario") != "white-box":
            continue
        table = pd.read_parquet(tracking.find(stage.info.run_id, "outcomes.parquet"))
        for (name, eps), rows in table.groupby(["attack", "eps"]):
            mine = [
                m for m in measured if (m.model, m.condition, m.eps) == (stage.data.tags["gauntlet.model"], name, eps)
            ]
            shown = [m for m in mine if m.knowledge != "transfer"]
            assert [m.value for m in shown] == [pytest.approx(rows["correct"].mean())]
            assert (shown[0].low, shown[0].high) == pytest.approx(wilson(int(rows["correct"].sum()), len(rows)))


def test_worst_case_is_no_better_than_any_attack(measured: list[Measurement]) -> None:
    worst = [m for m in measured if m.condition == "worst case"]
    assert len(worst) == len(MODELS) * 2
    for case in worst:
        others = [m for m in measured if (m.model, m.knowledge, m.eps) == (case.model, "white-box", case.eps)]
        assert case.value <= min(m.value for m in others)


def test_models_are_registered_with_digest_and_alias(client: MlflowClient) -> None:
    for role in MODELS:
        version = client.get_model_version_by_alias(f"gauntlet-small-{role}", "candidate")
        assert len(version.tags["gauntlet.model_digest"]) == 64
        model = registry.load_model(f"models:/gauntlet-small-{role}@candidate")
        assert model.input_shape[1:] == (14, 14, 1)


def test_data_sets_are_inputs(stages: list[Any]) -> None:
    trained = next(stage for stage in stages if stage.data.tags["gauntlet.stage"] == "train")
    (entry,) = trained.inputs.dataset_inputs
    profile = json.loads(entry.dataset.profile)
    assert entry.dataset.name == "small"
    assert (profile["train_size"], profile["test_size"]) == (480, 120)
    assert sum(profile["train_label_counts"].values()) == 480


ARTIFACTS = {
    "train": {"confusion_matrix.png", "classification_report.json", "training_curves.png", "metrics.json"},
    "poison": {"examples.png", "poisoned_indices.json", "backdoor.png"},
    "attack": {"outcomes.parquet", "robustness_curve.png", "metrics.json"},
    "scan": {"bandit.json", "findings.json"},
    "compare": {"report.html", "report.md", "metrics.json", "comparison.json", "comparison.png"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_stages_leave_their_artifacts_at_the_root(kind: str, stages: list[Any], client: MlflowClient) -> None:
    stage = next(stage for stage in stages if stage.data.tags["gauntlet.stage"] == kind)
    assert {entry.path for entry in client.list_artifacts(stage.info.run_id)} >= ARTIFACTS[kind]


def test_single_attacks_leave_examples_and_matrix(attacks: list[Any], client: MlflowClient) -> None:
    for run in attacks:
        found = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert found >= {"examples.png", "confusion_matrix.png", "confusion_matrix.json"}


def test_the_report_stands_alone(suite_run: dict[str, Any]) -> None:
    page = tracking.find(suite_run["run_id"], "report.html")
    assert page
    text = page.read_text()
    assert all(model in text for model in MODELS)
    assert "data:image/png;base64," in text
    assert 'src="http' not in text


def test_the_page_says_what_cannot_be_told(suite_run: dict[str, Any], stages: list[Any]) -> None:
    found = tracking.find(suite_run["run_id"], "metrics.json")
    assert found
    rows = json.loads(found.read_text())["tables"]["Can the numbers be believed?"]
    noted = [stage.data.tags["gauntlet.notes"] or "none" for stage in stages if "gauntlet.notes" in stage.data.tags]
    assert [row["notes"] for row in rows] == noted
    assert any("undecided: " in note for note in noted)


def test_the_baseline_learns_and_the_attack_bites(measured: list[Measurement]) -> None:
    def value(condition: str, **facts: Any) -> float:
        wanted = {"model": "baseline", "condition": condition} | facts
        return next(m.value for m in measured if all(getattr(m, k) == v for k, v in wanted.items()))

    assert value("clean") > 0.7
    assert value("pgd", eps=0.3, knowledge="white-box") < value("noise-gaussian", eps=0.2)


def test_a_second_look_finds_the_same_comparison(suite_run: dict[str, Any]) -> None:
    again = tracking.records(suite_run["run_id"])["measurements"]
    assert [m.model_dump(mode="json") for m in again] == suite_run["measurements"]
