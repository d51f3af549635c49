"""The flow `attack`: batteries, cascades, black boxes, canaries, and what each leaves in MLflow."""

from __future__ import annotations

from typing import Any

import pytest

from flows.attack import attack
from gauntlet.errors import GateError, InputError, SettingError
from gauntlet.state import state_dir
from tasks.store import tracking

CASCADE = ["noise-uniform", "square:max_iter=30", "fgsm", "apgd-ce:max_iter=5"]


@pytest.fixture(scope="module")
def cascade(victim: str, small_npz: str, store: str) -> dict[str, Any]:
    settings = {"attack": CASCADE, "eps": [0.05, 0.1], "n": 60, "cascade": True}
    found: dict[str, Any] = attack(model=victim, dataset=small_npz, tracking_uri=store, **settings)
    return found


def test_a_cascade_runs_the_cheap_attacks_first_and_each_on_what_is_left(cascade: dict[str, Any]) -> None:
    rows = [row for row in cascade["results"] if row["eps"] == 0.1]
    assert [row["attack"] for row in rows] == ["noise-uniform", "fgsm", "apgd-ce", "square"]
    fgsm, apgd, square = rows[1:]
    assert fgsm["tried"] == 60
    assert apgd["tried"] == round(60 * fgsm["robust_accuracy"])
    assert square["tried"] == round(60 * apgd["robust_accuracy"])
    (worst,) = [case for case in cascade["worst_case"] if case["eps"] == 0.1]
    assert worst["robust_accuracy"] == square["robust_accuracy"] <= fgsm["robust_accuracy"]


@pytest.fixture(scope="module")
def bounded(victim: str, small_npz: str, store: str) -> dict[str, Any]:
    settings = {"attack": ["fgsm", "pgd:max_iter=5"], "eps": [0.001, 0.1], "n": 24, "cascade": True}
    certify = ["interval", "crown", "smoothing:draws=20,first=5,alpha=0.1"]
    found: dict[str, Any] = attack(model=victim, dataset=small_npz, tracking_uri=store, certify=certify, **settings)
    return found


@pytest.mark.slow
def test_certified_images_leave_a_cascade_before_it_starts(bounded: dict[str, Any]) -> None:
    proven = {row["eps"]: row["certified_accuracy"] for row in bounded["certified"] if row["certifier"] == "crown"}
    assert proven[0.1] <= proven[0.001]
    assert proven[0.001] > 0.5
    tried = {row["eps"]: row["tried"] for row in bounded["results"] if row["attack"] == "fgsm"}
    assert tried == {eps: 24 - round(24 * share) for eps, share in proven.items()}


@pytest.mark.slow
def test_robust_accuracy_is_bounded_from_both_sides(bounded: dict[str, Any]) -> None:
    for case in bounded["worst_case"]:
        assert case["proven"] <= case["robust_accuracy"]
    run = tracking.read(bounded["run_id"])
    rows = [row for row in bounded["certified"] if row["eps"] == 0.1]
    assert [row["certifier"] for row in rows] == ["interval", "crown", "smoothing"]
    assert all(row["low"] <= row["certified_accuracy"] <= row["high"] and row["n"] == 24 for row in rows)
    assert run.data.metrics["certified/accuracy"] == rows[1]["certified_accuracy"]
    assert run.data.metrics["smoothed/accuracy"] == rows[2]["certified_accuracy"]
    frame = tracking.frame(bounded["run_id"], "certified.parquet")
    assert len(frame) == 3 * 2 * 24
    worst = [m for m in tracking.records(bounded["run_id"])["measurements"] if m.condition == "worst case"]
    assert all("\N{EN DASH}" in m.text for m in worst)


def test_a_model_that_cannot_be_bounded_is_refused_before_it_is_attacked(
    small_npz: str, store: str, tmp_path: Any
) -> None:
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(8, activation="gelu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((14, 14, 1)), *layers])
    model.save(tmp_path / "gelu.keras")
    settings = {"dataset": small_npz, "tracking_uri": store, "certify": ["crown"], "accept_chance": True}
    with pytest.raises(InputError, match=r"layer 'dense.*' \(Dense\): no bounds are known for the activation gelu"):
        attack(model=str(tmp_path / "gelu.keras"), **settings)


def test_a_later_attack_of_a_cascade_claims_no_accuracy_of_its_own(cascade: dict[str, Any]) -> None:
    measured = tracking.records(cascade["run_id"])["measurements"]
    assert {m.condition for m in measured} == {"clean", "noise-uniform", "fgsm", "worst case"}
    runs = {run.data.params["attack.name"]: run.data.metrics for run in tracking.children(cascade["run_id"])}
    assert "robust/accuracy" in runs["fgsm"]
    assert "robust/accuracy" not in runs["square"]
    assert runs["square"]["cascade/tried"] >= runs["square"]["cascade/broken"]


def test_outcomes_say_who_broke_what_after_how_many_calls(cascade: dict[str, Any]) -> None:
    frame = tracking.frame(cascade["run_id"], "outcomes.parquet")
    assert len(frame) == 60 * len(CASCADE) * 2
    adversaries = frame[frame["attack"] != "noise-uniform"]
    assert adversaries.groupby(["index", "eps"])["broken"].sum().max() == 1
    assert (frame.loc[~frame["tried"], "calls"] == 0).all()
    assert (adversaries.loc[adversaries["broken"], "calls"] > 0).all()
    assert tracking.frame(cascade["run_id"], "clean.parquet")["correct"].mean() == cascade["clean_accuracy"]


@pytest.mark.usefixtures("cascade")
def test_nothing_unfinished_is_left_when_a_run_is_done() -> None:
    assert not any((state_dir() / "unfinished").glob("*"))


def test_a_search_for_the_smallest_perturbation_tells_its_distances(victim: str, small_npz: str, store: str) -> None:
    found = attack(
        model=victim, dataset=small_npz, tracking_uri=store, attack=["deepfool:norm=inf"], eps=[0.05, 0.3], n=24
    )
    metrics = tracking.read(found["run_id"]).data.metrics
    assert 0 < metrics["distance/q1"] <= metrics["distance/median"] <= metrics["distance/q3"]
    assert 0 < metrics["distance/found"] <= 1
    assert tracking.find(found["run_id"], "distances.png")
    near, far = found["results"]
    assert far["robust_accuracy"] <= near["robust_accuracy"]


def test_an_evaluation_that_is_in_doubt_fails_on_request(victim: str, small_npz: str, store: str) -> None:
    settings = {"attack": ["fgsm"], "eps": [0.1], "n": 60}
    with pytest.raises(GateError, match=r"the evaluation is SUSPECT: .*single-step"):
        attack(model=victim, dataset=small_npz, tracking_uri=store, require_valid=True, **settings)


def test_a_model_or_the_canaries_must_be_named() -> None:
    for settings in ({}, {"model": "x", "canaries": True}):
        with pytest.raises(SettingError, match="--model or --canaries"):
            attack(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 5_000}, "5,000 images of a test set of 120"),
        ({"attack": ["pgd"], "eps": [1.5]}, "eps of pgd: a budget of 1.5 is not in"),
        ({"attack": ["pgd:target=12"]}, "there is no class 12 among 10"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_leaves_no_finished_run(
    settings: dict[str, Any], says: str, victim: str, small_npz: str, store: str
) -> None:
    with pytest.raises(SettingError, match=says):
        attack(model=victim, dataset=small_npz, tracking_uri=store, **settings)
