"""A single stage says in the terminal what it measured."""

from __future__ import annotations

from typing import Any

import pytest

from gauntlet.measurement import Measurement
from tasks import outcome
from tasks.store import connection, tracking

RUNS: dict[str, dict[str, Any]] = {
    "a": {
        "measurements": [Measurement(model="model", condition="clean", n=100, value=0.9, low=0.8256, high=0.9448)],
        "validity": "SUSPECT",
        "reasons": ["pgd is weaker than fgsm", "few images"],
        "notes": ["n = 100"],
    },
    "b": {"measurements": [], "notes": ["n = 100", "another"]},
}


def test_table_verdict_notes_and_address(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tracking, "records", RUNS.__getitem__)
    monkeypatch.setattr(connection, "connect", str)
    outcome.show("http://127.0.0.1:5000", "a", "b")
    printed = capsys.readouterr()
    assert printed.out == ""  # which is for data
    assert "90.00 [82.6, 94.5]" in printed.err
    assert printed.err.splitlines()[-5:] == [
        "SUSPECT: pgd is weaker than fgsm; few images",
        "note: n = 100",
        "note: another",
        "Run: a",
        "MLflow: the browser, at http://127.0.0.1:5000",
    ]


def test_without_measurements_there_is_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "records", RUNS.__getitem__)
    monkeypatch.setattr(connection, "connect", str)
    outcome.show("http://127.0.0.1:5000", "b")
    assert len(capsys.readouterr().err.splitlines()) == 4
