"""`gauntlet NAME ...`: every command, in groups. For a flow, `python -m flows.NAME ...` is the same.

A command is a module that is run as a program, so nothing is imported that it does not need.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from gauntlet.commandline import INTERRUPTED
from gauntlet.errors import meant
from gauntlet.state import state_dir, tracking_uri

STAGES = ("train", "attack", "poison", "defend", "detect", "privacy")
GROUPS = {
    "Whole jobs": {"run": "flows.suite", "nightly": "flows.nightly", "reproduce": "flows.reproduce"},
    "One stage": {name: f"flows.{name}" for name in STAGES},
    "Scans": {name: f"flows.{name}" for name in ("scan", "datascan", "backdoor", "audit")},
    "Servers": {"serve": "mlflow_server.serve", "mlflow": "mlflow_server.__main__"},
    "The store": {"move-store": "flows.movestore", "tidy": "flows.tidy"},
    "Shell": {"completion": "flows.completion"},
}
"""What each command runs, by the group that it is listed in."""
COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}
ELSEWHERE = {
    "certify": "attack --certify NAME",
    "compare": "nightly, or run",
    "evaluate": "attack",
    "suite": "run",
}
"""What people look for under other names."""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; without one, list all. Returns 0, or 2 for an unknown command; a command exits by itself."""
    try:
        return _run(words)
    except KeyboardInterrupt:  # while a command is imported, which takes a second
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _run(words: Sequence[str] | None) -> int:
    name, *rest = (sys.argv[1:] if words is None else words) or ["help"]
    if name in ("help", "--help", "-h"):
        print(listing())
    elif name == "--version":
        print(f"gauntlet {version()}")
    elif name in COMMANDS:
        sys.argv = [f"gauntlet {name}", *rest]
        # altered, since pydantic looks for a class's annotations in the module that its name says
        runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
    else:
        hint = meant(name, {each: each for each in COMMANDS} | ELSEWHERE)
        print(f"error: no command {name[:60]!a}{hint}; `gauntlet` lists all", file=sys.stderr)
        return 2
    return 0


def listing() -> str:
    """Every command with one line on what it does, and where things are kept."""
    lines = ["usage: gauntlet COMMAND [--help]", ""]
    for title, commands in GROUPS.items():
        lines += [title, *(f"  {name:<11} {summary(module)}" for name, module in commands.items()), ""]
    return "\n".join([*lines, f"State: {state_dir()} (GAUNTLET_STATE moves it)", f"Store: {tracking_uri()}"])


def summary(module: str) -> str:
    """The first line of a module's docstring, read without importing the module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def version() -> str:
    """Of the installed package; "checkout" where none is installed."""
    try:
        return importlib.metadata.version("gauntlet-robustness")
    except importlib.metadata.PackageNotFoundError:
        return "checkout"


if __name__ == "__main__":
    sys.exit(main())
