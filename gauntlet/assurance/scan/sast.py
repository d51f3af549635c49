"""Static analysis of Python code: Bandit's report to findings that can be counted, gated and compared.

>>> result = parse({"results": [], "errors": [], "metrics": {"_totals": {"loc": 12}, "a.py": {"loc": 12}}})
>>> result.counts(), result.files, result.lines
({'high': 0, 'medium': 0, 'low': 0}, 1, 12)
"""

from __future__ import annotations

import linecache
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from gauntlet.assurance.scan.findings import SEVERITIES, Finding, Scanned, Severity, by_severity, fingerprint
from gauntlet.errors import InputError, SettingError
from gauntlet.state import PROJECT_ROOT

# Folders that hold other people's code or none at all. Whole names: a module `state.py` is still scanned.
SKIPPED_FOLDERS = (".git", ".tox", ".venv", ".venv-*", "__pycache__", "node_modules", "site-packages", "venv")
# Where runs are kept, at the top only: further down it is as good a name for a package as any.
SKIPPED_AT_TOP = ("state",)
SUFFIXES = (".py", ".pyw")


@dataclass(frozen=True, kw_only=True)
class ScanResult(Scanned):
    """What Bandit found, and the files that it could not scan."""

    lines: int
    files: int
    report: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Bandit's own report, file names relative to what was scanned."""
    suppressed: int = 0
    """Findings and lines that a `# nosec` in the scanned code took out."""


def scan(path: Path, config: Path | None = None) -> ScanResult:
    """Scan a file or everything below a folder; raise InputError when there is nothing to scan.

    `config` is a pyproject.toml with `[tool.bandit]` or a YAML file. Without one the project's own settings
    hold for the project's own code, and none for any other: code under test must not silence its judge.
    """
    if not path.exists():
        raise InputError("no such file or folder", where=str(path))
    root = path.resolve()
    settings = _settings(config or _own_config(root))
    unreadable: list[str] = []
    files = [root] if root.is_file() else _discover(root, settings, unreadable)
    if not any(file.suffix in SUFFIXES for file in files):
        raise InputError("no Python files to scan", where=str(path))
    report = _run(settings, files)
    report["errors"] += [{"filename": folder, "reason": "cannot be read"} for folder in unreadable]
    return parse(report, root=root.parent if root.is_file() else root)


def _own_config(root: Path) -> Path | None:
    own = PROJECT_ROOT / "pyproject.toml"
    return own if root.is_relative_to(PROJECT_ROOT) and own.is_file() else None


def _settings(config: Path | None) -> Any:
    # Bandit loads its plugins on import, and complains of those whose packages are not installed.
    with _silence():
        from bandit.core.config import BanditConfig
        from bandit.core.utils import ConfigError

    try:
        with _silence():
            return BanditConfig(str(config) if config else None)
    except ConfigError as error:
        raise SettingError(str(error), where=str(config)) from error


def _discover(root: Path, settings: Any, unreadable: list[str]) -> list[Path]:
    """All Python files below a folder.

    Not Bandit's own search: that one compares excluded names with any part of the absolute path, so that
    "state" would also exclude `gauntlet/state.py`, and a checkout below `/tests/` would be scanned as empty.
    """
    excluded = settings.get_option("exclude_dirs") or []
    discovered = []
    for folder, names, files in os.walk(root, onerror=lambda error: unreadable.append(error.filename)):
        skipped = SKIPPED_FOLDERS + (SKIPPED_AT_TOP if folder == str(root) else ())
        names[:] = sorted(name for name in names if not any(fnmatch(name, pattern) for pattern in skipped))
        discovered += [Path(folder, name) for name in sorted(files) if name.endswith(SUFFIXES)]
    return [file for file in discovered if not _is_excluded(f"./{file.relative_to(root).as_posix()}", excluded)]


def _is_excluded(path: str, patterns: Sequence[str]) -> bool:
    """Bandit's rule for its setting `exclude_dirs`, on the path below the scanned folder."""
    return any(fnmatch(path, pattern) or pattern in path for pattern in patterns)


def _run(settings: Any, files: Sequence[Path]) -> dict[str, Any]:
    """Let Bandit judge the files; the answer has the shape of its JSON report."""
    from bandit.core.manager import BanditManager

    profile = {
        "include": set(settings.get_option("tests") or []),
        "exclude": set(settings.get_option("skips") or []),
    }
    with _silence():
        manager = BanditManager(settings, "file", profile=profile)
        manager.files_list = [str(file) for file in files]
        manager.run_tests()
        # Bandit takes the code from this cache, which would show a file as it was at an earlier scan.
        linecache.checkcache()
        results = [issue.as_dict() for issue in manager.get_issue_list()]
    errors = [{"filename": name, "reason": reason} for name, reason in manager.get_skipped()]
    return {"results": results, "errors": errors, "metrics": manager.metrics.data}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Bandit's log, its progress bar and the compiler's warnings about scanned code to themselves."""
    loggers = [logging.getLogger(name) for name in ("bandit", "stevedore")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def parse(report: Mapping[str, Any], root: Path | None = None) -> ScanResult:
    """Read a report that Bandit wrote as JSON; file names are made relative to `root`."""
    try:
        findings = [_finding(result, root) for result in report["results"]]
        errors = [f"{_relative(error['filename'], root)}: {error['reason']}" for error in report["errors"]]
        metrics = report["metrics"]
        total = metrics["_totals"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a JSON report of Bandit: {error!r}", where="report") from error
    return ScanResult(
        findings=by_severity(findings),
        lines=int(total["loc"]),
        # A file that could not be parsed is in the metrics, but it was not scanned.
        files=len(metrics.keys() - {"_totals"} - {error["filename"] for error in report["errors"]}),
        errors=tuple(sorted(errors)),
        report=_relative_report(report, root),
        suppressed=int(total.get("nosec", 0)) + int(total.get("skipped_tests", 0)),
    )


def _finding(result: Mapping[str, Any], root: Path | None) -> Finding:
    file = _relative(result["filename"], root)
    return Finding(
        rule=result["test_id"],
        name=result["test_name"],
        severity=_level(result["issue_severity"]),
        confidence=_level(result["issue_confidence"]),
        file=file,
        line=int(result["line_number"]),
        message=result["issue_text"],
        fingerprint=fingerprint(result["test_id"], file, _code(result)),
    )


def _level(word: str) -> Severity:
    """Bandit's word in ours; a finding whose plugin says UNDEFINED must not vanish, so it is low."""
    return next((level for level in SEVERITIES if level == word.lower()), "low")


def _code(result: Mapping[str, Any]) -> str:
    """The lines the finding is about, without their numbers, their neighbours and their spacing."""
    numbered = re.findall(r"^(\d+)[ \t](.*)$", result.get("code", ""), flags=re.MULTILINE)
    wanted = {int(number) for number in result.get("line_range") or [result["line_number"]]}
    return " ".join(" ".join(text for number, text in numbered if int(number) in wanted).split())


def _relative_report(report: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    """The report without the folders above what was scanned."""
    entries = {
        key: [{**entry, "filename": _relative(entry["filename"], root)} for entry in report[key]]
        for key in ("results", "errors")
    }
    return {
        **entries,
        "metrics": {_relative(name, root): counts for name, counts in report["metrics"].items()},
    }


def _relative(name: str, root: Path | None) -> str:
    path = Path(name)
    return (path.relative_to(root) if root and path.is_relative_to(root) else path).as_posix()
