"""What every command line shares: a mistake is one line and status 2, and a file is written whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from gauntlet.errors import InputError, SettingError, meant, one_line

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the signal's number (2)."""
TERMINATED = 143
"""The same after SIGTERM (15)."""


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, like all other mistakes, without its whole usage."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual; a flag that there is not is named with the one that was probably meant."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            flags = list(self._option_string_actions) if rest[0].startswith("-") else []
            self.error(f"unrecognized arguments: {' '.join(rest)}{meant(rest[0].partition('=')[0], flags)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Say it and exit 2."""
        print(f"error: {one_line(message, 400)} (see --help)", file=sys.stderr)
        sys.exit(2)


def check_output(name: str, flag: str) -> None:
    """`SettingError` unless a file can be written there, before any work is done for it; nothing is left behind."""
    path = Path(name)
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except (OSError, ValueError) as error:  # the latter of a NUL
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        fix = "name a file in a folder that is there"
        raise SettingError(f"cannot be written: {reason}", where=f"{flag} {one_line(name, 300)}", fix=fix) from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises InputError."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"cannot be written: {error.strerror}", where=one_line(path)) from error
