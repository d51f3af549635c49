"""Nights, one after the other, on a real store: each verdict with its reasons, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from gauntlet.errors import GateError, ModelError, SettingError, TrackingError
from gauntlet.validity import canaries, reference
from tasks.store import registry, versions

pytestmark = pytest.mark.slow

NAME = "gauntlet-digits-baseline"
BRIEF: dict[str, Any] = {
    "epochs": 4,
    "n": 300,
    "eps": [0.1],
    "attack": ["noise-uniform", "fgsm", "pgd:max_iter=20", "apgd-ce:max_iter=40"],
    "planted": False,
}


@pytest.fixture(scope="module", autouse=True)
def _few_canaries() -> Iterator[None]:
    """One that is broken, and the reference: the others are tried by tests of their own."""
    few = pytest.MonkeyPatch()
    few.setattr(canaries, "CANARIES", {"constant": canaries.CANARIES["constant"]})
    few.setattr(canaries, "HONEST", {})
    few.setattr(canaries, "FROZEN", {reference.NAME: canaries.FROZEN[reference.NAME]})
    yield
    few.undo()


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A night on a store of this module's own; its code to scan is clean at first."""
    from flows.nightly import nightly

    folder = tmp_path_factory.mktemp("nights")
    (folder / "code").mkdir()
    (folder / "code" / "safe.py").write_text("print('hello')\n")
    told = {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "scan_path": str(folder / "code")}

    def run(**settings: Any) -> dict[str, Any]:
        found: dict[str, Any] = nightly(dataset="digits", **BRIEF | told | settings)
        return found

    run.uri = told["tracking_uri"]  # type: ignore[attr-defined]
    run.code = folder / "code"  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def first(night: Any) -> dict[str, Any]:
    found: dict[str, Any] = night(promote=True)
    return found


@pytest.fixture(scope="module")
def second(night: Any, first: dict[str, Any]) -> dict[str, Any]:
    assert first["verdict"] == "INCONCLUSIVE"
    before = stages()
    found: dict[str, Any] = night()
    return found | {"new": {stage: n - before.get(stage, 0) for stage, n in stages().items()}}


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def runs() -> list[Any]:
    return list(client().search_runs([e.experiment_id for e in client().search_experiments()], max_results=1_000))


def stages() -> dict[str, int]:
    """How many finished runs each stage has."""
    names = [run.data.tags["gauntlet.stage"] for run in runs() if run.info.status == "FINISHED"]
    return {name: names.count(name) for name in names}


def champion() -> str:
    return str(client().get_model_version_by_alias(NAME, "champion").version)


def registered(change: Any) -> str:
    """A version whose weights are the champion's, changed."""
    from tasks.context import Context
    from tasks.store import tracking

    model = registry.load_model(f"models:/{NAME}@champion")
    model.set_weights([change(weights) for weights in model.get_weights()])
    context = Context(dataset="digits")
    with tracking.run("train", context, context.load(), name="changed") as run:
        registry.log_model(run, model, context.load(), "baseline")
    return registry.register(run.id)


# --- the usual nights ---------------------------------------------------------------------------------------


def test_the_first_night_has_nothing_to_compare_with_and_crowns_on_request(first: dict[str, Any]) -> None:
    assert (first["verdict"], first["exit_status"]) == ("INCONCLUSIVE", 3)
    assert first["reasons"] == ["there is no champion to compare with"]
    assert champion() == "1"
    tags = client().get_run(first["run_id"]).data.tags
    assert (tags["gauntlet.verdict"], tags["gauntlet.promoted"]) == ("INCONCLUSIVE", f"models:/{NAME}/1")


