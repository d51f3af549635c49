"""Run the checks of a threat model: the evidence, its place, and how to see it again.

What was not checked never counts as passed: no run yet, a test that does not exist or was skipped, a file that Bandit
could not read are `missing`, never `passed`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import yaml

from gauntlet.assurance.scan import sast
from gauntlet.assurance.stride import pytests
from gauntlet.assurance.stride.processes import run
from gauntlet.assurance.stride.threat_model import (
    Check,
    CommandCheck,
    MetricCheck,
    ScanCheck,
    SettingCheck,
    TagCheck,
    TestCheck,
)
from gauntlet.errors import InputError
from gauntlet.progress import Progress, silent
from gauntlet.state import PROJECT_ROOT

Outcome = Literal["passed", "failed", "missing"]


@dataclass(frozen=True)
class Evidence:
    """What a check found."""

    kind: str
    says: str
    """What was checked, in a few words."""
    outcome: Outcome
    detail: str
    """What was found, on one line."""
    link: str = ""
    """Where to look: `file:line`, a test, or the path of a run's page in MLflow."""


@dataclass(frozen=True)
class Ran:
    """A finished run of the tracking store."""

    id: str
    page: str
    """The address of its page, or its path below the server's."""
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    when: str = ""

    def __str__(self) -> str:
        """The run in a few words."""
        facts = (f"run {self.id[:8]}", self.tags.get("gauntlet.dataset", ""), self.when)
        return ", ".join(fact for fact in facts if fact)


Runs = Callable[[Mapping[str, str]], Ran | None]
"""The newest finished run with these `gauntlet.` tags."""


def evidence(check: Check, outcome: Outcome, detail: str, link: str = "") -> Evidence:
    """What a check found."""
    return Evidence(check.kind, str(check), outcome, detail, link)


def gather(
    checks: Iterable[Check], runs: Runs, root: Path = PROJECT_ROOT, store: str = "", progress: Progress = silent
) -> dict[Check, Evidence]:
    """Make every check; `runs` finds runs, `root` is where files, tests and commands are, `store` what commands use."""
    todo, gatherer, gathered = list(checks), _Gatherer(runs, root, store), {}
    tests = [check for check in todo if isinstance(check, TestCheck)]
    others = [check for check in todo if not isinstance(check, TestCheck)]
    for number, check in enumerate(others):
        progress(check.kind, 0.4 * number / len(others))
        gathered[check] = gatherer.made(check)
    progress("tests", 0.4)
    return gathered | _tests(tests, root)


@dataclass
class _Gatherer:
    runs: Runs
    root: Path
    store: str
    scans: dict[str, sast.ScanResult] = field(default_factory=dict)

    def made(self, check: Check) -> Evidence:
        """The evidence of any check but a test, which are all run together."""
        make: Callable[[Any], Evidence] = getattr(self, check.kind)
        return make(check)

    def metric(self, check: MetricCheck) -> Evidence:
        return of_run(check, self.runs(check.wanted))

    def tag(self, check: TagCheck) -> Evidence:
        return of_run(check, self.runs(check.wanted))

    def setting(self, check: SettingCheck) -> Evidence:
        return setting(check, self.root)

    def scan(self, check: ScanCheck) -> Evidence:
        try:
            if check.path not in self.scans:
                self.scans[check.path] = sast.scan(self.root / check.path)
        except InputError as error:
            return evidence(check, "missing", error.what, check.path)
        return scanned(check, self.scans[check.path])

    def command(self, check: CommandCheck) -> Evidence:
        return command(check, self.root, self.store)


def of_run(check: MetricCheck | TagCheck, ran: Ran | None) -> Evidence:
    """The evidence that a run gives."""
    if ran is None:
        return evidence(check, "missing", "no such run yet")
    return _metric(check, ran) if isinstance(check, MetricCheck) else _tag(check, ran)


def _metric(check: MetricCheck, ran: Ran) -> Evidence:
    if check.metric not in ran.metrics:
        return evidence(check, "missing", f"{ran} did not log it", ran.page)
    value = ran.metrics[check.metric]
    low, high = (ran.metrics.get(f"{check.metric}_{end}", value) for end in ("low", "high"))
    interval = f" [{low:.4g}, {high:.4g}]" if low != high else ""
    # An interval that holds no number holds nothing.
    outcome: Outcome = "passed" if check.holds(low, high) else "failed"
    return evidence(check, outcome, f"{value:.4g}{interval} in {ran}", ran.page)


def _tag(check: TagCheck, ran: Ran) -> Evidence:
    value = ran.tags.get(check.tag)
    if value is None:
        return evidence(check, "missing", f"{ran} has no such tag", ran.page)
    absent = check.nothing is not None and value.startswith(check.nothing)
    outcome: Outcome = "missing" if absent else "passed" if check.equals in (None, value) else "failed"
    shown = value if len(value) <= 32 else f"{value[:16]}…"
    return evidence(check, outcome, f"{shown!r} in {ran}", ran.page)


def scanned(check: ScanCheck, result: sast.ScanResult) -> Evidence:
    """The evidence that a scan gives."""
    bad = [f for f in result.at_or_above(check.severity) if not check.rules or f.rule in check.rules]
    if bad:
        first, more = bad[0], f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        place = f"{first.file}:{first.line}"
        return evidence(check, "failed", f"{first.rule} ({first.name}, {first.severity}) at {place}{more}", place)
    if result.errors:
        return evidence(check, "missing", f"not scanned: {result.errors[0]}", check.path)
    counts = f"{result.files} files, {result.lines:,} lines, {result.suppressed} suppressed"
    return evidence(check, "passed", f"none in {counts}", "" if check.path == "." else check.path)


