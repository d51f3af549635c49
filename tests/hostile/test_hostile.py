"""Every hostile input ends in one clear line and the status due, and changes nothing on disk or in MLflow."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.corpus import CASES, Case
from tests.hostile.making import CANARY

ROOT = Path(__file__).parents[2]
LONGEST = 1_200
"""Characters of a line that a person still reads."""


def contents(*folders: Path) -> dict[str, str]:
    """Everything below some folders, by path and content; locks and logs left out."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        if "checked" in path.parts:  # digests of files that could be built: what is remembered of them is right
            continue
        if path.suffix in (".lock", ".log") or "logs" in path.parts:
            continue
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else str(path.lstat().st_mode)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_clear_line_and_nothing_changed(
    case: Case, folder: Path, state: Path, typed: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("GAUNTLET_STATE", str(state))
    words = [str(word) for word in case.make(folder)]
    for name, value in case.env.items():
        monkeypatch.setenv(name, value.format(folder=folder))
    monkeypatch.chdir(elsewhere)
    before = contents(state, folder.parent)
    status, out, error = typed(case.flow, *words)
    line = re.sub(r"^trusted: code that comes with .* is run\n", "", error).rstrip("\n")
    assert (status, out) == (case.status, ""), error
    assert line
    assert line.isprintable(), error  # a newline is not printable: one line, and no control characters
    assert len(line) <= LONGEST, len(line)
    assert "Traceback" not in line
    missing = [word for word in case.says if word not in line]
    assert not missing, line
    assert not list(folder.parent.rglob(CANARY)) + list(state.rglob(CANARY))
    assert contents(state, folder.parent) == before


def test_nothing_is_left_where_the_commands_were_typed() -> None:
    assert not {CANARY, "mlruns", "evil"} & {*os.listdir(ROOT), *os.listdir(ROOT.parent)}


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 90
    assert len({str(case) for case in CASES}) == len(CASES)
    assert all(case.why for case in CASES if case.status != 2)


def test_the_page_counts_the_corpus() -> None:
    rows = re.findall(r"^\| ([a-zA-Z]+) \| (\d+) \|", (ROOT / "docs" / "hostile.md").read_text(), re.MULTILINE)
    assert {kind: int(count) for kind, count in rows} == Counter(case.kind for case in CASES)
