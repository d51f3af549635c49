"""The flows `privacy` and `datascan`: runs, metrics, gates, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.datascan import datascan
from flows.privacy import privacy
from flows.train import TrainConfig, train
from gauntlet.data import dropping
from gauntlet.data.datasets import read_dataset
from gauntlet.errors import DataError, GateError, SettingError
from tasks.store import tracking
from tests.frozen import halved

COPY = "extraction-copycat:epochs=1,queries=30"


@pytest.mark.slow
def test_several_thefts_are_runs_below_the_worst_of_each_kind(victim: str, small_npz: str, store: str) -> None:
    thefts = ["membership-gap", "membership-loss", COPY]
    result = privacy(model=victim, dataset=small_npz, tracking_uri=store, theft=thefts, n=50)
    run = tracking.read(result["run_id"])
    assert run.data.tags["gauntlet.stage"] == "privacy"
    assert run.data.params["n"] == "50"
    below = {one.data.tags["gauntlet.scenario"]: one for one in tracking.children(result["run_id"])}
    assert set(below) == {"membership-gap", "membership-loss", "extraction-copycat"}
    assert below["extraction-copycat"].data.params["theft.queries"] == "30"
    assert below["membership-gap"].data.tags["gauntlet.knows"] == "predicted classes and true labels"
    advantages = [row["advantage"] for row in result["thefts"] if "advantage" in row]
    assert result["metrics"]["privacy/advantage"] == max(advantages)
    assert result["metrics"]["privacy/fidelity"] == below["extraction-copycat"].data.metrics["privacy/fidelity"]
    assert result["metrics"]["privacy/queries"] == 30
    for row in result["thefts"]:
        head = "advantage" if "advantage" in row else "fidelity"
        assert row[f"{head}_low"] <= row[head] <= row[f"{head}_high"]
    assert all(tracking.find(result["run_id"], name) for name in ("roc.png", "copies.png", "metrics.json"))


def test_one_theft_is_one_run(victim: str, small_npz: str, store: str) -> None:
    result = privacy(model=victim, dataset=small_npz, tracking_uri=store, theft=["membership-loss"], n=40)
    assert tracking.children(result["run_id"]) == []
    run = tracking.read(result["run_id"])
    assert run.data.params["theft.name"] == "membership-loss"
    assert run.data.metrics["privacy/members"] == 20
    assert not tracking.find(result["run_id"], "copies.png")


@pytest.mark.parametrize(
    ("setting", "says"), [({"n": 121}, "121"), ({"theft": ["extraction-copycat:queries=61"]}, "61")]
)
def test_what_cannot_be_measured_is_refused(
    setting: dict[str, Any], says: str, victim: str, small_npz: str, store: str
) -> None:
    with pytest.raises(SettingError, match=says):
        privacy(model=victim, dataset=small_npz, tracking_uri=store, **({"theft": ["membership-gap"]} | setting))


def test_a_model_of_labels_alone_is_asked_for_no_scores(small_npz: str, store: str) -> None:
    settings = {"model": "tests.flows.test_privacy:nearest_mean", "dataset": small_npz, "tracking_uri": store}
    settings |= {"trust": True}
    with pytest.raises(SettingError, match="membership-loss: needs scores, the model shows only labels"):
        privacy(theft=["membership-loss"], outputs="labels", **settings)
    result = privacy(theft=["membership-gap"], outputs="labels", **settings)
    assert result["metrics"]["privacy/advantage"] < 0.2


def nearest_mean(x: np.ndarray) -> np.ndarray:
    """Labels of images (n, h, w, c): the class whose mean image is nearest."""
    digits = read_dataset("digits")
    means = np.stack([halved(digits.x_train[digits.y_train == k]).mean(axis=0).ravel() for k in range(10)])
    distances = ((x.reshape(len(x), 1, -1) - means) ** 2).sum(axis=2)
    return np.asarray(distances.argmin(axis=1))


@pytest.mark.slow
def test_a_clean_training_set_passes(small_npz: str, store: str) -> None:
    result = datascan(dataset=small_npz, tracking_uri=store, fail_on_suspects=True, epochs=8)
    assert tracking.read(result["run_id"]).data.tags["gauntlet.stage"] == "inspect"
    assert result["metrics"]["inspect/alarms"] == 0
    assert set(result["metrics"]) >= {f"inspect/{name}" for name in ("suspects", "patch_score", "duplicates", "leaked")}
    assert [row["check"] for row in result["checks"]] == [
        *("class balance", "duplicates", "labels", "patches"),
        *("spectral", "clusters", "isolation"),
    ]
    assert "planted" not in result["checks"][0]


def test_planted_poison_is_found_listed_and_fails_the_gate(small_npz: str, store: str, capsys: Any) -> None:
    settings = {"dataset": small_npz, "tracking_uri": store, "poisoning": "corner-trigger:rate=0.05"}
    settings |= {"inspection": ["labels", "patches"]}
    result = datascan(**settings)
    patches = result["checks"][-1]
    assert (patches["alarm"], patches["recall"], patches["false_positives"]) == (True, 1.0, 0)
    assert patches["precision"] == 1.0
    listed = pd.read_parquet(Path(str(tracking.find(result["run_id"], "suspects.parquet"))))
    assert (listed[listed["patches"]]["label"] == 9).all()
    assert listed["patches"].sum() == patches["planted"] == 24
    assert tracking.find(result["run_id"], "suspects.png")
    assert "24 of 24" in capsys.readouterr().err
    with pytest.raises(GateError, match="patches: score"):
        datascan(**settings, fail_on_suspects=True)


def test_training_drops_what_a_scan_suspected(small_npz: str, store: str) -> None:
    settings = {"dataset": small_npz, "tracking_uri": store}
    found = datascan(**settings, poisoning="corner-trigger:rate=0.05", inspection=["patches", "duplicates"])
    file = Path(str(tracking.find(found["run_id"], "suspects.npz")))
    with np.load(file, allow_pickle=False) as held:
        assert sorted(held) == ["dataset_digest", "patches"]
        assert len(held["patches"]) == 24
    result = train(**settings, epochs=1, drop=str(file), role="without-suspects")
    run = tracking.read(result["run_id"])
    assert run.data.params["dropped"] == "24"
    assert run.data.params["drop_digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result["metrics"]["train/dropped"] == 24


def test_suspects_of_other_data_are_refused_in_one_line(small_npz: str, store: str, tmp_path: Path) -> None:
    file = tmp_path / "suspects.npz"
    np.savez(file, allow_pickle=False, **dropping.as_arrays(read_dataset("digits"), {"patches": np.arange(3)}))
    with pytest.raises(DataError, match="another data set than"):
        TrainConfig(dataset=small_npz, tracking_uri=store, drop=str(file)).check()
