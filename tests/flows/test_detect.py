"""The flow `detect` from the training of a classifier to rates by budget, and a defense that is no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.defend import defend
from flows.detect import detect
from gauntlet.errors import SettingError
from tasks.store import registry, tracking

BRIEF = "gan-discriminator:epochs=2"
RATES = {"auc", "tpr_at_fpr_5", "tpr_at_fpr_1", "tpr_at_threshold", "fpr_at_threshold"}
RATES |= {"clean_accuracy_after_rejection"}


def artifacts(run_id: str) -> set[str]:
    names = ("roc.png", "scores.png", "metrics.json", "outcomes.parquet", "training_curves.png")
    return {name for name in names if tracking.find(run_id, name)}


def test_one_attack_is_one_run_with_rates_by_budget(small_npz: str, store: str) -> None:
    settings = {"dataset": small_npz, "tracking_uri": store, "epochs": 1, "detector": BRIEF, "eps": [0.1, "64/255"]}
    result = detect(n=50, **settings)
    run = tracking.read(result["run_id"])
    assert run.data.tags["gauntlet.stage"] == "detect"
    assert run.data.tags["gauntlet.adaptive"] == run.data.params["adaptive"] == "False"
    assert run.data.params["detector.epochs"] == "2"
    assert result["model"].startswith("models:/gauntlet-small-baseline/")
    assert tracking.children(result["run_id"]) == []
    assert len(artifacts(result["run_id"])) == 5
    client = tracking.MlflowClient()
    assert {m.step for m in client.get_metric_history(result["run_id"], "detect/auc")} == {100, 251}
    assert set(result["metrics"]) >= {f"detect/{name}" for name in RATES}
    first, last = result["results"]
    assert (first["eps"], first["attack"], first["n"], first["adaptive"]) == (0.1, "fgsm", 50, False)
    assert result["metrics"]["detect/auc"] == last["auc"]
    for row in result["results"]:
        for name in RATES:
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert result["n"] == 50


@pytest.mark.slow
def test_several_attacks_are_runs_below_the_hardest(victim: str, small_npz: str, store: str) -> None:
    attacks = ["fgsm", "pgd:max_iter=3", "noise-gaussian:std=[0.3]"]
    settings = {"detector": BRIEF, "attack": attacks, "eps": [0.2], "n": 40}
    result = detect(model=victim, dataset=small_npz, tracking_uri=store, **settings)
    below = {run.data.tags["gauntlet.scenario"]: run for run in tracking.children(result["run_id"])}
    assert set(below) == {"fgsm", "pgd", "noise-gaussian"}
    areas = {name: run.data.metrics["detect/auc"] for name, run in below.items()}
    assert areas == {row["attack"]: row["auc"] for row in result["results"]}
    assert result["metrics"]["detect/auc"] == min(areas["fgsm"], areas["pgd"])
    assert {row["attack"]: row["knowledge"] for row in result["results"]}["noise-gaussian"] == "none"
    outcomes = pd.read_parquet(Path(str(tracking.find(result["run_id"], "outcomes.parquet"))))
    assert outcomes.groupby("attack").size().to_dict() == dict.fromkeys(["clean", *below], 40)
    assert outcomes["score"].between(0, 1).all()
    assert outcomes.groupby("attack")["index"].agg(tuple).nunique() == 1


@pytest.mark.parametrize(
    ("setting", "says"), [({"n": 121}, "121"), ({"eps": [2.0]}, "not in (0, 1]"), ({"detector": "nose"}, "nose")]
)
def test_wrong_input_is_refused(setting: dict[str, Any], says: str, victim: str, small_npz: str, store: str) -> None:
    with pytest.raises(SettingError) as caught:
        detect(model=victim, dataset=small_npz, tracking_uri=store, **({"detector": BRIEF} | setting))
    assert says in str(caught.value)


@pytest.mark.slow
def test_a_reconstruction_is_registered_and_attacked_like_any_model(victim: str, small_npz: str, store: str) -> None:
    settings = {"defense": "vae-reconstruction:epochs=15,batch_size=16,learning_rate=0.003,sampling=average,samples=2"}
    result = defend(model=victim, dataset=small_npz, tracking_uri=store, attack=["fgsm"], eps=[0.1], n=20, **settings)
    assert tracking.read(result["run_id"]).data.params["defense.sampling"] == "average"
    assert set(result["metrics"]) >= {"clean/accuracy", "train/seconds"}
    assert registry.load_model(result["model_uri"]).output_shape == (None, 10)
    assert {row["knowledge"] for row in result["white_box"]} == {"white-box"}
