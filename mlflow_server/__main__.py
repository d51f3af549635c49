"""`python -m mlflow_server`: MLflow's tracking server over the store that the flows write.

With no flags it serves the project's own SQLite file and artifact folder to this machine only, in two
processes. README.md beside this file shows the other end: Postgres, S3, users, a proxy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from gauntlet.errors import GauntletError
from gauntlet.state import artifact_root, ensure_state, store_uri
from mlflow_server.port import port, require_free
from mlflow_server.store import initialise

# Read by MLflow on import, here and in the process it starts. Starlette's warning is about MLflow's own code.
CALM = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",
}
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser("python -m mlflow_server", description="Start MLflow's tracking server.")
    parse.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parse.add_argument("--port", type=port, default=5000, help="port to listen on (default: 5000)")
    parse.add_argument("--allowed-hosts", metavar="HOST,...", help="Host headers to answer, the others get 403")
    parse.add_argument(
        "--cors-allowed-origins",
        metavar="URL,...",
        help="origins whose pages may write: the address people type, when it is not this machine's",
    )
    parse.add_argument("--workers", type=int, default=1, help="server processes (default: 1)")
    parse.add_argument("--app-name", choices=["basic-auth"], help="ask for users and passwords: needs mlflow[auth]")
    parse.add_argument("--backend-store-uri", metavar="URI", help="the store (default: SQLite in the state folder)")
    parse.add_argument(
        "--artifacts-destination",
        metavar="URI",
        help="keep artifacts here (s3://bucket/...) and pass them through the server "
        "(default: clients write the state folder themselves)",
    )
    return parse


def arguments(options: argparse.Namespace) -> list[str]:
    """What is said to `mlflow server`.

    Without `--artifacts-destination` experiments get a plain folder as their artifact location, which clients
    with and without the server can both read; `mlflow-artifacts:/` would shut out those who open the file.
    """
    store = options.backend_store_uri or store_uri()
    words = ["--host", options.host, "--port", str(options.port), "--workers", str(options.workers)]
    words += ["--backend-store-uri", store, "--registry-store-uri", store]
    if options.artifacts_destination:
        words += ["--serve-artifacts", "--artifacts-destination", options.artifacts_destination]
    else:
        words += ["--no-serve-artifacts", "--default-artifact-root", artifact_root()]
    for name in ("allowed_hosts", "cors_allowed_origins", "app_name"):
        if value := getattr(options, name):
            words += [f"--{name.replace('_', '-')}", value]
    return [*words, "--uvicorn-opts", "--log-level warning --no-access-log"]


def announce(options: argparse.Namespace) -> None:
    """Say where the server will be, and warn of artifacts that would stay on the clients' disks."""
    print(f"MLflow: http://{options.host}:{options.port}", flush=True)
    if options.host not in LOOPBACK and not options.artifacts_destination:
        print(
            "warning: clients on other machines will write artifacts to their own disks (give --artifacts-destination)",
            file=sys.stderr,
        )


def serve(options: argparse.Namespace) -> None:
    """Start the server and stay with it until it is stopped."""
    require_free(options.host, options.port)
    os.environ.update(CALM)
    ensure_state()
    initialise(options.backend_store_uri or store_uri())
    announce(options)
    # Imported last: MLflow takes seconds, and a busy port is said at once.
    from mlflow.cli import cli

    cli.main(["server", *arguments(options)], "mlflow")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 2 for the user's input, 1 for a store that cannot be opened."""
    options = parser().parse_args(words)
    try:
        serve(options)
    except GauntletError as error:
        print(f"mlflow_server: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
