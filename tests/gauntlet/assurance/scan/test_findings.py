"""Baselines and deltas: what is new, what is fixed, and what only moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gauntlet.assurance.scan.findings import (
    UNREVIEWED,
    Baseline,
    Finding,
    Severity,
    at_or_above,
    compare,
    counts,
    fingerprint,
    read_baseline,
    since,
    write_baseline,
)
from gauntlet.errors import InputError


def finding(content: str, line: int = 1, severity: Severity = "low", file: str = "a.py") -> Finding:
    mark = fingerprint("B101", file, content)
    return Finding("B101", "assert", severity, "high", file, line, f"about {content}", mark)


ONE, TWO, THREE = finding("one"), finding("two"), finding("three")


def test_what_is_new_fixed_and_known() -> None:
    delta = compare([ONE, TWO], [TWO, THREE])
    assert (delta.new, delta.known, delta.fixed) == ((THREE,), (TWO,), (ONE,))


def test_a_finding_that_moved_is_known() -> None:
    delta = compare([ONE], [finding("one", line=70)])
    assert (delta.new, [f.line for f in delta.known], delta.fixed) == ((), [70], ())


def test_a_second_equal_line_is_new_and_a_removed_one_is_fixed() -> None:
    again = finding("one", line=2)
    assert compare([ONE], [ONE, again]).new == (again,)
    assert compare([ONE, again], [ONE]).fixed == (again,)


def test_counts_and_gates() -> None:
    findings = [finding("a", severity="high"), finding("b", severity="low"), finding("c", severity="low")]
    assert counts(findings) == {"high": 1, "medium": 0, "low": 2}
    assert len(at_or_above(findings, "medium")) == 1


def test_a_baseline_is_read_back_and_its_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    written = [tmp_path / name for name in ("a.json", "b.json")]
    write_baseline(written[0], [ONE, TWO, THREE, ONE])
    write_baseline(written[1], [ONE, THREE, ONE, TWO])
    assert written[0].read_bytes() == written[1].read_bytes()
    assert compare(read_baseline(written[0]).findings, [ONE, ONE, TWO, THREE]).new == ()
    assert sorted(tmp_path.iterdir()) == written


def test_a_baseline_keeps_the_reasons_that_were_given(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, [ONE])
    content = json.loads(path.read_text())
    assert content["findings"][0]["reason"] == UNREVIEWED
    content["findings"][0]["reason"] = "a test asserts"
    path.write_text(json.dumps(content))
    write_baseline(path, [ONE, TWO], read_baseline(path))
    assert {entry.message: entry.reason for entry in read_baseline(path).findings} == {
        "about one": "a test asserts",
        "about two": UNREVIEWED,
    }


def test_names_that_are_no_text_survive_a_baseline(tmp_path: Path) -> None:
    odd = finding("x", file="caf\udce9.py")
    write_baseline(tmp_path / "b.json", [odd])
    assert compare(read_baseline(tmp_path / "b.json").findings, [odd]).new == ()


def test_what_was_not_looked_at_is_not_fixed(tmp_path: Path) -> None:
    baseline = write_baseline(tmp_path / "b.json", [ONE, finding("x", file="b.py")])
    delta = since(baseline, [], lambda entry: entry.file == "a.py")
    assert [entry.file for entry in delta.fixed] == ["a.py"]


def entry(**changes: Any) -> dict[str, Any]:
    whole = {"fingerprint": "0" * 64, "tool": "bandit", "rule": "B1", "severity": "low", "file": "a", "message": "m"}
    return whole | {"reason": "r"} | changes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a baseline"),
        ("[]", "not a baseline"),
        ('{"version": 2}', "version"),
        (json.dumps({"findings": [entry(), entry(reason="")]}), "findings.1.reason"),
        (json.dumps({"findings": [entry(fingerprint="12")]}), "findings.0.fingerprint"),
        (json.dumps({"findings": [entry(more=1)]}), "findings.0.more"),
    ],
)
def test_what_is_no_baseline_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_baseline(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read_or_written_are_the_users_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        read_baseline(tmp_path / "none.json")
    with pytest.raises(InputError, match="nowhere"):
        write_baseline(tmp_path / "nowhere" / "b.json", [ONE])


def test_an_empty_baseline_knows_nothing() -> None:
    assert compare(Baseline().findings, [ONE]).new == (ONE,)
