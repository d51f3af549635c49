"""Known vulnerabilities of locked packages, by pip-audit; and whether they were looked up at all.

pip-audit 2.10 ends with status 0 and "No known vulnerabilities found" if the index knows none of the packages, like a
mirror without advisories. So its report is read package by package: a skipped package was not checked.
"""

from __future__ import annotations

import json

# With a list of arguments, without a shell.
import subprocess  # nosec B404
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gauntlet.assurance.scan.findings import Finding, Scanned, by_severity, fingerprint
from gauntlet.errors import InputError
from gauntlet.state import shipped

LOCK = shipped("constraints.txt")
TIMEOUT = 300.0
"""Seconds for all packages: pip-audit asks for one after the other."""


@dataclass(frozen=True, kw_only=True)
class Audit(Scanned):
    """What pip-audit found, and for how many packages it could tell."""

    packages: int = 0
    unchecked: int = 0
    reason: str = ""
    """Why packages were not checked; empty when all were."""
    report: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """pip-audit's own report."""

    @property
    def status(self) -> str:
        """`checked`, or `not checked: ` and why."""
        return f"not checked: {self.reason}" if self.reason else "checked"


def audit(lock: Path = LOCK, timeout: float = TIMEOUT) -> Audit:
    """Look up every package of a lock file (pinned, `name==version` a line); raises InputError when it is no such file.

    Data that cannot be reached is no error here: the result says `not checked`, and why.
    """
    _check(lock)
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--cache-dir", cache]
        try:
            done = subprocess.run(  # nosec B603
                command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return _unknown(lock, f"pip-audit took more than {timeout:g} s")
    return read(done.stdout, lock, problem=_last(done.stderr))


def _check(lock: Path) -> None:
    """Refuse what pip-audit would fail on in its own words, or take for nothing to do."""
    fix = "name==version a line, as `make lock` writes it"
    try:
        lines = [line.split("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(lock), fix=fix) from error
    except UnicodeDecodeError as error:
        raise InputError("not a text file", where=str(lock), fix=fix) from error
    packages = [line for line in lines if line]
    loose = next((line for line in packages if "==" not in line or line.startswith("-")), None)
    if loose is not None or not packages:
        what = f"not pinned: {loose[:80]!r}" if loose is not None else "no packages in it"
        raise InputError(what, where=str(lock), fix=fix)


def read(report: str, lock: Path, problem: str = "no report") -> Audit:
    """The findings of a JSON report of pip-audit; without one, `problem` is why nothing was checked."""
    try:
        content = json.loads(report)
        packages = content["dependencies"]
        findings = [_finding(package, vulnerability, lock) for package in packages for vulnerability in _of(package)]
        skipped = [str(package["skip_reason"]) for package in packages if "skip_reason" in package]
    except (ValueError, KeyError, TypeError, AttributeError):
        return _unknown(lock, problem)
    reason = f"{len(skipped)} of {len(packages)} packages, the first: {skipped[0]}" if skipped else ""
    reason = reason if packages else "pip-audit found no packages"
    return Audit(
        findings=by_severity(findings),
        errors=(f"{lock.name}: not checked: {reason}",) if reason else (),
        packages=len(packages),
        unchecked=len(skipped),
        reason=reason,
        report=content,
    )


def _of(package: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The vulnerabilities of a package; one that was not skipped must say them."""
    return [] if "skip_reason" in package else list(package["vulns"])


def _finding(package: Mapping[str, Any], vulnerability: Mapping[str, Any], lock: Path) -> Finding:
    name, version, rule = package["name"], package["version"], vulnerability["id"]
    fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    others = ", ".join(vulnerability.get("aliases", []))
    return Finding(
        rule=rule,
        name=name,
        # Neither PyPI's nor pip-audit's answer has a severity: what is known to be vulnerable counts in full.
        severity="high",
        confidence="high",
        file=lock.name,
        line=_line(lock, name),
        message=f"{name} {version} is vulnerable{f' ({others})' if others else ''}; fixed in {fixed}",
        fingerprint=fingerprint(rule, lock.name, f"{name}=={version}"),
        tool="pip-audit",
    )


def _line(lock: Path, name: str) -> int:
    """The line of a package; names are equal up to case and `-_.` (PEP 503)."""
    wanted = _plain(name)
    lines = lock.read_text(encoding="utf-8").splitlines()
    return next((n for n, line in enumerate(lines, 1) if _plain(line.split("==")[0].split("[")[0]) == wanted), 0)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")


def _unknown(lock: Path, reason: str) -> Audit:
    return Audit(errors=(f"{lock.name}: not checked: {reason}",), reason=reason)


def _last(text: str) -> str:
    """The last line that a program said, as its reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "pip-audit said nothing"
