"""Move a folder's runs, models and artifacts to a server's Postgres and bucket, verified by digest; it can go on."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from gauntlet.commandline import Parser
from gauntlet.errors import GauntletError, SettingError, one_line
from gauntlet.quiet import hush


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = Parser("gauntlet move-store", description=__doc__)
    parse.add_argument("source", metavar="FROM", help="a state folder, or sqlite:////FOLDER/mlflow.db")
    parse.add_argument(
        "target",
        metavar="TO",
        nargs="?",
        default=os.environ.get("MLFLOW_BACKEND_STORE_URI"),
        help="the server's store, postgresql://... (default: MLFLOW_BACKEND_STORE_URI)",
    )
    parse.add_argument("--artifacts", metavar="URI", required=True, help="the server's --artifacts: s3://BUCKET/...")
    parse.add_argument("--json", action="store_true", help="end standard output with one JSON object")
    return parse


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 0 moved, 1 not the same afterwards, 2 the user's input."""
    options = parser().parse_args(words)
    hush()
    try:
        if not options.target:
            raise SettingError("is not given", where="TO", fix="name the server's store, or MLFLOW_BACKEND_STORE_URI")
        # Imported here because MLflow takes seconds, and `--help` needs none of it.
        from tasks.store.move.moving import move

        moved = move(options.source, options.target, options.artifacts, lambda line: print(line, file=sys.stderr))
    except GauntletError as error:
        print(f"{'error' if error.exit_status == 2 else 'failed'}: {one_line(error)}", file=sys.stderr)
        return error.exit_status
    for name, count in moved.left.items():
        print(f"not moved, as no flow writes it: {count} rows of {name}", file=sys.stderr)
    print(f"rows {moved.rows_sha256}\nartifacts {moved.artifacts_sha256}")
    if options.json:
        print(json.dumps(asdict(moved)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
