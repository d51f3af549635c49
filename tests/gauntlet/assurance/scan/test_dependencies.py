"""pip-audit's answer: read package by package, so that one it knows nothing of does not pass for sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gauntlet.assurance.scan import dependencies
from gauntlet.assurance.scan.dependencies import audit, read
from gauntlet.errors import InputError

VULNERABLE = {
    "name": "flask",
    "version": "0.5",
    "vulns": [
        {
            "id": "PYSEC-2019-179",
            "fix_versions": ["1.0"],
            "aliases": ["CVE-2019-1010083", "GHSA-5wv5-4vpf-pj6m"],
            "description": "Unexpected memory usage.",
        },
        {"id": "PYSEC-2018-66", "fix_versions": [], "aliases": [], "description": "Denial of service."},
    ],
}
"""In the JSON format that pip-audit documents."""
SOUND = {"name": "jinja2", "version": "3.1.6", "vulns": []}
UNKNOWN = {"name": "absl-py", "skip_reason": "Dependency not found on PyPI and could not be audited: absl-py (2.5.1)"}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "constraints.txt"
    path.write_text("# every package\nabsl-py==2.5.1\nFlask==0.5\nJinja2==3.1.6\n")
    return path


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_vulnerable_packages_are_findings_at_their_lines(lock: Path) -> None:
    result = read(report(VULNERABLE, SOUND), lock)
    assert [(f.rule, f.file, f.line, f.severity, f.tool) for f in result.findings] == [
        ("PYSEC-2018-66", "constraints.txt", 3, "high", "pip-audit"),
        ("PYSEC-2019-179", "constraints.txt", 3, "high", "pip-audit"),
    ]
    assert "CVE-2019-1010083" in result.findings[1].message
    assert "fixed in 1.0" in result.findings[1].message
    assert (result.status, result.errors, result.packages) == ("checked", (), 2)


def test_all_packages_checked_and_sound(lock: Path) -> None:
    result = read(report(SOUND), lock)
    assert (result.findings, result.status) == ((), "checked")


def test_a_fingerprint_is_of_the_version(lock: Path) -> None:
    first, again, other = (
        read(report(VULNERABLE | {"version": version}), lock).findings[0].fingerprint
        for version in ("0.5", "0.5", "0.6")
    )
    assert first == again != other


@pytest.mark.parametrize("packages", [[UNKNOWN], [UNKNOWN, SOUND], [UNKNOWN, VULNERABLE]])
def test_a_package_that_was_skipped_was_not_checked(lock: Path, packages: list[dict[str, Any]]) -> None:
    result = read(report(*packages), lock)
    assert result.status.startswith(f"not checked: 1 of {len(packages)} packages, the first: Dependency not found")
    assert len(result.errors) == 1
    assert bool(result.findings) == (VULNERABLE in packages)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"dependencies": [{"name": "a", "version": "1"}]}', report()])
def test_no_report_is_not_checked(lock: Path, text: str) -> None:
    result = read(text, lock, problem="no route to host")
    assert result.status.startswith("not checked: ")
    assert result.errors
    assert result.findings == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("numpy>=2\n", "not pinned"),
        ("-r more.txt\n", "not pinned"),
        ("# nothing\n", "no pack"),
    ],
)
def test_what_is_no_lock_file_is_the_users_input(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "lock.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=says):
        audit(path)


def test_out_of_reach_is_not_checked(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    result = audit(lock)
    assert result.status.startswith("not checked: ")
    assert "roxy" in result.reason
    assert (result.findings, len(result.errors)) == ((), 1)


def test_time_is_bounded(lock: Path) -> None:
    assert audit(lock, timeout=0.01).status == "not checked: pip-audit took more than 0.01 s"


def test_the_projects_own_lock_is_one() -> None:
    dependencies._check(dependencies.LOCK)
