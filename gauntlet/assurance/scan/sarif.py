"""Findings as SARIF 2.1.0 (OASIS), with what GitHub's code scanning needs: rules, locations, fingerprints.

One run per tool. `baselineState` is set only when there was a baseline: `new`, `unchanged`, and `absent` for what was
fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from gauntlet.assurance.scan.findings import Accepted, Delta, Finding, Severity, Tool
from gauntlet.assurance.scan.models.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT = "gauntlet/v1"
"""Not `primaryLocationLineHash`: GitHub computes that one itself and objects to others' values."""
_LEVELS: dict[Severity, str] = {"high": "error", "medium": "warning", "low": "note"}
_SCORES: dict[Severity, str] = {"high": "8.0", "medium": "5.0", "low": "2.0"}
"""GitHub shows 7.0 to 8.9 as high, 4.0 to 6.9 as medium, below as low."""
_HOMES: dict[Tool, str] = {
    "bandit": "https://bandit.readthedocs.io",
    "model-file": "https://docs.python.org/3/library/pickletools.html",
    "pip-audit": "https://pypi.org/project/pip-audit",
}

Found = Finding | Accepted


def sarif(
    delta: Delta[Accepted, Finding],
    errors: Mapping[Tool, Iterable[str]],
    *,
    has_baseline: bool,
    below: Mapping[Tool, str] | None = None,
) -> dict[str, Any]:
    """A SARIF log of the tools that ran, which are the keys of `errors` (what each could not inspect).

    `below` is, by tool, the folder from the repository's root to what was scanned.
    """
    states: list[tuple[str, tuple[Found, ...]]] = [
        ("new", delta.new),
        ("unchanged", delta.known),
        ("absent", delta.fixed),
    ]
    rows = [(state if has_baseline else None, item) for state, items in states for item in items]
    runs = [
        _run(tool, [pair for pair in rows if pair[1].tool == tool], failed, (below or {}).get(tool, ""))
        for tool, failed in errors.items()
    ]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def _run(tool: Tool, rows: list[tuple[str | None, Found]], errors: Iterable[str], below: str) -> dict[str, Any]:
    rules = {item.rule: item for _, item in rows}
    numbers = {rule: number for number, rule in enumerate(sorted(rules))}
    notes = [{"level": "error", "message": {"text": error}} for error in errors]
    return {
        "tool": {
            "driver": {
                "name": f"gauntlet {tool}",
                "informationUri": _HOMES[tool],
                "rules": [_rule(rules[rule]) for rule in numbers],
            }
        },
        "automationDetails": {"id": f"gauntlet/{tool}/"},
        "invocations": [{"executionSuccessful": not notes, "toolExecutionNotifications": notes}],
        "results": [_result(item, state, numbers[item.rule], below) for state, item in rows],
    }


def _rule(finding: Found) -> dict[str, Any]:
    """A rule, described by the table where it is ours, else by its first finding."""
    known = RULES.get(finding.rule)
    text = f"{known.message} ({known.source})" if known else finding.message
    return {
        "id": finding.rule,
        "name": known.name if known else getattr(finding, "name", finding.rule),
        "shortDescription": {"text": text},
        "fullDescription": {"text": text},
        "help": {"text": text},
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
        "properties": {"security-severity": _SCORES[finding.severity], "tags": ["security"]},
    }


def _result(finding: Found, state: str | None, rule: int, below: str) -> dict[str, Any]:
    uri = quote(f"{below}/{finding.file}" if below else finding.file)
    # A file without lines is shown at its first: GitHub refuses a location that has none.
    region = {"startLine": max(1, getattr(finding, "line", 1))}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
        "partialFingerprints": {FINGERPRINT: finding.fingerprint},
    } | ({"baselineState": state} if state else {})
