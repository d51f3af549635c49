"""The order of the rooms: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {
    "errors", "measurement", "threat", "limits", "declare", "state", "checkpoint", "progress", "quiet", "roc",
    "yamlfile", "commandline",
}  # fmt: skip
LEVELS = [
    GROUND,
    {"data", "assurance"},
    {"models"},
    {"attacks", "training", "certify"},
    {"evaluation", "poisoning", "backdoor"},
    {"defenses"},
    {"validity", "privacy", "studies"},
    {"report"},
    {"gate"},
    {"api"},
    {"maite"},
]
"""Rooms of `gauntlet/` from the ground up: a room imports from lower levels, and the ground from itself."""
LEVEL = {room: height for height, rooms in enumerate(LEVELS) for room in rooms}
PACKAGES = {"gauntlet": {"gauntlet"}, "tasks": {"gauntlet", "tasks"}, "flows": {"gauntlet", "tasks", "flows"}}
SOURCES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """Every module, or name of one, that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    mine = path.parts[1].removesuffix(".py")
    for module in imported(path):
        package = module.split(".")[0]
        if package in PACKAGES:
            assert package in PACKAGES[path.parts[0]], f"{path} imports {module}"
        if package == path.parts[0] == "gauntlet" and mine not in ("__init__", room(module)):
            below = LEVEL[room(module)] < LEVEL[mine] or {mine, room(module)} <= GROUND
            assert below, f"{mine} may not import {room(module)}"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parts[:2] != ("tasks", "store")], ids=str)
def test_only_the_store_talks_to_mlflow(path: Path) -> None:
    assert "mlflow" not in {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("package", ["gauntlet", "tasks"])
def test_no_modules_import_each_other(package: str) -> None:
    paths = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
    graph = {
        module: {name if name in paths else name.rpartition(".")[0] for name in imported(path)}
        for module, path in paths.items()
        if path.parts[0] == package
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
