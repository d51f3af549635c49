"""`gauntlet`: one command for everything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flows import cli
from tests.processes import typed

ROOT = Path(__file__).parents[2]
NO_COMMANDS = {"cli", "command", "local", "night", "nights", "one_night", "problems", "settings", "threats"}
"""Modules of `flows/` that are no commands."""


def test_every_flow_is_a_command_with_a_summary() -> None:
    modules = {path.stem for path in (ROOT / "flows").glob("[a-z]*.py")} - NO_COMMANDS
    assert {f"flows.{name}" for name in modules} <= set(cli.COMMANDS.values())
    assert all(cli.summary(module).endswith((".", ":", "`.")) for module in cli.COMMANDS.values())


def test_alone_it_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.COMMANDS)
    assert "State: " in shown


MEANT = {"atack": "attack", "night": "nightly", "certify": "attack --certify NAME", "suite": "run", "xyz": ""}


@pytest.mark.parametrize(("typed", "meant"), MEANT.items())
def test_an_unknown_command_is_one_line(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([typed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert typed in line
    assert (f"did you mean {meant}?" in line) == bool(meant)


def test_a_command_is_run_with_its_flags() -> None:
    names = ["run", "nightly", "reproduce", *cli.STAGES, "scan", "datascan", "backdoor"]
    for name, done in zip(names, typed([["flows", name, "--seed", "x"] for name in names]), strict=True):
        assert done.status == 2, name
        assert done.err.startswith("error: --seed: Input should be a valid integer"), name


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    from flows.completion import main

    assert main(["bash"]) == 0
    script = capsys.readouterr().out
    assert " nightly " in script
    assert " --eps " in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