def test_the_card_and_the_page_name_the_scan_for_unknown_backdoors(first: dict[str, Any]) -> None:
    from gauntlet.gate.card import Card
    from tasks.store import tracking

    made = Card.model_validate_json(tracking.text(first["run_id"], "card.json"))
    assert made.backdoor_scan is not None
    assert made.backdoor_scan["verdict"] == "INCONCLUSIVE"
    assert made.backdoor_scan["run"] == made.runs["backdoor candidate"]
    rows = json.loads(tracking.text(first["run_id"], "metrics.json"))["tables"]["Scan for unknown backdoors"]
    assert [(row["model"], row["verdict"]) for row in rows] == [("candidate", "INCONCLUSIVE")]
    assert any("a search by gradients would tell" in note for note in first["notes"])


def test_the_card_is_bound_to_the_version(first: dict[str, Any]) -> None:
    from gauntlet.gate.card import Card
    from tasks.store import tracking

    version = client().get_model_version(NAME, "1")
    card = Card.model_validate_json(tracking.text(first["run_id"], "card.json"))
    assert version.tags["gauntlet.card"] == f"runs:/{first['run_id']}/card.json"
    assert (version.tags["gauntlet.card_seal"], card.model_digest) == (card.seal, version.tags["gauntlet.model_digest"])
    assert {"canaries", "train", "scan", "attack candidate", "triggers candidate", "gate"} <= set(card.runs)


def test_an_unchanged_night_passes_and_evaluates_nothing_again(second: dict[str, Any]) -> None:
    assert (second["verdict"], second["reasons"]) == ("PASS", [])
    fresh = {stage: n for stage, n in second["new"].items() if n}
    assert fresh == {"nightly": 1, "scan": 1, "gate": 1}
    assert [v.version for v in client().search_model_versions(f"name = '{NAME}'")] == ["1"] or champion() == "1"


def test_every_condition_is_compared(second: dict[str, Any]) -> None:
    names = [row["condition"] for row in second["conditions"]]
    attacks = ["noise-uniform 0.1", "fgsm 0.1", "pgd 0.1", "apgd-ce 0.1"]
    assert set(names) == {"clean", *attacks, "worst case 0.1", "trigger corner-trigger"}
    assert all(row["verdict"] == "PASS" and row["difference"] == 0 for row in second["conditions"])


def test_the_bank_takes_no_side(second: dict[str, Any]) -> None:
    """All that it holds was made against this very model."""
    assert "no replay: the bank holds 0 images of other models, 30 are needed" in second["notes"]


def test_the_page_shows_verdict_gate_and_trend(second: dict[str, Any]) -> None:
    from tasks.store import tracking

    page = tracking.text(second["run_id"], "report.html")
    assert "Nightly: PASS" in page
    assert "Candidate against champion" in page
    assert "data:image/png" in page
    assert json.loads(tracking.text(second["run_id"], "metrics.json"))["verdict"] == "PASS"


# --- worse, too few, unknown --------------------------------------------------------------------------------


@pytest.mark.usefixtures("second")
def test_a_class_that_became_suspicious_fails_the_gate_with_its_picture(night: Any) -> None:
    from flows.poison import poison
    from tasks.store import tracking

    uri, planted = night.uri, "corner-trigger:corner=top-left,target=3,rate=0.1"
    poisoned = poison(dataset="digits", tracking_uri=uri, epochs=8, poisoning=planted, model=f"models:/{NAME}/1")
    settings = {"candidate": poisoned["model_uri"], "champion": f"models:/{NAME}/1", "attack": ["noise-uniform"]}
    with pytest.raises(GateError, match="class 3 became suspicious of a backdoor: one patch sends"):
        night(**settings)
    page = tracking.text(runs_of("nightly")[0].info.run_id, "report.html")
    assert "Backdoor scan: candidate" in page
    unseen = night(**settings, backdoor_scan="none")
    assert unseen["verdict"] != "FAIL"
    assert "no scan for unknown backdoors was made" in unseen["notes"]


