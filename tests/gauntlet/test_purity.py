"""What an import brings along: never the orchestration, and nothing slow for those who only read settings."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

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


def loaded(*names: str) -> set[str]:
    """The modules that a fresh interpreter has loaded once it has imported those named."""
    script = f"import {', '.join(names)}, sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT, timeout=120)
    return set(done.stdout.split())


def test_the_package_knows_neither_prefect_nor_mlflow() -> None:
    modules = loaded(*EVERYTHING)
    assert modules >= {*EVERYTHING, "tensorflow", "art"}  # or nothing was imported at all
    assert not {"prefect", "mlflow", "tasks", "flows"} & modules


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_read_without_the_slow_libraries(name: str) -> None:
    modules = loaded(f"gauntlet.{name}")
    assert f"gauntlet.{name}" in modules
    assert not {"tensorflow", "keras", "art", "sklearn", "matplotlib", "foolbox"} & modules
