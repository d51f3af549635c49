"""How long a tracking server may be away."""

from __future__ import annotations

import os

import pytest

from gauntlet.errors import SettingError
from tasks.store import patience


@pytest.fixture(autouse=True)
def nothing_set_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered goes with the variable: a number that only stays behind looks like a user's own."""
    monkeypatch.setattr(patience, "_ours", {})
    monkeypatch.delenv(patience.RETRIES, raising=False)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (1, 1), (2, 1), (10, 3), (240, 7), (1e6, 10)])
def test_pauses_last_at_least_so_long(seconds: float, expected: int) -> None:
    assert patience.retries(seconds) == expected


@pytest.mark.parametrize("text", ["long", "-1", "inf", "nan"])
def test_what_is_no_number_of_seconds_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_PATIENCE", text)
    with pytest.raises(SettingError, match="GAUNTLET_PATIENCE: expected seconds"):
        patience.patience()


def test_the_first_contact_is_short_and_the_rest_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_PATIENCE", "60")
    with patience.first_contact():
        assert os.environ[patience.RETRIES] == "3"
    assert os.environ[patience.RETRIES] == "5"
    monkeypatch.setenv("GAUNTLET_PATIENCE", "1")
    with patience.first_contact():
        assert os.environ[patience.RETRIES] == "1"


def test_what_is_set_for_mlflow_itself_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.RETRIES, "4")
    with patience.first_contact():
        assert os.environ[patience.RETRIES] == "4"
    assert os.environ[patience.RETRIES] == "4"
