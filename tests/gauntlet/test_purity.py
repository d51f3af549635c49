"""What an import brings along: never the orchestration, and nothing slow for those who only read settings."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import gauntlet
from gauntlet.state import PROJECT_ROOT

MODULES = [module.name for module in pkgutil.walk_packages(gauntlet.__path__, "gauntlet.")]
EVERYTHING = [name for name in MODULES if name != "gauntlet.__main__"]  # a program, which starts the flows by name
SETTINGS = [
    "attacks",
    "backdoor.scan",
    "data.datascan",
    "data.datasets",
    "defenses.detection",
    "poisoning",
    "defenses.training",
    "evaluation.battery",
    "evaluation.clean",
    "evaluation.outcome",
    "roc",
    "gate.card",
    "gate.statistics",
    "gate.verdict",
    "models.architectures",
    "models.files",
    "privacy",
    "training.fit",
    "validity.canaries",
    "validity.checks",
]


def loaded(*names: str) -> list[set[str]]:
    """The modules that a fresh interpreter has loaded after each import of those named, in this order."""
    lines = [line for name in names for line in (f"import {name}", "print(*sys.modules)")]
    command = [sys.executable, "-c", "\n".join(["import sys", *lines])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT, timeout=120)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_the_package_knows_neither_prefect_nor_mlflow() -> None:
    modules = loaded(*EVERYTHING)[-1]
    assert modules >= {*EVERYTHING, "tensorflow", "art"}  # or nothing was imported at all
    assert not {"prefect", "mlflow", "tasks", "flows"} & modules


def test_settings_are_read_without_the_slow_libraries() -> None:
    for name, modules in zip(SETTINGS, loaded(*(f"gauntlet.{name}" for name in SETTINGS)), strict=True):
        assert f"gauntlet.{name}" in modules
        slow = {"tensorflow", "keras", "art", "sklearn", "matplotlib", "foolbox"} & modules
        assert not slow, f"{name}, or one before it, loads {slow}"