@pytest.mark.usefixtures("second")
def test_a_worse_model_fails_by_name_and_is_not_promoted(night: Any) -> None:
    rng = np.random.default_rng(0)
    worse = registered(lambda w: w + rng.normal(0, 0.6 * w.std() + 1e-3, w.shape).astype(w.dtype))
    with pytest.raises(GateError, match=r"FAIL: .* points lost"):
        night(candidate=worse, promote=True)
    assert champion() == "1"
    newest = runs_of("nightly")[0]
    assert (newest.info.status, newest.data.tags["gauntlet.verdict"]) == ("FINISHED", "FAIL")
    assert "not promoted" in report(newest)


def runs_of(stage: str) -> list[Any]:
    found = [run for run in runs() if run.data.tags["gauntlet.stage"] == stage]
    return sorted(found, key=lambda run: -run.info.start_time)


def report(run: Any) -> str:
    from tasks.store import tracking

    return tracking.text(run.info.run_id, "report.md")


@pytest.mark.usefixtures("second")
def test_too_few_images_are_inconclusive_and_say_how_many_would_do(night: Any) -> None:
    found = night(n=50)
    assert (found["verdict"], found["exit_status"]) == ("INCONCLUSIVE", 3)
    assert any("images would tell" in reason for reason in found["reasons"])
    assert found["needed"] == 268  # equal weights: as many as a pass takes, whatever the number of conditions


@pytest.mark.usefixtures("second")
def test_a_champion_without_a_card_was_moved_by_hand(night: Any) -> None:
    version = champion()
    kept = client().get_model_version(NAME, version).tags["gauntlet.card"]
    client().delete_model_version_tag(NAME, version, "gauntlet.card")
    try:
        with pytest.raises(GateError, match="has no evaluation card: its alias was moved by hand"):
            night()
    finally:
        client().set_model_version_tag(NAME, version, "gauntlet.card", kept)


@pytest.mark.usefixtures("second")
def test_the_audit_log_knows_the_promotion_of_a_champion(night: Any) -> None:
    copy, first = registered(lambda weights: weights), champion()
    assert night(candidate=copy)["verdict"] == "PASS"
    client().set_registered_model_alias(NAME, "champion", copy.rpartition("/")[2])
    try:
        with pytest.raises(
            GateError, match=f"no promotion of the champion {copy} with these weights: its alias was moved"
        ):
            night()
        client().set_registered_model_alias(NAME, "champion", first)
        night(candidate=copy, promote=True)
        assert champion() == copy.rpartition("/")[2]
    finally:
        client().set_registered_model_alias(NAME, "champion", first)
    assert (
        f"the last promotion was of {copy}: the alias was moved to models:/{NAME}/{first} by hand" in night()["notes"]
    )


@pytest.mark.usefixtures("second")
def test_a_version_that_lost_its_digest_is_refused(night: Any) -> None:
    version = champion()
    kept = client().get_model_version(NAME, version).tags["gauntlet.model_digest"]
    client().delete_model_version_tag(NAME, version, "gauntlet.model_digest")
    try:
        with pytest.raises(ModelError, match="registered without the digest of its weights"):
            night()
    finally:
        client().set_model_version_tag(NAME, version, "gauntlet.model_digest", kept)


