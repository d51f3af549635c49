"""A single stage says in the terminal what it measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gauntlet.measurement import Measurement
from tasks import outcome
from tasks.store import connection, tracking

CLEAN = Measurement(model="model", condition="clean", n=100, value=0.9, low=0.8256, high=0.9448)
RUNS: dict[str, dict[str, Any]] = {
    "a": {
        "measurements": [CLEAN],
        "validity": "SUSPECT",
        "reasons": ["pgd is weaker than fgsm", "few images"],
        "notes": ["n = 100"],
    },
    "b": {"measurements": [CLEAN], "notes": ["n = 100", "another"]},
    "c": {"measurements": [], "notes": ["n = 100", "another"]},
}


def test_table_verdict_notes_and_address(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tracking, "records", RUNS.__getitem__)
    monkeypatch.setattr(tracking, "read", lambda name: SimpleNamespace(info=SimpleNamespace(run_name=f"run {name}")))
    monkeypatch.setattr(connection, "connect", str)
    outcome.show("http://127.0.0.1:5000", "a", "b")
    printed = capsys.readouterr()
    assert printed.out == ""  # which is for data
    assert printed.err.count("90.00 [82.6, 94.5]") == 1
    assert printed.err.splitlines()[-5:] == [
        "run a: SUSPECT: pgd is weaker than fgsm; few images",
        "note: n = 100",
        "note: another",
        "Run: a",
        "MLflow: the browser, at http://127.0.0.1:5000",
    ]


def test_without_measurements_the_metrics_with_intervals_stand_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"detect/auc": 0.9, "detect/auc_low": 0.85, "detect/auc_high": 0.95, "detect/seconds": 3.0}
    monkeypatch.setattr(tracking, "records", RUNS.__getitem__)
    monkeypatch.setattr(tracking, "read", lambda _: SimpleNamespace(data=SimpleNamespace(metrics=metrics)))
    monkeypatch.setattr(connection, "connect", str)
    outcome.show("http://127.0.0.1:5000", "c")
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "detect/auc: 0.900 [0.850, 0.950]"
    assert len(shown) == 5
