"""Reports as data: those that are shipped, a newcomer, and files that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gauntlet.errors import SettingError
from gauntlet.measurement import Measurement
from gauntlet.poisoning import CornerTrigger
from gauntlet.state import PROJECT_ROOT
from gauntlet.studies.conclusions import Measured
from gauntlet.studies.study import (
    FOLDER,
    QUICK_EPOCHS,
    BackdoorStage,
    Figure,
    PoisonStage,
    ScanStage,
    Study,
    Value,
    chosen,
    load,
    studies,
)

SMALL: dict[str, Any] = {
    "name": "R5",
    "title": "a sixth report",
    "source": "a test",
    "training": {"architecture": "cnn3x3", "epochs": 2},
    "stages": [
        {"id": "baseline", "kind": "train"},
        {"id": "fgsm", "kind": "attack", "model": "baseline", "attacks": ["fgsm"], "eps": ["8/255"]},
    ],
    "figures": [{"name": "clean", "published": 99.0, "stage": "baseline", "condition": "clean"}],
}


def written(folder: Path, content: Any, name: str = "r5.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


# --- those that are shipped ---------------------------------------------------------------------------------


def test_five_reports_are_shipped() -> None:
    assert list(studies()) == ["R0", "R1", "R2", "R3", "R4"]


@pytest.mark.parametrize("study", studies().values(), ids=studies())
def test_every_report_is_complete(study: Study) -> None:
    assert study.conclusions
    assert study.pictures
    kinds = {stage.kind for stage in study.stages}
    assert {"train", "attack", "defend"} <= kinds
    quick = study.quick()
    assert quick.training.epochs is not None
    assert quick.training.epochs <= QUICK_EPOCHS
    assert [stage.id for stage in quick.stages] == [stage.id for stage in study.stages]


def test_scanned_folders_are_there() -> None:
    scans = [stage for study in studies().values() for stage in study.stages if isinstance(stage, ScanStage)]
    assert all((PROJECT_ROOT / (stage.path or ".")).is_dir() for stage in scans)


def test_counts_of_poisoned_images_become_the_same_rate() -> None:
    (stage,) = (stage for stage in studies()["R1"].quick().stages if isinstance(stage, PoisonStage))
    assert isinstance(stage.poisoning, CornerTrigger)
    assert stage.poisoning.count is None
    assert stage.poisoning.rate == pytest.approx(100 / 60_000)


@pytest.mark.parametrize("name", ["R1", "R2"])
def test_the_quick_way_looks_for_backdoors_by_probes_alone(name: str) -> None:
    searched = [
        [stage.search for stage in study.stages if isinstance(stage, BackdoorStage)]
        for study in (studies()[name], studies()[name].quick())
    ]
    assert [(one.forms, one.references) for one in searched[0]] == [(("patch", "perturbation"), 3)] * 2
    assert [(one.forms, one.references) for one in searched[1]] == [((), 0)] * 2


def test_a_stage_may_train_otherwise_than_its_study() -> None:
    study = studies()["R3"]
    defended = next(stage for stage in study.stages if stage.id == "defended")
    assert study.training_of(defended, seed=7).model_dump(include={"epochs", "seed", "optimizer"}) == {  # type: ignore[arg-type]
        "epochs": 8,
        "seed": 42,
        "optimizer": "sgd",
    }
    assert studies()["R1"].training_of(studies()["R1"].stages[0], seed=7).seed == 7  # type: ignore[arg-type]


# --- a newcomer ---------------------------------------------------------------------------------------------


def test_a_sixth_report_is_a_sixth_file(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.yaml"):
        written(tmp_path, path.read_text(encoding="utf-8"), path.name)
    written(tmp_path, SMALL)
    assert list(studies(tmp_path)) == ["R0", "R1", "R2", "R3", "R4", "R5"]
    assert [study.title for study in chosen(["R5"], tmp_path)] == ["a sixth report"]


def test_reports_come_in_order_whatever_the_order_asked() -> None:
    assert [study.name for study in chosen(["R3", "R1"])] == ["R1", "R3"]
    with pytest.raises(SettingError, match="--report: unknown report 'R9' \\(one of R0, R1"):
        chosen(["R1", "R9"])


def test_two_reports_of_one_name_are_refused(tmp_path: Path) -> None:
    written(tmp_path, SMALL)
    written(tmp_path, SMALL, "r6.yaml")
    with pytest.raises(SettingError, match=r"^r6.yaml: a second study is called R5$"):
        studies(tmp_path)


# --- files that are wrong -----------------------------------------------------------------------------------

CLAIM = {"claim": "c", "rule": "robust_after_defense", "stages": {"white_box": "fgsm", "transfer": "fgsm"}}
WRONG: dict[str, tuple[dict[str, Any] | str, str]] = {
    "no YAML": ("a: [", "r5.yaml: not YAML"),
    "no mapping": ("just text", "r5.yaml: "),
    "an empty file": ("", "r5.yaml: "),
    "a missing title": ({k: v for k, v in SMALL.items() if k != "title"}, "r5.yaml.title: Field required"),
    "an unknown key": (SMALL | {"colour": 1}, "r5.yaml.colour: "),
    "no stages": (SMALL | {"stages": []}, "r5.yaml.stages: "),
    "an unknown kind": (SMALL | {"stages": [{"id": "a", "kind": "dance"}]}, "'dance'"),
    "a stage of one id": (SMALL | {"stages": SMALL["stages"][:1] * 2}, "two stages are called 'baseline'"),
    "a stage before its model": (SMALL | {"stages": SMALL["stages"][::-1]}, "unknown stage 'baseline'"),
    "an unknown attack": (
        SMALL | {"stages": [SMALL["stages"][0], {**SMALL["stages"][1], "attacks": ["fgms"]}]},
        "unknown attack 'fgms'",
    ),
    "a figure of no stage": (SMALL | {"figures": [{**SMALL["figures"][0], "stage": "x"}]}, "unknown stage 'x'"),
    "a figure from nowhere": (
        SMALL | {"figures": [{"name": "f", "published": 1, "stage": "fgsm"}]},
        "give metric or condition",
    ),
    "an unknown unit": (SMALL | {"figures": [{**SMALL["figures"][0], "unit": "miles"}]}, "r5.yaml.figures.0.unit"),
    "an unknown rule": (SMALL | {"conclusions": [{**CLAIM, "rule": "fine"}]}, "unknown rule 'fine'"),
    "a rule without its stage": (SMALL | {"conclusions": [{**CLAIM, "stages": {}}]}, "needs the stages white_box, tr"),
    "a rule on no stage": (
        SMALL | {"conclusions": [{**CLAIM, "stages": {"white_box": "x", "transfer": "fgsm"}}]},
        "unknown stage 'x'",
    ),
    "a picture of no stage": (
        SMALL | {"pictures": [{"caption": "p", "stage": "x", "artifact": "a.png"}]},
        "unknown stage 'x'",
    ),
}


@pytest.mark.parametrize(("content", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_in_one_line(content: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        load(written(tmp_path, content))
    assert says in str(caught.value)
    assert str(caught.value).startswith("r5.yaml")
    assert "\n" not in str(caught.value)


# --- figures ------------------------------------------------------------------------------------------------


def measured() -> Measured:
    facts: dict[str, Any] = {"model": "m", "low": 0.1, "high": 0.9, "n": 10}
    under = [Measurement(condition="fgsm", eps=eps, value=0.8 - eps, **facts) for eps in (0.1, 8 / 255)]
    metrics = {"clean/loss": 0.03, "detect/auc": 0.7, "detect/auc_low": 0.6, "detect/auc_high": 0.8}
    return Measured(metrics, [Measurement(condition="clean", value=0.5, **facts), *under])


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"condition": "clean"}, (0.5, 0.1, 0.9)),
        ({"condition": "fgsm", "eps": 0.1}, (0.7, 0.1, 0.9)),
        ({"condition": "fgsm", "eps": "8/255"}, (0.8 - 8 / 255, 0.1, 0.9)),
        ({"metric": "clean/loss"}, (0.03, 0.03, 0.03)),
        ({"metric": "detect/auc"}, (0.7, 0.6, 0.8)),
        ({"condition": "pgd"}, None),
        ({"metric": "clean/accuracy"}, None),
        ({"condition": "fgsm", "eps": 0.1, "measure": "attack_success_rate"}, None),
    ],
)
def test_a_figure_finds_what_was_measured(where: dict[str, Any], found: tuple[float, float, float] | None) -> None:
    value = Figure(name="f", published=1, stage="s", **where).find(measured())
    assert (value and (value.value, value.low, value.high)) == (found and pytest.approx(found))


def test_a_figure_is_compared_with_its_study_s_images_or_by_the_ratio_of_losses() -> None:
    percent = Figure(name="f", published=99, stage="s", condition="clean")
    measured = Value(value=0.99, low=0.988, high=0.992, n=10_000)
    assert percent.compared(measured, 10_000).verdict == "confirmed"
    assert percent.compared(measured, 100).verdict == "undecided"
    loss = Figure(name="f", published=0.03, unit="loss", stage="s", metric="clean/loss")
    assert loss.compared(Value(value=0.03, low=0.028, high=0.0322), 1).scale == "ratio"


def test_what_a_clock_showed_is_not_compared() -> None:
    figure = Figure(name="f", published=0.071, unit="ms", stage="s", metric="clean/inference_ms")
    assert figure.reason == "inference time of another machine"
    assert Figure(name="f", published=99, stage="s", condition="clean").reason is None
    assert Figure(name="f", published=99, stage="s", condition="clean").share == 0.99
