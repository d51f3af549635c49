"""Every run, registration and promotion is in the audit log, and the log's anchor is on the run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from gauntlet.assurance.audit.trail import Entry, log_path, verify
from gauntlet.errors import GateError
from tasks import promote
from tasks.context import Context
from tasks.store import audit, connection, registry, tracking, versions
from tasks.store.leaks import leaks


@pytest.fixture
def where(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The session's store and a fresh log."""
    monkeypatch.setenv("GAUNTLET_AUDIT", str(tmp_path / "audit.jsonl"))
    audit._warn_unwritten.cache_clear()
    return Context(dataset="digits", tracking_uri=connection.connect(store))


def entries() -> list[Entry]:
    verdict = verify()
    assert verdict.problem == ""
    return list(verdict.entries)


def trained(where: Context) -> str:
    """A registered model that learnt nothing."""
    from gauntlet.models.architectures import architecture

    dataset = where.load()
    model = architecture("cnn3x3").build(dataset.input_shape, dataset.n_classes)
    with tracking.run("train", where, dataset, name="mine", params={"epochs": 1}) as run:
        registry.log_model(run, model, dataset, "mine")
    return registry.register(run.id)


def test_a_run_is_entered_with_its_settings_digests_and_results(where: Context) -> None:
    with tracking.run("gate", where, where.load(), name="gate", params={"seed": 3, "api_key": "hunter2"}) as run:
        run.json("metrics.json", {"a": 1})
        run.tags({"gauntlet.verdict": "PASS"})
    started, ended = entries()
    assert (started["event"], ended["event"]) == ("run started", "gate verdict")
    assert ended["config"] == {"seed": "3", "api_key": "***"}
    assert ended["inputs"] == {"stage": "gate", "dataset": "digits", "dataset_digest": where.load().digest}
    assert ended["outputs"]["run"] == run.id
    assert ended["outputs"]["verdict"] == "PASS"
    assert list(ended["outputs"]["artifacts"]) == ["metrics.json"]
    tags = tracking.read(run.id).data.tags
    assert tags[audit.TAG] == "2"
    assert tags[audit.HEAD] == f"{ended['log']}:2:{ended['hash']}"
    assert tags["gauntlet.git_commit"] == ended["commit"]


def test_a_run_that_fails_is_entered_as_failed_and_without_the_secret_in_its_error(where: Context) -> None:
    with pytest.raises(ValueError, match="hunter2"), tracking.run("train", where, None, name="fails") as run:
        raise ValueError("no database at postgresql://gauntlet:hunter2@db")
    failed = entries()[-1]
    assert failed["event"] == "run failed"
    assert failed["outputs"]["error"] == "ValueError: no database at postgresql://gauntlet:***@db"
    assert "hunter2" not in str(tracking.read(run.id).data)


