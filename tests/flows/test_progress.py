"""Long work shows that it is alive, in a log as well as in a terminal."""

from __future__ import annotations

import pytest

from tasks import progress


def test_a_log_gets_lines_while_the_work_lasts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    monkeypatch.setattr(progress, "recorded", lambda: False)
    with progress.shown("train baseline") as tell:
        tell("epoch 1/4, loss 1.395", 0.25)
    shown = capsys.readouterr()
    assert shown.err.splitlines()[0] == "train baseline: 25%, epoch 1/4, loss 1.395"
    assert shown.out == ""


def test_short_work_leaves_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "recorded", lambda: False)
    with progress.shown("train baseline") as tell:
        tell("epoch 1/4, loss 1.395", 0.25)
    assert len(capsys.readouterr().err.splitlines()) == 1
