"""One scan of several scanners: states, gates, and SARIF that a code host accepts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from gauntlet.assurance.scan.findings import read_baseline
from gauntlet.assurance.scan.sarif import FINGERPRINT, SCHEMA
from gauntlet.assurance.scan.scanning import Asked, Outcome, scan
from gauntlet.errors import GateError, InputError


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one finding of each severity; the working folder is the one above."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my code"
    folder.mkdir()
    (folder / "a.py").write_text("import pickle\nimport hashlib\nx = eval('1')\nhashlib.md5(b'')\n")
    return folder


def found(**asked: Any) -> Outcome:
    return scan(Asked(**{key: str(value) if isinstance(value, Path) else value for key, value in asked.items()}))


def states(outcome: Outcome) -> list[tuple[str, str]]:
    return [(state, item.rule) for state, item in outcome.rows()]


def test_only_what_is_asked_is_scanned(code: Path, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(1))
    assert list(found(path=code).scanned) == ["bandit"]
    assert list(found(model=tmp_path / "m.pkl").scanned) == ["model-file"]
    both = found(path=code, model=tmp_path / "m.pkl")
    assert list(both.scanned) == ["bandit", "model-file"]
    assert both.dependencies == "not asked"
    assert list(Asked().roots) == ["bandit"]


def test_a_baseline_makes_states_and_gates_count_what_is_new(code: Path, tmp_path: Path) -> None:
    accepted = tmp_path / "accepted.json"
    first = found(path=code, write_baseline=accepted, fail_on="high")
    first.write()
    assert {state for state, _ in states(first)} == {""}
    with pytest.raises(GateError, match="1 findings of severity high"):
        first.gate()
    again = found(path=code, baseline=accepted, fail_on="low", fail_on_new=True)
    again.gate()
    assert (again.metrics()["scan/new"], again.metrics()["scan/high"]) == (0, 1)
    (code / "a.py").write_text("import hashlib\n\nx = eval('1')\nhashlib.md5(b'')\nhashlib.md5(b'')\n")
    later = found(path=code, baseline=accepted, fail_on="high")
    assert sorted(states(later)) == [("fixed", "B403"), ("known", "B307"), ("known", "B324"), ("new", "B324")]
    assert (later.metrics()["scan/new"], later.metrics()["scan/fixed"]) == (1, 1)
    with pytest.raises(GateError, match="1 new findings of severity high"):
        later.gate()


def test_a_gate_of_new_findings_takes_any_severity(code: Path, tmp_path: Path) -> None:
    found(path=code, write_baseline=tmp_path / "b.json").write()
    (code / "b.py").write_text("assert 1\n")
    with pytest.raises(GateError, match="new findings of severity low"):
        found(path=code, baseline=tmp_path / "b.json", fail_on_new=True).gate()


def test_what_was_not_looked_at_is_not_fixed(code: Path, tmp_path: Path) -> None:
    found(path=code, write_baseline=tmp_path / "b.json").write()
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(1))
    assert states(found(model=tmp_path / "m.pkl", baseline=tmp_path / "b.json")) == []
    (code / "a.py").write_text("def broken(:\n")
    (code / "b.py").write_text("x = 1\n")
    assert states(found(path=code, baseline=tmp_path / "b.json")) == []


def test_a_gate_over_what_could_not_be_read_is_inconclusive(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    outcome = found(model=tmp_path / "m.onnx", fail_on="high")
    outcome.gate()
    assert outcome.is_inconclusive
    assert not found(model=tmp_path / "m.onnx").is_inconclusive


def test_a_baseline_written_over_keeps_its_reasons_and_no_other_file_is_written_over(
    code: Path, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"
    found(path=code, write_baseline=path).write()
    path.write_text(path.read_text().replace("not reviewed yet", "known since 2020"))
    found(path=code, write_baseline=path).write()
    assert {entry.reason for entry in read_baseline(path).findings} == {"known since 2020"}
    with pytest.raises(InputError, match="not a baseline"):
        found(path=code, write_baseline=code / "a.py")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"path": "none"}, "--path none: no such"),
        ({"model": "none"}, "--model none: no such"),
        ({"lock": "none"}, "--lock none: no such"),
        ({"baseline": "none"}, "none: cannot be read"),
        ({"fail_on_new": True}, "--fail-on-new"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_scanned(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Asked(**asked).check()


def test_sarif_has_what_code_hosts_ask_for(code: Path, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"cos\nsystem\n(S'id'\ntR")
    path = tmp_path / "out.sarif"
    found(path=code, model=tmp_path / "m.pkl", sarif=path).write()
    log = json.loads(path.read_text())
    assert (log["version"], log["$schema"]) == ("2.1.0", SCHEMA)
    assert [run["tool"]["driver"]["name"] for run in log["runs"]] == ["gauntlet bandit", "gauntlet model-file"]
    assert len({run["automationDetails"]["id"] for run in log["runs"]}) == 2
    for run in log["runs"]:
        assert run["results"]
        for result in run["results"]:
            check(result, run["tool"]["driver"]["rules"])
    assert (
        log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "my%20code/a.py"
    )
    assert log["runs"][1]["invocations"][0]["executionSuccessful"] is False


def check(result: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    """The fields that GitHub's page on SARIF calls required, and those that it sorts alerts by."""
    rule = rules[result["ruleIndex"]]
    assert rule["id"] == result["ruleId"]
    assert rule["shortDescription"]["text"]
    assert rule["fullDescription"]["text"]
    assert rule["help"]["text"]
    assert rule["defaultConfiguration"]["level"] == result["level"]
    assert 0 < float(rule["properties"]["security-severity"]) <= 10
    assert result["message"]["text"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["region"]["startLine"] >= 1
    assert not location["physicalLocation"]["artifactLocation"]["uri"].startswith("/")
    assert len(result["partialFingerprints"][FINGERPRINT]) == 64
    assert "baselineState" not in result


def test_sarif_says_what_is_new_unchanged_and_absent(code: Path, tmp_path: Path) -> None:
    found(path=code, write_baseline=tmp_path / "b.json").write()
    (code / "a.py").write_text("x = eval('1')\ny = eval('2')\n")
    outcome = found(path=code, baseline=tmp_path / "b.json", sarif=tmp_path / "s.sarif")
    (run,) = outcome.sarif()["runs"]
    kept = [(result["ruleId"], result["baselineState"]) for result in run["results"]]
    assert sorted(kept) == [("B307", "new"), ("B307", "unchanged"), ("B324", "absent"), ("B403", "absent")]
    outcome.write()
    (written,) = json.loads((tmp_path / "s.sarif").read_text())["runs"]
    assert {result["baselineState"] for result in written["results"]} == {"new", "unchanged"}