@pytest.mark.usefixtures("second")
def test_a_store_that_cannot_say_who_is_champion_is_no_first_night(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    def locked(*_: Any) -> None:
        raise MlflowException("(sqlite3.OperationalError) database is locked")

    assert versions.champion_of("gauntlet-nothing-there") is None
    monkeypatch.setattr(MlflowClient, "get_registered_model", locked)
    with pytest.raises(TrackingError, match="database is locked"):
        versions.champion_of(NAME)


@pytest.mark.usefixtures("second")
def test_every_form_of_a_versions_uri_is_checked_against_its_digest() -> None:
    known = versions.registered_digest(f"models:/{NAME}/1")
    source = client().get_model_version(NAME, "1").source
    forms = [f"models:/{NAME}@champion", f"models:/{NAME}@anchor", source]
    assert known is not None
    assert {versions.registered_digest(uri) for uri in forms} == {known}
    assert versions.registered_digest(f"models:/{NAME}/latest") is not None


@pytest.mark.usefixtures("second")
def test_a_dead_canary_makes_the_night_invalid(night: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = canaries.Broken(lambda model: model, "chance level", ("INVALID",))
    monkeypatch.setattr(canaries, "CANARIES", {"constant": honest})
    alive = runs_of("canaries")[0].info.run_id
    client().delete_run(alive)  # else it is taken again, as no file has changed
    with pytest.raises(GateError, match=r"INVALID: the measuring instrument is broken: constant: expected"):
        night()
    client().delete_run(runs_of("canaries")[0].info.run_id)
    client().restore_run(alive)


@pytest.mark.usefixtures("second")
def test_without_canaries_no_night_is_valid(night: Any) -> None:
    with pytest.raises(GateError, match="the canaries were left out"):
        night(canaries=False)


@pytest.mark.usefixtures("second")
def test_a_new_finding_fails_and_a_known_one_does_not(night: Any) -> None:
    unsafe = night.code / "unsafe.py"
    unsafe.write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    with pytest.raises(GateError, match=r"FAIL: new finding B602 \(high\) in unsafe.py, line 2"):
        night()
    unsafe.unlink()
    before = stages()
    assert night()["verdict"] == "PASS"
    after = stages()
    assert {stage for stage in after if after[stage] > before[stage]} == {"nightly", "scan", "gate"}


@pytest.mark.usefixtures("second")
def test_a_stage_that_fails_fails_alone_and_keeps_the_night_from_passing(night: Any) -> None:
    found = night(trigger=["patch:row=27"])
    assert found["verdict"] == "INCONCLUSIVE"
    assert any(reason.startswith("stage failed: triggers candidate") for reason in found["reasons"])
    assert {row["verdict"] for row in found["conditions"]} == {"PASS"}


@pytest.mark.usefixtures("second")
def test_withstanding_an_attack_with_a_detector_is_a_condition(night: Any) -> None:
    found = night(detector="gan-discriminator:epochs=1", attack=["fgsm"], n=60)
    rows = {row["condition"]: row for row in found["conditions"]}
    assert [name for name in rows if "detector" in name] == ["with detector fgsm 0.1"]
    assert rows["with detector fgsm 0.1"]["candidate"] >= rows["fgsm 0.1"]["candidate"]


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("second")
def test_a_tampered_model_is_refused(night: Any) -> None:
    import keras

    tampered = registered(lambda weights: weights * 1.01)
    folder = Path(client().get_model_version_download_uri(NAME, tampered.rpartition("/")[2]).removeprefix("file://"))
    path = next(folder.rglob("*.keras"))
    model = keras.models.load_model(path)
    model.set_weights([weights * 0.5 for weights in model.get_weights()])
    model.save(path)
    with pytest.raises(ModelError, match="the weights are not those that were registered"):
        night(candidate=tampered, promote=True)
    newest = runs_of("nightly")[0]
    assert newest.info.status == "FAILED"
    assert "not those that were registered" in newest.data.tags["gauntlet.error"]
    assert champion() == "1"


@pytest.mark.usefixtures("second")
def test_a_version_that_does_not_exist_leaves_no_run(night: Any) -> None:
    before = len(runs())
    with pytest.raises(ModelError, match="no such model"):
        night(candidate=f"models:/{NAME}/99")
    assert len(runs()) == before


@pytest.mark.usefixtures("second")
def test_a_champion_of_other_data_is_refused(night: Any) -> None:
    client().set_model_version_tag(NAME, "1", "gauntlet.dataset_digest", "0" * 64)
    digest = runs_of("gate")[0].data.tags["gauntlet.dataset_digest"]
    try:
        with pytest.raises(SettingError, match="was trained on other data"):
            night()
    finally:
        client().set_model_version_tag(NAME, "1", "gauntlet.dataset_digest", digest)


@pytest.mark.usefixtures("second")
def test_no_run_is_left_running(night: Any) -> None:
    assert {run.info.status for run in runs()} <= {"FINISHED", "FAILED"}
    shutil.rmtree(night.code, ignore_errors=True)
