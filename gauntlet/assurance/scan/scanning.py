"""One scan: what was asked, the scanners that ran, what is new since a baseline, and whether it passes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from gauntlet.assurance.scan import dependencies, models, sast
from gauntlet.assurance.scan.findings import (
    Accepted,
    Baseline,
    Delta,
    Finding,
    Scanned,
    Severity,
    Tool,
    at_or_above,
    counts,
    read_baseline,
    since,
    write_baseline,
)
from gauntlet.assurance.scan.sarif import sarif
from gauntlet.commandline import check_output, write_text
from gauntlet.errors import GateError, InputError, SettingError
from gauntlet.state import CHECKOUT, PROJECT_ROOT


class Asked(BaseModel):
    """What to scan, what to compare with, what to fail on; files and folders of this machine."""

    model_config = ConfigDict(frozen=True)

    path: str | None = None
    """Code; this project when nothing else is asked either."""
    model: str | None = None
    lock: str | None = None
    baseline: str | None = None
    write_baseline: str | None = None
    sarif: str | None = None
    fail_on: Severity | None = None
    fail_on_new: bool = False

    @property
    def roots(self) -> dict[Tool, Path]:
        """What each scanner that is to run scans."""
        code = self.path or (None if self.model or self.lock else str(PROJECT_ROOT if CHECKOUT else Path.cwd()))
        roots: dict[Tool, str | None] = {"bandit": code, "model-file": self.model, "pip-audit": self.lock}
        return {tool: Path(root) for tool, root in roots.items() if root is not None}

    def check(self) -> None:
        """Refuse what is not there, is no baseline or cannot be written, before anything else; raises InputError."""
        for flag, name in (("--path", self.path), ("--model", self.model), ("--lock", self.lock)):
            if name is not None and not Path(name).exists():
                raise InputError("no such file or folder", where=f"{flag} {name}")
        if self.fail_on_new and not self.baseline:
            raise SettingError("new since when?", where="--fail-on-new", fix="give --baseline FILE")
        for name in (self.baseline, self.write_baseline if self.rewrites else None):
            if name is not None:
                read_baseline(Path(name))
        for flag, name in (("--write-baseline", self.write_baseline), ("--sarif", self.sarif)):
            if name is not None:
                check_output(name, flag)

    @property
    def rewrites(self) -> bool:
        """Whether a baseline file is written over: it must be one, and its reasons are kept."""
        return self.write_baseline is not None and Path(self.write_baseline).exists()


@dataclass(frozen=True)
class Outcome:
    """What the scanners that ran found, and what of it is new."""

    asked: Asked
    scanned: Mapping[Tool, Scanned]
    delta: Delta[Accepted, Finding]

    @property
    def findings(self) -> list[Finding]:
        """Of all scanners, the worst of each first."""
        return [finding for one in self.scanned.values() for finding in one.findings]

    @property
    def errors(self) -> list[str]:
        """What was not inspected."""
        return [error for one in self.scanned.values() for error in one.errors]

    def rows(self) -> Iterator[tuple[str, Finding | Accepted]]:
        """Every finding with its state, which is empty without a baseline."""
        for state, items in (("new", self.delta.new), ("known", self.delta.known), ("fixed", self.delta.fixed)):
            yield from ((state if self.asked.baseline else "", item) for item in items)

    @property
    def dependencies(self) -> str:
        """`checked`, `not checked: ` and why, or `not asked`."""
        audit = self.scanned.get("pip-audit")
        return audit.status if isinstance(audit, dependencies.Audit) else "not asked"

    def metrics(self) -> dict[str, float]:
        """Counts by severity, lines of code, what was not inspected, and what changed."""
        metrics: dict[str, int] = counts(self.findings)
        metrics |= {"lines": getattr(self.scanned.get("bandit"), "lines", 0), "errors": len(self.errors)}
        if self.asked.baseline:
            metrics |= {"new": len(self.delta.new), "fixed": len(self.delta.fixed)}
        return {f"scan/{name}": float(count) for name, count in metrics.items()}

    def sarif(self, with_fixed: bool = True) -> dict[str, Any]:
        """The findings as SARIF; names are seen from where the command was started."""
        errors = {tool: one.errors for tool, one in self.scanned.items()}
        below = {tool: _below(root) for tool, root in self.asked.roots.items()}
        delta = self.delta if with_fixed else replace(self.delta, fixed=())
        return sarif(delta, errors, has_baseline=bool(self.asked.baseline), below=below)

    def write(self) -> None:
        """Write the files that were asked for; raises InputError."""
        asked = self.asked
        if asked.sarif:
            # A code host that does not read baselineState would show as open what is fixed.
            write_text(Path(asked.sarif), json.dumps(self.sarif(with_fixed=False), indent=1) + "\n")
        if asked.write_baseline:
            earlier = asked.write_baseline if asked.rewrites else asked.baseline
            before = read_baseline(Path(earlier)) if earlier else None
            write_baseline(Path(asked.write_baseline), self.findings, before)

    def gate(self) -> None:
        """Raise GateError for findings that `fail_on` does not let through; with a baseline only new ones count."""
        asked = self.asked
        counted = self.delta.new if asked.baseline else self.findings
        lowest: Severity | None = "low" if asked.fail_on_new else asked.fail_on
        if lowest and (bad := at_or_above(counted, lowest)):
            first, new = bad[0], "new " if asked.baseline else ""
            where = f"{first.rule} in {first.file}, line {first.line}"
            raise GateError(f"{len(bad)} {new}findings of severity {lowest} or above, first {where}: {first.message}")

    @property
    def is_inconclusive(self) -> bool:
        """Whether a gate was asked for and something was not inspected, so that passing it says too little."""
        return bool(self.asked.fail_on or self.asked.fail_on_new) and bool(self.errors)


def scan(asked: Asked) -> Outcome:
    """Run the scanners that were asked for and compare with the baseline; raises InputError."""
    asked.check()
    before = read_baseline(Path(asked.baseline)) if asked.baseline else Baseline()
    scanned = {tool: _SCANNERS[tool](root) for tool, root in asked.roots.items()}
    findings = [finding for one in scanned.values() for finding in one.findings]
    return Outcome(asked, scanned, since(before, findings, lambda entry: _was_looked_at(entry, scanned)))


_SCANNERS: dict[Tool, Any] = {"bandit": sast.scan, "model-file": models.scan, "pip-audit": dependencies.audit}


def _was_looked_at(entry: Accepted, scanned: Mapping[Tool, Scanned]) -> bool:
    """Whether an entry that was not found again is fixed, or was only not scanned."""
    if entry.tool not in scanned:
        return False
    return not any(error.startswith(f"{entry.file}: ") for error in scanned[entry.tool].errors)


def _below(root: Path) -> str:
    """The folder that names are relative to, seen from where the command was started; empty when that is not above."""
    folder = (root if root.is_dir() else root.parent).resolve()
    here = Path.cwd()
    return folder.relative_to(here).as_posix().removeprefix(".") if folder.is_relative_to(here) else ""
