"""Print a completion script for bash, zsh or tcsh: `gauntlet completion bash`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from flows.cli import COMMANDS, summary
from flows.command import add_flags, declared
from gauntlet.commandline import Parser


def parser() -> argparse.ArgumentParser:
    """Every command as a subcommand with its flags."""
    root = argparse.ArgumentParser("gauntlet")
    commands = root.add_subparsers(dest="command")
    for name, module in COMMANDS.items():
        below = commands.add_parser(name, help=summary(module))
        importlib.import_module(module)
        if command := declared(module):
            add_flags(below, command)
    return root


def main(words: Sequence[str] | None = None) -> int:
    """Print the script; 2 for a shell that is not known."""
    import shtab

    choose = Parser("gauntlet completion", description=__doc__)
    choose.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    print(shtab.complete(parser(), choose.parse_args(words).shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
