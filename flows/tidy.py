"""Take per-image artifacts from old runs; verdicts, cards, measurements and promoted evidence stay. Shows first."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from gauntlet.commandline import Parser
from gauntlet.errors import GauntletError, one_line
from gauntlet.quiet import hush
from gauntlet.state import tracking_uri

if TYPE_CHECKING:
    from tasks.store.tidying import Old

UNITS = {"d": 1, "w": 7}
LONGEST = 36_500
"""Days."""


def days(text: str) -> timedelta:
    """`90d` or `12w` for argparse."""
    match = re.fullmatch(r"(\d{1,6})([dw])", text)
    span = int(match[1]) * UNITS[match[2]] if match else 0
    if not 1 <= span <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no time to keep: 90d, 12w")
    return timedelta(days=span)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = Parser("gauntlet tidy", description=__doc__)
    parse.add_argument("--keep", type=days, required=True, metavar="DAYS", help="runs that ended since: 90d, 12w")
    parse.add_argument("--delete", action="store_true", help="do it (default: show what would go)")
    parse.add_argument("--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else the project's own)")
    return parse


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 0 shown or done, 1 the store failed, 2 the user's input."""
    options = parser().parse_args(words)
    hush()
    try:
        uri = tracking_uri(options.tracking_uri)
        # Imported here because MLflow takes seconds, and `--help` needs none of it.
        from tasks.store import connection, tidying

        connection.connect(uri)
        old = tidying.old(options.keep)
        for one in old:
            print(line(one))
            if options.delete:
                tidying.remove(one)
    except GauntletError as error:
        print(f"{'error' if error.exit_status == 2 else 'failed'}: {one_line(error)}", file=sys.stderr)
        return error.exit_status
    print(summary(old, options.delete))
    return 0


def line(one: Old) -> str:
    """A run in a line."""
    return f"{one.ended:%Y-%m-%d}  {one.run_id}  {one.size / 1e6:8.2f} MB  {one.name}: {', '.join(one.files)}"


def summary(old: Sequence[Old], done: bool) -> str:
    """What went, or would."""
    files, size = sum(len(one.files) for one in old), sum(one.size for one in old)
    what = f"{len(old)} runs, {files} artifacts, {size / 1e6:.2f} MB"
    return f"removed: {what}" if done else f"would go: {what} (--delete does it)"


if __name__ == "__main__":
    sys.exit(main())
