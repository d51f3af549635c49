"""One night of a list, in a process of its own: `python -m flows.one_night` reads its settings from standard input."""

from __future__ import annotations

import sys

from flows import nightly
from flows.command import declared, perform
from flows.night import NightlyConfig


def main() -> None:
    """Run it, and exit with the night's status."""
    command = declared(nightly.__name__)
    if command is not None:
        perform(command, lambda: NightlyConfig.model_validate_json(sys.stdin.read()))


if __name__ == "__main__":
    main()