def setting(check: SettingCheck, root: Path = PROJECT_ROOT) -> Evidence:
    """A value read back from our code or from a file."""
    try:
        value, link = _attribute(check.attribute) if check.attribute else _key(root, str(check.file), str(check.key))
    except _Absent as absent:
        return evidence(check, "missing", str(absent))
    holds = _is_number(value) and check.holds(value, value) if check.bounds else _same(value, check.equals)
    said = "read back" if holds and not check.bounds else f"is {str(value)[:80]!r}"
    return evidence(check, "passed" if holds else "failed", said, link)


class _Absent(Exception):
    """There is nothing of this name."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(value: Any, expected: Any) -> bool:
    """Equal, where 1 is not True, and a list is the tuple of its items."""
    if isinstance(value, list | tuple) and isinstance(expected, tuple):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return isinstance(value, bool) == isinstance(expected, bool) and bool(value == expected)


def _attribute(name: str) -> tuple[Any, str]:
    """The value of a dotted name, and where it is written."""
    parts = name.split(".")
    module, rest = _module(parts)
    value: Any = module
    for part in rest:
        value = _step(value, part, name)
    source = Path(inspect.getsourcefile(module) or "")
    return value, _place(source, rest, source.read_text(encoding="utf-8"))


def _module(parts: list[str]) -> tuple[ModuleType, list[str]]:
    """The innermost module of a dotted name, and what is left of the name."""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            return importlib.import_module(name), parts[end:]
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):  # a module of ours that lacks one of others
                raise _Absent(f"{name} cannot be imported: {error}") from error
    raise _Absent(f"no module {parts[0]}")


def _step(value: Any, part: str, name: str) -> Any:
    if isinstance(value, Mapping) and part in value:
        return value[part]
    if isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    if not isinstance(value, Mapping | list | tuple) and hasattr(value, part):
        return getattr(value, part)
    raise _Absent(f"{name}: there is no {part}")


def _key(root: Path, file: str, key: str) -> tuple[Any, str]:
    """The value of a key in a file, and where it is written."""
    try:
        text = (root / file).read_text(encoding="utf-8")
        value: Any = READERS[Path(file).suffix](text)
    except KeyError:
        raise _Absent(f"{file}: only {', '.join(READERS)} are read") from None
    except (OSError, ValueError, SyntaxError, yaml.YAMLError) as error:
        reason = (getattr(error, "strerror", None) or type(error).__name__).lower()
        raise _Absent(f"{file} cannot be read: {reason}") from error
    for part in key.split("."):
        value = _step(value, part, f"{file}: {key}")
    return value, _place(Path(file), key.split("."), text)


def _constants(text: str) -> dict[str, Any]:
    """The constants of a Python file, which is not run: assignments of literals at its top."""
    values = {}
    for statement in ast.parse(text).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(statement, ast.Assign | ast.AnnAssign):
                try:
                    values[target.id] = ast.literal_eval(statement.value or ast.Constant(None))
                except ValueError:
                    continue
    return values


READERS: dict[str, Callable[[str], Any]] = {
    ".yaml": yaml.safe_load,
    ".toml": tomllib.loads,
    ".py": _constants,
}


def _place(file: Path, names: Sequence[str], text: str) -> str:
    """`file:line` of the innermost name that is assigned there; the file alone where that could be an item's."""
    shown = file.relative_to(PROJECT_ROOT) if file.is_relative_to(PROJECT_ROOT) else file
    if any(name.isdigit() for name in names):
        return shown.as_posix()
    for name in reversed(names):
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*[:=]", line):
                return f"{shown.as_posix()}:{number}"
    return shown.as_posix()


def command(check: CommandCheck, root: Path = PROJECT_ROOT, store: str = "") -> Evidence:
    """A command of ours, run to its end."""
    try:
        there = importlib.util.find_spec(check.module) is not None
    except ModuleNotFoundError:
        there = False
    if not there:
        return evidence(check, "missing", f"no module {check.module}")
    words, environment = [sys.executable, *check.command[1:]], {"MLFLOW_TRACKING_URI": store} if store else {}
    ended = run(words, root, check.timeout, os.environ | environment)
    if ended.status is None:
        return evidence(check, "failed", f"had not ended after {check.timeout:g} s")
    outcomes: dict[int | None, Outcome] = {check.nothing: "missing", check.exit_status: "passed"}
    outcome = outcomes.get(ended.status, "failed")
    return evidence(check, outcome, f"exit status {ended.status}: {ended.last_line[:160] or 'said nothing'}")


def _tests(checks: Sequence[TestCheck], root: Path) -> dict[Check, Evidence]:
    """All tests in one pytest, then each check's own."""
    present = [check for check in checks if pytests.exists(root, check.test)]
    done = pytests.run([check.test for check in present], root)
    absent: dict[Check, Evidence] = {check: evidence(check, "missing", f"no {check.test}") for check in checks}
    return absent | {check: tested(check, done) for check in present}


def tested(check: TestCheck, done: pytests.Done) -> Evidence:
    """The evidence that a run of pytest gives of one test, file or folder."""
    if done.problem:
        return evidence(check, "failed" if done.started else "missing", done.problem)
    mine = [result for result in done.results if result.is_of(check.test)]
    if not mine:
        return evidence(check, "missing", f"nothing was run of {check.test}")
    outcomes: dict[str, Outcome] = {"failed": "failed", "skipped": "missing"}
    for name, outcome in outcomes.items():
        if several := [result for result in mine if result.outcome == name]:
            said = f"{len(several)} of {len(mine)} {name}: {several[0].name}"
            return evidence(check, outcome, said, several[0].place)
    return evidence(check, "passed", f"{len(mine)} passed", mine[0].place)
