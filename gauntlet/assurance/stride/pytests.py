"""Tests as evidence: some nodes run in one pytest of their own, the result of each read from its JUnit report."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from defusedxml.ElementTree import parse

from gauntlet.assurance.stride.processes import Ended
from gauntlet.assurance.stride.processes import run as run_command

TIMEOUT = 1_800.0
"""Seconds for all of them together."""
NOT_OURS = ("PREFECT_", "MLFLOW_", "GAUNTLET_STATE", "PYTEST_")
"""The tests make servers and stores of their own."""
USAGE_ERROR = 4


@dataclass(frozen=True)
class Result:
    """One test of pytest's: with parameters, one set of them."""

    node: str
    """`file::Class::test`, without parameters; the file alone when it could not be collected."""
    name: str
    outcome: Literal["passed", "failed", "skipped"]
    place: str
    """`file:line`"""

    def is_of(self, asked: str) -> bool:
        """Whether it is the test asked for, or one of the file or folder asked for."""
        inside = self.node == asked or self.node.startswith((f"{asked}::", f"{asked}/"))
        return inside or asked.startswith(f"{self.node}::")


@dataclass(frozen=True)
class Done:
    """A run of pytest: its results, or why there are none."""

    results: tuple[Result, ...] = ()
    problem: str = ""
    started: bool = True


def exists(root: Path, node: str) -> bool:
    """Whether a node is there: a folder, a file, or a function or class of a file; nothing is imported."""
    file, _, inside = node.partition("::")
    path = root / file
    if not inside:
        return path.exists()
    try:
        scope: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return False
    for name in inside.split("::"):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        definitions = [d for d in getattr(scope, "body", []) if isinstance(d, kinds) and d.name == name]
        if not definitions:
            return False
        scope = definitions[-1]
    return True


def run(nodes: Sequence[str], root: Path, timeout: float = TIMEOUT) -> Done:
    """Run nodes that exist; files that cannot be collected count as failed and do not keep the others from running."""
    if not nodes:
        return Done()
    if importlib.util.find_spec("pytest") is None:
        return Done(problem="pytest is not installed (requirements-dev.txt)", started=False)
    done, ended = _once(nodes, root, timeout)
    if done.results and ended.status == USAGE_ERROR:
        broken = {result.node for result in done.results if "::" not in result.node}
        rest = [node for node in nodes if node.partition("::")[0] not in broken]
        again = _once(rest, root, timeout)[0] if rest else Done()
        return Done((*done.results, *again.results), again.problem)
    return done


def _once(nodes: Sequence[str], root: Path, timeout: float) -> tuple[Done, Ended]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "junit.xml")
        options = ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
        options += ["-o", "junit_family=xunit1", f"--junitxml={report}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
        ended = run_command([sys.executable, "-m", "pytest", *options, *nodes], root, timeout, environment)
        if ended.status is None:
            return Done(problem=f"pytest had not ended after {timeout:g} s"), ended
        if not report.is_file():
            return Done(problem=f"pytest gave no report: {ended.last_line[:160]}"), ended
        return Done(_results(report)), ended


def _results(report: Path) -> tuple[Result, ...]:
    return tuple(_result(case) for case in parse(report).iter("testcase"))


def _result(case: Any) -> Result:
    file, name, tags = case.get("file", ""), case.get("name", ""), {child.tag for child in case}
    module = file.removesuffix(".py").replace("/", ".")
    classes = [part for part in case.get("classname", "").removeprefix(module).split(".") if part]
    # A file that could not be collected is a case without a class whose name is the module's.
    node = "::".join([file, *classes, name.partition("[")[0]]) if name != module else file
    outcome: Literal["passed", "failed", "skipped"] = (
        "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
    )
    place = f"{file}:{int(case.get('line')) + 1}" if case.get("line") else file
    return Result(node, name, outcome, place)
