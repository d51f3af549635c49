"""The flow `backdoor`: its verdicts, what it prints and leaves, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.backdoor import STATUS, backdoor
from gauntlet.backdoor import references
from gauntlet.errors import ModelError, SettingError
from tasks.store import tracking
from tests.gauntlet.backdoor.planted import blocks, network

TARGET = 2
KEYS = {"run_id", "model", "verdict", "target", "p_value", "reasons", "classes", "exit_status"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The blocks as a user's own file."""
    made, path = blocks(1_200), tmp_path_factory.mktemp("blocks") / "blocks.npz"
    arrays = {name: getattr(made, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return str(path)


@pytest.fixture(scope="module")
def scanned(data: str, store: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A backdoored network's scan, with three references."""
    file = tmp_path_factory.mktemp("models") / "backdoored.keras"
    network(TARGET).save(file)
    told = pytest.MonkeyPatch()
    told.setenv("GAUNTLET_STATE", str(file.parent / "state"))
    told.setattr(references, "RATE", 0.02)  # six units learn the blocks in as few steps as there are
    told.setattr(references, "BATCH", 32)
    try:
        result: dict[str, Any] = backdoor(
            model=str(file), dataset=data, tracking_uri=store, references=3, input_range="0..1"
        )
    finally:
        told.undo()
    return result


@pytest.mark.slow
def test_a_backdoored_model_fails_with_its_class(scanned: dict[str, Any]) -> None:
    assert set(scanned) == KEYS
    assert (scanned["verdict"], scanned["target"], scanned["exit_status"]) == ("BACKDOORED", TARGET, 1)
    assert STATUS == {"BACKDOORED": 1, "CLEAN": 0, "INCONCLUSIVE": 3}
    for place, row in enumerate(scanned["classes"]):
        assert list(row) == ["class", "statistic", "p_value", "success_rate", "low", "high"]
        assert row["class"] == place
        assert row["low"] <= row["success_rate"] <= row["high"]
    assert scanned["p_value"] == scanned["classes"][TARGET]["p_value"] < 0.01


def test_the_run_has_metrics_of_every_class_and_the_triggers_drawn(scanned: dict[str, Any]) -> None:
    run = tracking.read(scanned["run_id"])
    tags = {name: run.data.tags[f"gauntlet.{name}"] for name in ("stage", "verdict")}
    assert tags == {"stage": "backdoor", "verdict": "BACKDOORED"}
    assert run.data.metrics["scan_model/target"] == TARGET
    assert run.data.metrics["scan_model/p_value"] == pytest.approx(scanned["p_value"])
    assert run.data.metrics["scan_model/references"] == 3
    assert run.data.params["scan.inversion.steps"] == "160"
    for name in ("triggers.png", "classes.png", "metrics.json"):
        assert tracking.find(scanned["run_id"], name)
    arrays = tracking.arrays(scanned["run_id"], "triggers.npz")
    assert arrays["patch_mask"].shape == (6, 10, 10, 1)


def test_a_model_that_is_fed_the_wrong_range_is_not_scanned(data: str, store: str, tmp_path: Path) -> None:
    import keras

    images = keras.Input((10, 10, 1))
    wide = keras.Model(images, network(None)(keras.layers.Rescaling(1 / 255, -0.3)(images)))
    wide.save(tmp_path / "wide.keras")
    with pytest.raises(ModelError, match=r"input looks like 0..255"):
        backdoor(model=str(tmp_path / "wide.keras"), dataset=data, tracking_uri=store, input_range="-1..1")


def test_too_few_test_images_are_refused_before_anything_starts(store: str, tmp_path: Path) -> None:
    from flows.backdoor import BackdoorConfig

    few = blocks(100)
    arrays = {name: getattr(few, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(tmp_path / "few.npz", allow_pickle=False, **arrays)
    network(None).save(tmp_path / "model.keras")
    config = BackdoorConfig(model=str(tmp_path / "model.keras"), dataset=str(tmp_path / "few.npz"), tracking_uri=store)
    with pytest.raises(SettingError, match="50 test images, expected 60 or more"):
        config.check()
