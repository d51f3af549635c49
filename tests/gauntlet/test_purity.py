"""What an import brings along: never the orchestration, and nothing slow for those who only read settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gauntlet.state import PROJECT_ROOT

EVERYTHING = "import pkgutil, gauntlet\nnames = [f'gauntlet.{m.name}' for m in pkgutil.iter_modules(gauntlet.__path__)]"
SETTINGS = (
    "attacks",
    "models",
    "training",
    "defenses",
    "poisoning",
    "threat",
    "datasets",
    "evaluation",
    "validity",
)


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded once it has imported all of `names`."""
    script = f"{code}\nimport importlib, sys\nfor name in names: importlib.import_module(name)\nprint(*names, *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT_ROOT,
        timeout=120,
    )
    return set(done.stdout.split())


def test_the_package_knows_neither_prefect_nor_mlflow() -> None:
    modules = loaded(EVERYTHING)
    assert {
        "gauntlet.classifier",
        "gauntlet.sast",
        "tensorflow",
        "art",
    } <= modules  # or nothing was imported at all
    assert not {"prefect", "mlflow", "tasks", "flows"} & modules


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_read_without_the_slow_libraries(name: str) -> None:
    modules = loaded(f"names = ['gauntlet.{name}']")
    assert f"gauntlet.{name}" in modules
    assert not {"tensorflow", "keras", "art", "sklearn", "matplotlib", "foolbox"} & modules
