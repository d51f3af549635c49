"""Bandit's findings: counted, gated, compared, and never silently missing."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from gauntlet.assurance.scan.findings import Finding, worst
from gauntlet.assurance.scan.sast import ScanResult, parse, scan
from gauntlet.errors import InputError, SettingError
from gauntlet.state import PROJECT_ROOT

FIXTURES = PROJECT_ROOT / "tests" / "fixtures" / "sast"
RULES = {"B101", "B105", "B301", "B306", "B307", "B324", "B403", "B404", "B602"}


@pytest.fixture
def unsafe() -> ScanResult:
    return scan(FIXTURES / "unsafe_cache.py")


def write(folder: Path, name: str, code: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return path


def test_unsafe_code_is_found(unsafe: ScanResult) -> None:
    assert {finding.rule for finding in unsafe.findings} == RULES
    assert unsafe.counts() == {"high": 2, "medium": 3, "low": 4}
    assert list(unsafe.counts()) == ["high", "medium", "low"]
    assert (unsafe.files, unsafe.errors, unsafe.suppressed) == (1, (), 0)
    assert unsafe.lines > 10


def test_findings_say_where_and_what(unsafe: ScanResult) -> None:
    pickled = next(finding for finding in unsafe.findings if finding.rule == "B301")
    source = (FIXTURES / "unsafe_cache.py").read_text().splitlines()
    assert pickled.file == "unsafe_cache.py"
    assert "pickle.load" in source[pickled.line - 1]
    assert (pickled.severity, pickled.confidence) == ("medium", "high")
    assert "untrusted data" in pickled.message
    assert len(pickled.fingerprint) == 64


def test_the_worst_come_first(unsafe: ScanResult) -> None:
    assert [finding.severity for finding in unsafe.findings] == ["high"] * 2 + ["medium"] * 3 + ["low"] * 4


def test_safe_twin_has_no_findings() -> None:
    assert scan(FIXTURES / "safe_cache.py").findings == ()


TWINS = {
    "pickle": ({"B301", "B403"}, set()),
    "yaml": ({"B506"}, set()),
    # Bandit notes every use of subprocess as low, with a shell or without.
    "shell": ({"B404", "B602"}, {"B404", "B603"}),
    "password": ({"B105"}, set()),
    "hash": ({"B324"}, set()),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_mistake_is_found_and_its_safe_twin_is_not(name: str) -> None:
    wrong, right = (scan(FIXTURES.with_name("twins") / f"{name}_{kind}.py") for kind in ("unsafe", "safe"))
    assert ({f.rule for f in wrong.findings}, {f.rule for f in right.findings}) == TWINS[name]
    assert right.at_or_above("medium") == ()
    assert wrong.errors == right.errors == ()


def test_gates(unsafe: ScanResult) -> None:
    assert worst(unsafe.findings) == "high"
    assert worst(()) is None
    assert [len(unsafe.at_or_above(level)) for level in ("low", "medium", "high")] == [9, 5, 2]
    with pytest.raises(SettingError, match="not one of low, medium, high"):
        unsafe.at_or_above("critical")


def test_fingerprint_survives_edits_elsewhere_and_changes_with_its_code(tmp_path: Path) -> None:
    def fingerprint(code: str) -> str:
        write(tmp_path, "a.py", code)
        (finding,) = scan(tmp_path).findings
        return finding.fingerprint

    first = fingerprint("x = eval('1')\n")
    assert fingerprint("# moved\n\nx  =  eval('1')\ny = 2\n") == first
    assert fingerprint("x = eval('2')\n") != first


def test_a_folder_is_scanned_with_names_relative_to_it(tmp_path: Path) -> None:
    write(tmp_path, "pkg/deep/a.py", "eval('1')\n")
    write(tmp_path, "b.pyw", "eval('1')\n")
    assert [finding.file for finding in scan(tmp_path).findings] == ["b.pyw", "pkg/deep/a.py"]


@pytest.mark.parametrize("folder", [".venv", ".venv-3.12", "a/node_modules", ".git", "state", "x/__pycache__"])
def test_foreign_folders_are_skipped(tmp_path: Path, folder: str) -> None:
    write(tmp_path, f"{folder}/bad.py", "eval('1')\n")
    write(tmp_path, "good.py", "x = 1\n")
    result = scan(tmp_path)
    assert (result.findings, result.files) == ((), 1)


@pytest.mark.parametrize("name", ["state.py", "pkg/state/a.py", "mystate/a.py", ".hidden/a.py"])
def test_look_alikes_are_scanned(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "eval('1')\n")
    assert [finding.file for finding in scan(tmp_path).findings] == [name]


def test_a_missing_path_is_the_users_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        scan(tmp_path / "nothing")


@pytest.mark.parametrize("name", [None, "readme.txt"])
def test_nothing_to_scan_does_not_pass_for_clean(tmp_path: Path, name: str | None) -> None:
    if name:
        write(tmp_path, name, "eval('1')")
    with pytest.raises(InputError, match="no Python files"):
        scan(tmp_path)


@pytest.mark.parametrize("code", ["def f(:\n", "x = '\n", "x = 1\0\n"])
def test_a_file_that_cannot_be_parsed_is_an_error_not_a_clean_file(tmp_path: Path, code: str) -> None:
    write(tmp_path, "broken.py", code)
    write(tmp_path, "whole.py", "eval('1')\n")
    result = scan(tmp_path)
    assert len(result.errors) == 1
    assert result.errors[0].startswith("broken.py: ")
    assert (result.files, len(result.findings)) == (1, 1)


def test_a_dangling_link_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "whole.py", "x = 1\n")
    os.symlink(tmp_path / "gone.py", tmp_path / "link.py")
    assert scan(tmp_path).errors == ("link.py: No such file or directory",)


def test_nosec_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "eval('1')  # nosec\neval('2')  # nosec B307\n")
    result = scan(tmp_path)
    assert (result.findings, result.suppressed) == ((), 2)


def test_config_is_obeyed(tmp_path: Path) -> None:
    write(tmp_path, "old/a.py", "eval('1')\n")
    write(tmp_path, "b.py", "import pickle\neval('1')\n")
    config = write(tmp_path, "c.toml", "[tool.bandit]\nskips = ['B403']\nexclude_dirs = ['./old']\n")
    assert [(f.file, f.rule) for f in scan(tmp_path, config).findings] == [("b.py", "B307")]


def test_scanned_code_cannot_bring_its_own_config(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "eval('1')\n")
    write(tmp_path, "pyproject.toml", "[tool.bandit]\nskips = ['B307']\n")
    assert len(scan(tmp_path).findings) == 1


@pytest.mark.parametrize("text", ["[tool.bandit\n", None])
def test_a_bad_config_is_the_users_input(tmp_path: Path, text: str | None) -> None:
    write(tmp_path, "a.py", "x = 1\n")
    config = write(tmp_path, "c.toml", text) if text else tmp_path / "none.toml"
    with pytest.raises(SettingError, match=config.name):
        scan(tmp_path, config)


def test_bandit_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for index in range(60):  # From fifty on Bandit draws a progress bar, if its log is at INFO.
        write(tmp_path, f"m{index}.py", "x = '\\d'\n" if index % 2 else "def f(:\n")
    logging.getLogger().setLevel(logging.INFO)
    try:
        scan(tmp_path)
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    assert capfd.readouterr() == ("", "")


def test_a_report_of_the_command_line_is_read_alike(tmp_path: Path, unsafe: ScanResult) -> None:
    from bandit.core.config import BanditConfig
    from bandit.core.manager import BanditManager

    manager = BanditManager(BanditConfig(), "file")
    manager.discover_files([str(FIXTURES / "unsafe_cache.py")])
    manager.run_tests()
    report = tmp_path / "report.json"
    manager.output_results(3, "LOW", "LOW", report.open("w"), "json")
    assert parse(json.loads(report.read_text()), root=FIXTURES) == unsafe


@pytest.mark.parametrize("report", [{}, {"results": [{}], "errors": [], "metrics": {"_totals": {"loc": 1}}}])
def test_not_a_report(report: dict[str, object]) -> None:
    with pytest.raises(InputError, match="not a JSON report of Bandit"):
        parse(report)


def test_a_severity_that_bandit_leaves_open_does_not_vanish() -> None:
    result = {
        "filename": "./a.py",
        "test_id": "X1",
        "test_name": "x",
        "issue_severity": "UNDEFINED",
        "issue_confidence": "HIGH",
        "issue_text": "t",
        "line_number": 1,
    }
    (finding,) = parse({"results": [result], "errors": [], "metrics": {"_totals": {"loc": 1}}}).findings
    assert (finding.severity, finding.file) == ("low", "a.py")


def test_findings_are_values(unsafe: ScanResult) -> None:
    assert scan(FIXTURES / "unsafe_cache.py") == unsafe
    assert all(isinstance(hash(finding), int) for finding in unsafe.findings)
    assert all(isinstance(finding, Finding) for finding in unsafe.findings)


def test_the_project_is_clean() -> None:
    result = scan(PROJECT_ROOT)
    assert [f"{f.file}:{f.line} {f.rule} {f.message}" for f in result.findings] == []
    assert result.errors == ()
