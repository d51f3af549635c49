"""Every kind of check of a threat model: what it asks, and what counts as evidence."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gauntlet.assurance.stride import pytests
from gauntlet.assurance.stride.evidence import Evidence, Ran, gather, setting
from gauntlet.assurance.stride.processes import run
from gauntlet.assurance.stride.threat_model import SettingCheck, TestCheck
from tests.gauntlet.assurance.stride.test_threat_model import check, no_runs

# Every kind of check


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of a few files, with tests that pass, fail, are skipped and cannot be collected."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "ours.py").write_text("import os\nLIMIT: int = 3\nHOST = '127.0.0.1'\nON = True\nMADE = os.getpid()\n")
    (folder / "shell.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "set.toml").write_text("[server]\nports = [1, 2]\n")
    (folder / "set.yaml").write_text("deployments:\n  - limit: 1\n")
    tests = folder / "tests" / "more"
    tests.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests" / "test_some.py").write_text(
        "import os\nimport pytest\n\n\ndef test_passes():\n    assert 'GAUNTLET_STATE' not in os.environ\n\n\n"
        "def test_fails():\n    assert False\n\n\ndef test_skips():\n    pytest.skip('no')\n\n\n"
        "@pytest.mark.parametrize('n', [1, 2])\ndef test_twice(n):\n    pass\n\n\n"
        "@pytest.mark.parametrize('n', ['a::b', '[x]'])\ndef test_one_of_two_is_skipped(n):\n"
        "    if n == '[x]':\n        pytest.skip('no')\n\n\n"
        "class TestGroup:\n    def test_inside(self):\n        pass\n"
    )
    (folder / "tests" / "test_uncollected.py").write_text("import nowhere\n\n\ndef test_never():\n    pass\n")
    (tests / "test_deep.py").write_text("def test_deep():\n    pass\n")
    return folder


TESTS = {
    "tests/test_some.py::test_passes": ("passed", "1 passed", "tests/test_some.py:5"),
    "tests/test_some.py::test_twice": ("passed", "2 passed", "tests/test_some.py:17"),
    "tests/test_some.py::TestGroup::test_inside": ("passed", "1 passed", "tests/test_some.py:29"),
    "tests/test_some.py::TestGroup": ("passed", "1 passed", "tests/test_some.py:29"),
    "tests/more": ("passed", "1 passed", "tests/more/test_deep.py:1"),
    "tests/test_some.py::test_fails": ("failed", "1 of 1 failed: test_fails", "tests/test_some.py:9"),
    "tests/test_some.py": ("failed", "1 of 8 failed: test_fails", "tests/test_some.py:9"),
    "tests/test_uncollected.py::test_never": ("failed", "1 of 1 failed", "tests/test_uncollected.py"),
    "tests/test_some.py::test_skips": ("missing", "1 of 1 skipped", "tests/test_some.py:13"),
    "tests/test_some.py::test_one_of_two_is_skipped": ("missing", "1 of 2 skipped", "tests/test_some.py:22"),
    "tests/test_some.py::test_absent": ("missing", "no tests/test_some.py::test_absent", ""),
    "tests/test_absent.py": ("missing", "no tests/test_absent.py", ""),
}


@pytest.fixture(scope="module")
def tested(root: Path) -> dict[str, Evidence]:
    """All of them in one pytest, as the flow does it."""
    checks = [TestCheck(kind="test", test=node) for node in TESTS]
    return {str(one.test): result for one, result in zip(checks, gather(checks, no_runs, root).values(), strict=True)}


@pytest.mark.parametrize("node", TESTS)
def test_a_test_is_evidence_when_it_ran_and_passed(node: str, tested: dict[str, Evidence]) -> None:
    outcome, detail, place = TESTS[node]
    evidence = tested[node]
    assert (evidence.outcome, evidence.link) == (outcome, place)
    assert detail in evidence.detail


def test_tests_that_do_not_end_have_failed(root: Path) -> None:
    (root / "tests" / "test_slow.py").write_text("import time\n\n\ndef test_slow():\n    time.sleep(60)\n")
    done = pytests.run(["tests/test_slow.py::test_slow"], root, timeout=2)
    assert (done.results, done.started) == ((), True)
    assert "had not ended after 2 s" in done.problem


RAN = Ran(
    "0123456789abcdef", "#/experiments/1/runs/0123456789abcdef", {"m": 0.5, "m_low": 0.4, "m_high": 0.7}, {"t": "x"}
)
OF_RUN: list[tuple[dict[str, Any], Ran | None, str]] = [
    ({"kind": "metric", "metric": "m", "at_least": 0.4}, RAN, "passed"),
    ({"kind": "metric", "metric": "m", "at_least": 0.45}, RAN, "failed"),
    ({"kind": "metric", "metric": "m", "at_most": 0.7}, RAN, "passed"),
    ({"kind": "metric", "metric": "m", "at_most": 0.6}, RAN, "failed"),
    ({"kind": "metric", "metric": "m", "at_least": 0.3, "at_most": 0.6}, RAN, "failed"),
    ({"kind": "metric", "metric": "m", "at_most": 1}, Ran("r", "", {"m": float("nan")}, {}), "failed"),
    ({"kind": "metric", "metric": "n", "at_most": 1}, RAN, "missing"),
    ({"kind": "metric", "metric": "m", "at_most": 1}, None, "missing"),
    ({"kind": "tag", "tag": "t"}, RAN, "passed"),
    ({"kind": "tag", "tag": "t", "equals": "x"}, RAN, "passed"),
    ({"kind": "tag", "tag": "t", "equals": "y"}, RAN, "failed"),
    ({"kind": "tag", "tag": "t", "equals": "y", "nothing": "x"}, RAN, "missing"),
    ({"kind": "tag", "tag": "t", "equals": "x", "nothing": "not x"}, RAN, "passed"),
    ({"kind": "tag", "tag": "u"}, RAN, "missing"),
    ({"kind": "tag", "tag": "t"}, None, "missing"),
]


@pytest.mark.parametrize(("fields", "ran", "outcome"), OF_RUN)
def test_a_run_is_evidence_at_the_pessimistic_end(fields: dict[str, Any], ran: Ran | None, outcome: str) -> None:
    one, asked = check(stage="attack", model="baseline", **fields), []

    def runs(tags: Mapping[str, str]) -> Ran | None:
        asked.append(dict(tags))
        return ran

    (evidence,) = gather([one], runs).values()
    assert (evidence.outcome, evidence.link) == (outcome, ran.page if ran else "")
    assert asked == [{"stage": "attack", "model": "baseline"}]


SETTINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"file": "ours.py", "key": "LIMIT", "equals": 3}, "passed", "ours.py:2"),
    ({"file": "ours.py", "key": "LIMIT", "at_most": 2}, "failed", "ours.py:2"),
    ({"file": "ours.py", "key": "HOST", "at_most": 2}, "failed", "ours.py:3"),
    ({"file": "ours.py", "key": "ON", "equals": 1}, "failed", "ours.py:4"),
    ({"file": "ours.py", "key": "ON", "at_most": 1}, "failed", "ours.py:4"),
    ({"file": "ours.py", "key": "MADE", "equals": 1}, "missing", ""),
    ({"file": "set.toml", "key": "server.ports", "equals": [1, 2]}, "passed", "set.toml:2"),
    ({"file": "set.toml", "key": "server.ports.1", "at_least": 2}, "passed", "set.toml"),
    ({"file": "set.toml", "key": "server.ports.2", "at_least": 2}, "missing", ""),
    ({"file": "set.yaml", "key": "deployments.0.limit", "equals": 2}, "failed", "set.yaml"),
    ({"file": "broken.py", "key": "x", "equals": 2}, "missing", ""),
    ({"file": "none.py", "key": "x", "equals": 2}, "missing", ""),
    ({"file": "set.ini", "key": "x", "equals": 2}, "missing", ""),
    ({"attribute": "gauntlet.state.VARIABLE", "equals": "GAUNTLET_STATE"}, "passed", "gauntlet/state.py:"),
    (
        {"attribute": "gauntlet.threat.ThreatModel.model_fields.norm.default", "equals": "2"},
        "failed",
        "gauntlet/threat.py:",
    ),
    ({"attribute": "gauntlet.state.ABSENT", "equals": "2"}, "missing", ""),
    ({"attribute": "gauntlet.absent.LIMIT", "equals": "2"}, "missing", ""),
]


@pytest.mark.parametrize(("fields", "outcome", "place"), SETTINGS)
def test_a_setting_is_read_back(fields: dict[str, Any], outcome: str, place: str, root: Path) -> None:
    evidence = setting(SettingCheck(kind="setting", **fields), root)
    assert evidence.outcome == outcome, evidence.detail
    assert evidence.link.startswith(place)
    assert bool(evidence.link) == bool(place)


SCANS: list[tuple[dict[str, Any], str, str]] = [
    ({"path": "ours.py"}, "passed", "none in 1 files"),
    ({"path": "shell.py", "severity": "high"}, "failed", "shell.py:2"),
    ({"path": "shell.py", "rules": ["B301"]}, "passed", "none in 1 files"),
    ({"path": "shell.py", "rules": ["B602"]}, "failed", "B602"),
    ({"path": "broken.py"}, "missing", "not scanned"),
    ({"path": "absent.py"}, "missing", "no such file"),
]


@pytest.mark.parametrize(("fields", "outcome", "says"), SCANS)
def test_a_scan_is_evidence_of_what_was_scanned(fields: dict[str, Any], outcome: str, says: str, root: Path) -> None:
    (evidence,) = gather([check(kind="scan", **fields)], no_runs, root).values()
    assert evidence.outcome == outcome
    assert says in evidence.detail


COMMANDS: list[tuple[list[str], dict[str, Any], str, str]] = [
    (["mlflow_server", "--help"], {}, "passed", "exit status 0"),
    (["mlflow_server", "--surprise"], {}, "failed", "exit status 2"),
    (["mlflow_server", "--surprise"], {"exit_status": 2}, "passed", "exit status 2"),
    (["mlflow_server", "--surprise"], {"nothing": 2}, "missing", "exit status 2"),
    (["mlflow_server", "--help"], {"timeout": 0.01}, "failed", "had not ended"),
    (["gauntlet.nothing"], {}, "missing", "no module gauntlet.nothing"),
    (["gauntlet.nothing.more"], {}, "missing", "no module gauntlet.nothing.more"),
]


@pytest.mark.parametrize(("words", "fields", "outcome", "says"), COMMANDS)
def test_a_command_ends_as_expected(words: list[str], fields: dict[str, Any], outcome: str, says: str) -> None:
    (evidence,) = gather([check(kind="command", command=["python", "-m", *words], **fields)], no_runs).values()
    assert evidence.outcome == outcome
    assert says in evidence.detail


def test_a_command_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    child = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    script = f"{child}; open('pid', 'w').write(str(p.pid)); time.sleep(60)"
    ended = run([sys.executable, "-c", script], tmp_path, 3, {})
    assert ended.status is None
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    for _ in range(50):  # a busy system takes its time to end what was killed
        if gone := not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.1)
    assert gone
