"""What scanners find: severities, fingerprints, a baseline of what was accepted, and what changed since.

>>> counts([])
{'high': 0, 'medium': 0, 'low': 0}
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gauntlet.commandline import write_text
from gauntlet.errors import InputError, SettingError

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")
Tool = Literal["bandit", "model-file", "pip-audit"]
State = Literal["new", "known", "fixed"]

UNREVIEWED = "not reviewed yet"
"""The reason that a written baseline gives for what nobody has explained."""


@dataclass(frozen=True)
class Finding:
    """One place that a rule objects to."""

    rule: str
    """Such as B301 (Bandit), GM001 (model files), PYSEC-2024-1 (pip-audit)."""
    name: str
    severity: Severity
    confidence: Severity
    file: str
    """Relative to what was scanned, with forward slashes."""
    line: int
    """0 where a file has no lines."""
    message: str
    fingerprint: str
    """SHA-256 of rule, file and content: it survives edits elsewhere in the file, and equal content shares it."""
    tool: Tool = "bandit"


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """The findings of one scanner, and what it could not inspect."""

    findings: tuple[Finding, ...] = ()
    """The worst first."""
    errors: tuple[str, ...] = ()
    """What was not inspected, each as `file: reason`: a finding may hide there."""

    def counts(self) -> dict[str, int]:
        """The number of findings of each severity, the worst first."""
        return counts(self.findings)

    def at_or_above(self, severity: str) -> tuple[Finding, ...]:
        """The findings that a gate of this severity does not let through."""
        return at_or_above(self.findings, severity)


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """The number of findings of each severity, the worst first."""
    by_severity = Counter(finding.severity for finding in findings)
    return {level: by_severity[level] for level in reversed(SEVERITIES)}


def at_or_above(findings: Iterable[Finding], severity: str) -> tuple[Finding, ...]:
    """The findings that a gate of this severity does not let through."""
    lowest = rank(severity)
    return tuple(finding for finding in findings if rank(finding.severity) >= lowest)


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The highest severity among the findings, or None when there are none."""
    return max((finding.severity for finding in findings), key=rank, default=None)


def rank(severity: str) -> int:
    """0 for the lowest severity; raises SettingError for a word that is none."""
    if severity not in SEVERITIES:
        raise SettingError(f"{severity!r} is not one of {', '.join(SEVERITIES)}", where="severity")
    return SEVERITIES.index(severity)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by file, line and rule."""
    return tuple(sorted(findings, key=lambda f: (-rank(f.severity), f.file, f.line, f.rule, f.message)))


def fingerprint(*identity: str) -> str:
    """SHA-256 of what makes a finding the same finding."""
    return hashlib.sha256("\0".join(identity).encode("utf-8", "surrogateescape")).hexdigest()


class Accepted(BaseModel):
    """A finding that was accepted, and the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    tool: Tool
    rule: str = Field(min_length=1)
    severity: Severity
    file: str
    message: str
    reason: str = Field(min_length=1)


class Baseline(BaseModel):
    """What was found before; equal findings stand in it as often as they were found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    findings: tuple[Accepted, ...] = ()


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file; raises InputError that names file, entry and field."""
    fix = "--write-baseline writes one"
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), fix=fix) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"not a baseline: {first['msg']}", where=f"{path}{place and f': {place}'}", fix=fix) from None


def write_baseline(path: Path, findings: Iterable[Finding], before: Baseline | None = None) -> Baseline:
    """Write the findings as a baseline, sorted, keeping the reasons that `before` gives; raises InputError."""
    reasons = {entry.fingerprint: entry.reason for entry in (before.findings if before else ())}
    entries = [_accepted(finding, reasons) for finding in findings]
    baseline = Baseline(findings=tuple(sorted(entries, key=lambda e: (e.file, e.tool, e.rule, e.fingerprint))))
    text = json.dumps(baseline.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_text(path, text)
    return baseline


def _accepted(finding: Finding, reasons: Mapping[str, str]) -> Accepted:
    """JSON has no lone surrogates, which stand for the bytes of a file name that is no text."""
    names = ("fingerprint", "tool", "rule", "severity", "file", "message")
    fields = {name: str(getattr(finding, name)).encode("utf-8", "backslashreplace").decode() for name in names}
    return Accepted(**fields, reason=reasons.get(finding.fingerprint, UNREVIEWED))


class Fingerprinted(Protocol):
    """A finding, or an entry of a baseline."""

    @property
    def fingerprint(self) -> str:
        """What makes two of them the same."""


Before = TypeVar("Before", bound=Fingerprinted)
After = TypeVar("After", bound=Fingerprinted)


@dataclass(frozen=True)
class Delta(Generic[Before, After]):
    """What changed from one set of findings to another."""

    new: tuple[After, ...]
    known: tuple[After, ...]
    fixed: tuple[Before, ...]


def compare(before: Iterable[Before], after: Iterable[After]) -> Delta[Before, After]:
    """Match findings by fingerprint, one to one: a second line equal to a known one is new."""
    earlier, later = tuple(before), tuple(after)
    known, new = _taken(later, Counter(item.fingerprint for item in earlier))
    _, fixed = _taken(earlier, Counter(item.fingerprint for item in later))
    return Delta(new=new, known=known, fixed=fixed)


def since(
    baseline: Baseline, findings: Iterable[Finding], looked_at: Callable[[Accepted], bool]
) -> Delta[Accepted, Finding]:
    """What changed since a baseline; what was not looked at this time is not called fixed."""
    delta = compare(baseline.findings, findings)
    return Delta(new=delta.new, known=delta.known, fixed=tuple(entry for entry in delta.fixed if looked_at(entry)))


Item = TypeVar("Item", bound=Fingerprinted)


def _taken(items: Iterable[Item], left: Counter[str]) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """The items that have a partner among `left`, and the others."""
    having: list[Item] = []
    lacking: list[Item] = []
    for item in items:
        (having if left[item.fingerprint] > 0 else lacking).append(item)
        left[item.fingerprint] -= 1
    return tuple(having), tuple(lacking)
