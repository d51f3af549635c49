"""Old runs lose what has a row per image, and nothing else; promoted evidence loses nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from flows import tidy
from tasks.context import Context
from tasks.stage import key_of
from tasks.store import connection, registry, tracking, versions

AGO = int((datetime.now(UTC) - timedelta(days=100)).timestamp() * 1_000)


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))
    return Context(dataset="digits", tracking_uri=connection.connect(f"sqlite:///{tmp_path}/mlflow.db"))


def night(where: Context, *, promoted: bool = False, ended: int = AGO) -> dict[str, str]:
    """A night, its training, and an attack with a run below; returns their ids. Promoted ones have a version."""
    from gauntlet.models.architectures import architecture

    dataset = where.load()
    with tracking.run("nightly", where, dataset, name="night") as parent:
        inside = where.below(parent.id)
        with tracking.run("train", inside, dataset, name="mine") as train:
            model = architecture("cnn3x3").build(dataset.input_shape, dataset.n_classes)
            if promoted:
                registry.log_model(train, model, dataset, "mine")
        with tracking.run("attack", inside.model_copy(update={"key": "k" * 64}), dataset, name="attack") as attack:
            attack.table("outcomes.parquet", pd.DataFrame({"index": [1], "correct": [True]}))
            attack.arrays("adversarial.npz", images=dataset.x_test[:3])
            attack.file("bank.npz", b"a bank")
            attack.file("examples-eps-0.1.png", b"a picture")
            attack.json("metrics.json", {"metrics": {"robust/accuracy": 0.5}, "measurements": []})
            with tracking.run("attack", inside.below(attack.id), dataset, name="pgd") as below:
                below.file("examples.png", b"a picture")
        parent.text("card.json", json.dumps({"runs": {"train": train.id, "attack": attack.id}}))
    if promoted:
        uri = registry.register(train.id)
        versions.link(uri, {"gauntlet.card": f"runs:/{parent.id}/card.json"})
        parent.tags({"gauntlet.promoted": uri})
    ids = {"night": parent.id, "train": train.id, "attack": attack.id, "below": below.id}
    for run_id in ids.values():
        MlflowClient().set_terminated(run_id, end_time=ended)
    return ids


def files(run_id: str) -> set[str]:
    return {entry.path for entry in MlflowClient().list_artifacts(run_id)}


def test_it_shows_first_and_then_takes_what_is_per_image(where: Context, capsys: pytest.CaptureFixture[str]) -> None:
    ids = night(where)
    before = {name: files(run_id) for name, run_id in ids.items()}
    assert tidy.main(["--keep", "90d"]) == 0
    shown = capsys.readouterr().out
    assert "would go: 2 runs, 4 artifacts" in shown
    assert {name: files(run_id) for name, run_id in ids.items()} == before

    assert tidy.main(["--keep", "90d", "--delete"]) == 0
    assert "removed: 2 runs, 4 artifacts" in capsys.readouterr().out
    assert files(ids["attack"]) == {"bank.npz", "metrics.json"}
    assert files(ids["below"]) == set()
    assert files(ids["night"]) == before["night"]
    assert tracking.records(ids["attack"])["metrics"] == {"robust/accuracy": 0.5}
    assert "outcomes.parquet" in tracking.read(ids["attack"]).data.tags["gauntlet.tidied"]

    assert tidy.main(["--keep", "90d", "--delete"]) == 0
    assert "removed: 0 runs" in capsys.readouterr().out


def test_a_run_that_lost_its_images_is_not_taken_again_for_its_stage(where: Context) -> None:
    ids = night(where)
    assert tracking.finished(where, "k" * 64) == ids["attack"]
    assert tidy.main(["--keep", "90d", "--delete"]) == 0
    assert tracking.finished(where, "k" * 64) is None
    assert len(key_of(where, "attack")) == 64


def test_young_runs_and_promoted_evidence_lose_nothing(where: Context, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a version that is champion no more, though a later night wrote it another card."""
    former = night(where, promoted=True)
    later = night(where)
    versions.link("models:/gauntlet-digits-mine/1", {"gauntlet.card": f"runs:/{later['night']}/card.json"})
    crowned = night(where, promoted=True)
    versions.promote("models:/gauntlet-digits-mine/2")
    young = night(where, ended=int(datetime.now(UTC).timestamp() * 1_000))
    before = {run_id: files(run_id) for run_id in (*former.values(), *crowned.values(), *young.values())}
    assert tidy.main(["--keep", "90d", "--delete"]) == 0
    assert "removed: 2 runs" in capsys.readouterr().out
    assert {run_id: files(run_id) for run_id in before} == before
    assert tidy.main(["--keep", "12w"]) == 0


@pytest.mark.parametrize("text", ["90", "0d", "d", "-3d", "1.5d", "99999d", "3 months"])
def test_times_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        tidy.main([f"--keep={text}"])
    assert stopped.value.code == 2
    assert "is no time to keep" in capsys.readouterr().err
