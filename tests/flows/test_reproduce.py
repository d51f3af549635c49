"""Published reports measured again, the quick way: what they leave behind, and what is computed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

import gauntlet.studies.study
from flows.reproduce import ReproduceConfig, reproduce
from gauntlet.errors import SettingError
from tasks.store import tracking

TRAINING = {"architecture": "cnn3x3", "epochs": 1}
BASELINE = {"id": "baseline", "kind": "train"}
FGSM = {"id": "fgsm", "kind": "attack", "model": "baseline", "attacks": ["fgsm"], "eps": [0.1]}
FIGURE = {"name": "clean", "published": 99.0, "stage": "baseline", "condition": "clean"}
CLAIM = {"claim": "clean code", "rule": "scan_clean", "stages": {"scan": "scan"}}


@pytest.fixture(scope="module")
def first(small_npz: str, store: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """R1, the quick way, and the page it wrote."""
    page = tmp_path_factory.mktemp("page") / "reports.md"
    result: dict[str, Any] = reproduce(
        dataset=small_npz, quick=True, report=["R1"], write=str(page), tracking_uri=store
    )
    return result | {"page": page.read_text()}


@pytest.mark.slow
def test_every_published_figure_and_claim_has_a_verdict(first: dict[str, Any]) -> None:
    study = gauntlet.studies.study.studies()["R1"]
    assert [row["figure"] for row in first["figures"]] == [figure.name for figure in study.figures]
    assert [row["claim"] for row in first["conclusions"]] == [one.claim for one in study.conclusions]
    assert {row["report"] for row in first["figures"]} == {"R1"}
    row = first["figures"][0]
    assert row["published"] == 0.9902
    assert 0 <= row["low"] <= row["measured"] <= row["high"] <= 1
    assert {row["verdict"] for row in first["figures"]} == {"not comparable"}
    assert first["figures"][0]["reason"] == "measured on small, published of mnist"
    # The losses under attack are in the runs of a battery's attacks; only crafting for training is not clocked apart.
    unmeasured = [row["figure"] for row in first["figures"] if row["measured"] is None]
    assert unmeasured == ["FGSM images of the training set, 60,000"]
    assert {row["verdict"] for row in first["conclusions"]} <= {"holds", "does not hold", "undecided"}
    assert (first["problems"], first["exit_status"]) == ([], 0)
    json.dumps(first)


@pytest.mark.slow
def test_a_study_is_a_parent_run_with_its_stages_and_its_report(first: dict[str, Any], store: str) -> None:
    run_id = first["reports"]["R1"]
    run = MlflowClient(store).get_run(run_id)
    assert run.info.run_name == "R1: Secure AI MNIST report"
    assert run.data.tags["gauntlet.stage"] == "reproduce"
    assert run.data.tags["mlflow.parentRunId"] == first["run_id"]
    stages = [child.data.tags["gauntlet.stage"] for child in tracking.children(run_id)]
    assert stages == ["train", "poison", "attack", "defend", "attack", "attack", "scan", "backdoor", "backdoor"]
    recorded = tracking.records(run_id)
    assert recorded["figures"] == first["figures"]
    for name in ("report.html", "report.txt", "report.md", "comparison.png", "study.json"):
        assert tracking.find(run_id, name)
    html = tracking.find(run_id, "report.html")
    assert html
    assert html.read_text().count("<img ") >= 6


@pytest.mark.slow
def test_the_combined_page_is_kept_and_written(first: dict[str, Any]) -> None:
    kept = tracking.find(first["run_id"], "five-reports.md")
    assert kept
    assert kept.read_text() == first["page"]
    assert "## R1: Secure AI MNIST report" in first["page"]
    assert "### Published figures" in first["page"]


@pytest.mark.slow
def test_stages_are_shared_and_a_failed_one_fails_alone(
    small_npz: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"id": "poisoned", "kind": "poison", "of": "baseline", "poisoning": "corner-trigger:size=99"}
    lost = {"id": "lost", "kind": "attack", "model": "poisoned", "attacks": ["fgsm"], "eps": [0.1]}
    figures = [FIGURE, FIGURE | {"name": "triggered", "stage": "poisoned", "condition": "trigger"}]
    base: dict[str, Any] = {"source": "a test", "training": TRAINING, "dataset": "small"}
    studies = [
        base | {"name": "A", "title": "first", "stages": [BASELINE, FGSM], "figures": [FIGURE]},
        base | {"name": "B", "title": "second", "stages": [BASELINE | {"id": "other"}, FGSM | {"model": "other"}]},
        base | {"name": "C", "title": "third", "stages": [BASELINE, broken, lost], "figures": figures},
    ]
    for study in studies:
        (tmp_path / f"{study['name']}.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setattr(gauntlet.studies.study, "FOLDER", tmp_path)
    result = reproduce(dataset=small_npz, quick=True, tracking_uri=store)
    runs = {name: tracking.read(run_id) for name, run_id in result["reports"].items()}
    below = {name: tracking.children(run_id) for name, run_id in result["reports"].items()}
    ids = {child.info.run_name: child.info.run_id for child in below["A"]}
    assert list(ids) == ["a-baseline", "attack a-baseline"]
    assert below["B"] == []
    shared = {key: value for key, value in runs["B"].data.tags.items() if key.startswith("gauntlet.shared.")}
    assert shared == {"gauntlet.shared.other": ids["a-baseline"], "gauntlet.shared.fgsm": ids["attack a-baseline"]}
    assert tracking.records(result["reports"]["B"])["measurements"]

    verdicts = {(row["report"], row["figure"]): row for row in result["figures"]}
    assert verdicts["A", "clean"]["verdict"] in ("confirmed", "differs", "undecided")
    assert verdicts["A", "clean"]["compared"]["allowed"] == pytest.approx([-0.005, 0.005])
    assert verdicts["C", "clean"]["measured"] == verdicts["A", "clean"]["measured"]
    assert verdicts["C", "triggered"]["verdict"] == "not comparable"
    assert verdicts["C", "triggered"]["reason"] == "stage failed"
    assert result["exit_status"] == 1
    assert [line.split(":")[0] for line in result["problems"]] == ["C poisoned", "C lost"]
    assert "99 pixels" in result["problems"][0]
    assert "builds on poisoned, which failed" in result["problems"][1]

    again = reproduce(dataset=small_npz, quick=True, tracking_uri=store)
    assert [tracking.children(run_id) for run_id in again["reports"].values()] == [[], [], []]
    assert tracking.read(again["reports"]["A"]).data.tags["gauntlet.shared.baseline"] == ids["a-baseline"]
    assert [row["measured"] for row in again["figures"]] == [row["measured"] for row in result["figures"]]
    assert again["problems"] == result["problems"]


def test_wrong_settings_are_refused_before_anything_starts() -> None:
    with pytest.raises(SettingError, match="unknown report 'R9'"):
        ReproduceConfig(report=("R9",)).check()


def test_the_quick_way_needs_no_mnist() -> None:
    config = ReproduceConfig(quick=True)
    config.check()
    assert config.resolved().dataset == "digits"
    assert ReproduceConfig(quick=True, dataset="cifar10").resolved().dataset == "cifar10"
    assert ReproduceConfig().resolved().dataset == "mnist"
