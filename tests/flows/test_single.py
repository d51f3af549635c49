"""The single-stage flows: people's own models, parameters that are refused, stages that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

from flows.attack import attack
from flows.defend import DefendConfig, defend
from flows.poison import poison
from flows.scan import scan
from flows.suite import suite
from flows.train import train
from gauntlet.errors import DataError, GateError, InputError, ModelError, SettingError
from tasks.store import registry, tracking
from tests.flows.conftest import QUICK


def test_a_single_stage_is_a_run_without_a_parent(trained: dict[str, Any], store: str) -> None:
    run = MlflowClient(store).get_run(trained["run_id"])
    assert "mlflow.parentRunId" not in run.data.tags
    assert run.data.params["epochs"] == "6"


@pytest.mark.parametrize("form", ["registry", "alias", "run", "file"])
def test_a_model_is_attacked_wherever_it_lies(
    form: str, trained: dict[str, Any], small_npz: str, store: str, tmp_path: Path
) -> None:
    model = registry.load_model(trained["model_uri"])
    model.save(tmp_path / "mine.keras")
    uris = {
        "registry": trained["model_uri"],
        "alias": "models:/gauntlet-small-single@candidate",
        "run": f"runs:/{trained['run_id']}/model",
        "file": str(tmp_path / "mine.keras"),
    }
    settings = {"attack": ["fgsm"], "eps": [0.1], "n": 40}
    result = attack(model=uris[form], dataset=small_npz, tracking_uri=store, **settings)
    assert result["clean_accuracy"] == pytest.approx(trained["metrics"]["clean/accuracy"])
    (row,) = result["results"]
    assert (row["attack"], row["eps"], row["norm"], row["knowledge"]) == ("fgsm", 0.1, "inf", "white-box")
    assert row["low"] <= row["robust_accuracy"] <= row["high"]


def test_one_attack_is_one_run(trained: dict[str, Any], small_npz: str, store: str) -> None:
    result = attack(model=trained["model_uri"], dataset=small_npz, tracking_uri=store, attack=["fgsm"], eps=[0.1])
    run = tracking.read(result["run_id"])
    assert run.data.metrics["robust/accuracy"] == pytest.approx(result["results"][0]["robust_accuracy"])
    assert tracking.children(result["run_id"]) == []


def test_images_are_kept_when_asked(trained: dict[str, Any], small_npz: str, store: str) -> None:
    settings = {"attack": ["fgsm"], "eps": ["25/255"], "n": 30, "save_images": True}
    result = attack(model=trained["model_uri"], dataset=small_npz, tracking_uri=store, **settings)
    saved = tracking.arrays(result["run_id"], "adversarial.npz")
    key = f"{result['results'][0]['attack_id']} 0.0980392"
    assert saved[f"images {key}"].shape == (30, 14, 14, 1)
    assert len(np.unique(saved[f"index {key}"])) == 30


@pytest.mark.slow
def test_source_makes_it_a_transfer(trained: dict[str, Any], small_npz: str, store: str) -> None:
    other = train(dataset=small_npz, tracking_uri=store, epochs=4, seed=1, role="other")
    settings = {"attack": ["pgd:max_iter=5"], "eps": [0.1], "n": 40, "source": other["model_uri"]}
    result = attack(model=trained["model_uri"], dataset=small_npz, tracking_uri=store, **settings)
    assert result["results"][0]["knowledge"] == "transfer"
    assert result["validity"] == "SUSPECT"
    assert "not adaptive" in " ".join(result["reasons"])
    assert result["worst_case"] == []


@pytest.mark.slow
def test_poison_and_defend_bring_their_own_baseline(small_npz: str, store: str) -> None:
    poisoned = poison(dataset=small_npz, tracking_uri=store, epochs=4, poisoning="corner-trigger:count=60,target=0")
    assert poisoned["metrics"]["backdoor/poisoned_images"] == 60
    defended = defend(dataset=small_npz, tracking_uri=store, epochs=4, attack=["fgsm"], eps=[0.1], n=40)
    assert {row["knowledge"] for row in defended["white_box"]} == {"white-box"}
    assert {row["knowledge"] for row in defended["transfer"]} == {"transfer"}
    assert defended["metrics"]["train/cost_ratio"] > 1


def test_scan_finds_what_is_there_and_its_gate_fails_after_logging(store: str) -> None:
    fixtures = str(Path(__file__).parents[1] / "fixtures" / "sast")
    found = scan(path=fixtures, tracking_uri=store)
    assert found["metrics"]["scan/high"] >= 1
    with pytest.raises(GateError, match="high"):
        scan(path=fixtures, fail_on="high", tracking_uri=store)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("gauntlet-digits")
    failed = client.search_runs([experiment.experiment_id], "attributes.status = 'FAILED'")
    assert failed[0].data.metrics["scan/high"] == found["metrics"]["scan/high"]


def test_the_projects_own_code_scans_clean(store: str) -> None:
    metrics = scan(tracking_uri=store)["metrics"]
    assert [metrics[f"scan/{level}"] for level in ("high", "medium", "low")] == [0, 0, 0]


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": "x", "n": "many"}, ParameterTypeError, "n"),
    ({"model": "x", "nn": 3}, TypeError, "nn"),
    ({}, SettingError, "--model"),
    ({"model": "x", "attack": ["pdg"]}, SettingError, "unknown attack 'pdg'"),
    ({"model": "x", "attack": ["pgd:max_iter=0"]}, SettingError, "max_iter"),
    ({"model": "x", "seed": -1}, ParameterTypeError, "seed"),
    ({"model": "x", "dataset": "mnits"}, DataError, "unknown data set"),
    ({"model": "absent.keras"}, ModelError, "no such model file"),
    ({"model": "models:/absent/1"}, ModelError, "no such model"),
    ({"model": "models:/absent@candidate"}, ModelError, "no such model"),
    ({"model": "runs:/0123456789abcdef0123456789abcdef/model"}, ModelError, "no such model"),
]


@pytest.mark.parametrize(("parameters", "kind", "says"), WRONG)
def test_wrong_input_is_refused_with_its_name(
    parameters: dict[str, Any], kind: type[Exception], says: str, store: str
) -> None:
    with pytest.raises((kind, ValidationError)) as caught:
        attack(tracking_uri=store, **parameters)
    assert says in str(caught.value)
    if isinstance(caught.value, InputError):
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"eps": [2.0]}, "not in (0, 1]"), ({"n": 10_000}, "10,000"), ({"eps": [0.1], "n": 121}, "121")],
)
def test_impossible_settings_are_one_line(
    setting: dict[str, Any], says: str, trained: dict[str, Any], small_npz: str, store: str
) -> None:
    with pytest.raises(SettingError) as caught:
        attack(model=trained["model_uri"], dataset=small_npz, tracking_uri=store, attack=["fgsm"], **setting)
    assert says in str(caught.value)


@pytest.mark.slow
def test_a_failed_stage_fails_its_run_and_the_flow_and_the_rest_stays(small_npz: str, store: str) -> None:
    settings = QUICK | {"poisoning": "corner-trigger:size=99", "defense": [], "attack": ["fgsm"]}
    with pytest.raises(SettingError, match="99 pixels"):
        suite(dataset=small_npz, tracking_uri=store, **settings)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("gauntlet-small").experiment_id
    newest = client.search_runs([experiment], "tags.`gauntlet.stage` = 'suite'", order_by=["start_time DESC"])[0]
    assert newest.info.status == "FAILED"
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{newest.info.run_id}'")
    status = {run.info.run_name: run.info.status for run in below}
    finished = ("baseline", "attack baseline", "backdoor scan of baseline", "scan", "compare")
    assert status == dict.fromkeys(finished, "FINISHED") | {"poisoned": "FAILED"}
    failed = next(run for run in below if run.info.status == "FAILED")
    assert "99 pixels" in failed.data.tags["gauntlet.error"]
    report = tracking.find(newest.info.run_id, "report.md")
    assert report
    assert "stage failed: poison" in report.read_text()


@pytest.mark.slow
def test_mending_tells_success_before_and_after_and_what_it_cost(small_npz: str, store: str, capsys: Any) -> None:
    told = {"dataset": small_npz, "tracking_uri": store, "epochs": 2, "attack": ["fgsm"], "eps": [0.1], "n": 20}
    result = defend(**told, defense="unlearning:steps=10,images=200", trigger=["corner-trigger:target=3"])
    clean, success = result["mended"]
    assert (clean["what"], success["what"]) == ("clean accuracy", "success of corner-trigger")
    assert success["before"]["n"] == success["after"]["n"] < clean["after"]["n"] == 120
    metrics = result["metrics"]
    assert metrics["mend/accuracy_lost"] == pytest.approx(clean["before"]["value"] - metrics["clean/accuracy"])
    assert metrics["backdoor/attack_success_rate"] == success["after"]["value"]
    assert metrics["mend/success_rate_before"] == success["before"]["value"]
    said = capsys.readouterr().err
    assert "success of corner-trigger" in said
    assert f"{metrics['train/seconds']:.1f} seconds" in said


def test_a_trigger_that_wants_nothing_is_refused_before_any_work(small_npz: str) -> None:
    with pytest.raises(SettingError, match="no image is meant to change its class"):
        DefendConfig(dataset=small_npz, trigger=("label-flips",)).check()
