"""Spoilt model files for a moment; `python -m tests.hostile.fuzz_models` does it for long."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest

from gauntlet.assurance.scan.findings import Scanned
from tests.hostile import fuzz_models as fuzz
from tests.hostile import making as m

CASES = 150


@pytest.fixture
def whole(tmp_path: Path) -> list[Path]:
    """A pickle, an array by joblib, and the two files of Keras'."""
    place = tmp_path / "whole"
    place.mkdir()
    (place / "a.pkl").write_bytes(pickle.dumps({"a": [1, (2.5, "b")], "c": np.arange(3)}))
    joblib.dump([np.arange(50.0), {"a": np.zeros(3, "u1")}], place / "b.joblib")
    m.described(place / "c.keras", m.config())

    def fill(content: object) -> None:
        content.attrs["model_config"] = json.dumps(m.config())  # type: ignore[attr-defined]

    (place / "d.h5").write_bytes(m.hdf5(fill))
    return sorted(place.iterdir())


@pytest.mark.parametrize("what", ["pickles", "checker"])
def test_spoilt_files_end_in_one_line_or_a_verdict(what: str, whole: list[Path], tmp_path: Path) -> None:
    kinds, draw, said = fuzz.targets(what, whole), np.random.default_rng(0), set()
    for number in range(CASES):
        name, data, ask, ways = kinds[number % len(kinds)]
        said.add(ask(tmp_path / name, ways[number // len(kinds) % len(ways)](data, draw)))
    assert said >= {"told"} if what == "pickles" else said == {"refused", "passed"}


def test_whole_files_pass(whole: list[Path], tmp_path: Path) -> None:
    said = [
        ask(tmp_path / name, data)
        for what in ("pickles", "checker")
        for name, data, ask, _ in fuzz.targets(what, whole)
    ]
    assert said == ["clean, read", "clean, read", "passed", "passed"]


def test_a_scanner_that_lets_a_pickle_through_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "scan", lambda *_: Scanned())
    with pytest.raises(fuzz.Forbidden, match=r"os\.system"):
        fuzz.read_clean(tmp_path / "a.pkl", b"cos\nsystem\n.")