def test_a_killed_run_is_entered_at_the_next_start(where: Context) -> None:
    code = (
        "import os\nfrom tasks.store import connection, tracking, versions\nfrom tasks.context import Context\n"
        f"where = Context(dataset='digits', tracking_uri='{where.tracking_uri}')\n"
        "with tracking.run('train', where, None, name='doomed'):\n"
        "    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [entry["event"] for entry in entries()] == ["run started"]
    connection._end_orphans()
    assert [entry["event"] for entry in entries()] == ["run started", "run failed"]
    assert entries()[-1]["outputs"]["error"] == "the process was killed"


def test_a_log_that_cannot_be_written_costs_a_warning_and_a_tag_but_no_work(
    where: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAUNTLET_AUDIT", str(tmp_path / "file" / "audit.jsonl"))
    with tracking.run("train", where, None, name="mine") as run:
        run.metrics({"clean/accuracy": 0.5})
    ended = tracking.read(run.id)
    assert (ended.info.status, ended.data.metrics) == ("FINISHED", {"clean/accuracy": 0.5})
    assert ended.data.tags[audit.TAG] == "missing: file exists"
    assert audit.HEAD not in ended.data.tags
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"warning: no audit log at {log_path()}: file exists")


def test_a_model_is_entered_once_and_anchored_on_its_version(where: Context, tmp_path: Path) -> None:
    uri = trained(where)
    (entry,) = [entry for entry in entries() if entry["event"] == "model registered"]
    assert entry["outputs"] == {"model_uri": uri}
    assert entry["inputs"]["model_digest"] == registry.digest_of(uri)
    assert versions.tags_of(uri)[audit.TAG] == str(entry["seq"])
    with tracking.run("attack", where, None, name="attack", params={"model": uri}):
        pass
    assert entries()[-1]["inputs"]["model"] == {"uri": uri, "digest": registry.digest_of(uri)}
    (file := tmp_path / "mine.keras").write_bytes(b"weights")
    with tracking.run("attack", where, None, name="attack", params={"model": file}):
        pass
    known = {"file": str(file), "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert entries()[-1]["inputs"]["model"] == known


class Allowed:
    """A card that verifies."""

    refusal = ""

    def __init__(self, model: str) -> None:
        self.model = model

    def verify(self, model_digest: str, dataset_digest: str) -> None:
        """Nothing is wrong with it."""


@pytest.mark.parametrize("may", [True, False])
def test_a_promotion_and_its_refusal_are_entered(where: Context, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = trained(where)
    night = versions.find(uri).run_id
    tracking.Run(night, "").text(promote.FILE, "{}")
    made: Any = Allowed(uri)
    made.refusal = "" if may else "the night is FAIL"
    monkeypatch.setattr(promote.Card, "model_validate_json", lambda _: made)
    if may:
        promote.promote.fn(where, night, uri)
    else:
        with pytest.raises(GateError, match="not promoted"):
            promote.promote.fn(where, night, uri)
    last = entries()[-1]
    assert last["event"] == ("promoted" if may else "promotion refused")
    assert last["inputs"]["model_uri"] == uri
    assert last["inputs"]["model_digest"] == registry.digest_of(uri)
    assert ("not promoted" in last.get("outputs", {}).get("reason", "")) != may
    assert versions.tags_of(uri)[audit.TAG] == str(last["seq"])


def test_the_store_anchors_the_log(where: Context) -> None:
    uri = trained(where)
    for _ in range(3):
        with tracking.run("train", where, None, name="more"):
            pass
    known = [each for each in audit.anchors(MlflowClient()) if each.log == entries()[0]["log"]]
    assert len(known) == 5
    assert verify(anchors=audit.anchors(MlflowClient())).problem == "", "other logs' anchors are passed over"
    content = log_path().read_bytes().splitlines(keepends=True)
    log_path().write_bytes(b"".join(content[:-2]))
    for head in log_path().parent.glob("*.head"):
        head.write_text(f'{{"log": "{known[0].log}", "sequence": 7, "hash": "{entries_hash(7)}"}}')
    assert verify().problem == "", "log and head fit each other"
    assert verify(anchors=known).problem.startswith("the end was cut off: MLflow knows entry")
    assert versions.tags_of(uri)[audit.HEAD] in map(str, known)


def entries_hash(number: int) -> str:
    return str(verify().entries[number - 1]["hash"])


def test_secrets_in_what_was_logged_are_found(where: Context) -> None:
    secret = "postgresql://gauntlet:" + "hunter2@db"
    with tracking.run("train", where, where.load(), name="mine", params={"uri": secret, "token": "hunter2"}) as run:
        run.tags({"note": f"stored at {secret}"})
    assert leaks(run.id) == []
    MlflowClient().set_tag(run.id, "by.hand", secret)
    tracking.Run(run.id, "").text("below/report.md", f"It is at {secret}.")
    assert {leak.where for leak in leaks(run.id)} == {"tags.by.hand", "below/report.md"}
    assert "hunter2" not in str(leaks(run.id))


def test_a_promotion_of_another_machine_is_known_as_such(
    where: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gauntlet.assurance.audit import trail

    uri = trained(where)
    assert not audit.promoted_elsewhere(uri)  # of no machine at all: the alias would have been moved by hand
    audit._decision(audit.PROMOTED, "a night", uri)
    assert not audit.promoted_elsewhere(uri)
    monkeypatch.setenv("GAUNTLET_AUDIT", str(tmp_path / "of another machine.jsonl"))
    trail.append("run started")
    assert audit.promoted_elsewhere(uri)
