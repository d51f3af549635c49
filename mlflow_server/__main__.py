"""MLflow's tracking server over the store that the flows write.

With no flags it serves the project's own SQLite file and artifact folder to this machine only, in two
processes. docs/servers.md shows larger installations: users, a proxy, Postgres, S3.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from gauntlet.commandline import Parser
from gauntlet.errors import GauntletError, SettingError
from gauntlet.state import artifact_root, ensure_state, store_uri
from mlflow_server import auth, guard
from mlflow_server.parts import require_bucket, require_database
from mlflow_server.port import port, require_free
from mlflow_server.store import initialise_shared, with_driver

# Read by MLflow on import, here and in the process it starts. Starlette's warning is about MLflow's own code.
CALM = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = Parser("gauntlet mlflow", description="Start MLflow's tracking server.")
    parse.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parse.add_argument("--port", type=port, default=5000, help="port to listen on (default: 5000)")
    parse.add_argument(
        "--allowed-hosts", metavar="HOST,...", help="Host headers to answer, others get 403 (default: --host)"
    )
    parse.add_argument(
        "--cors-allowed-origins",
        metavar="URL,...",
        help="origins whose pages may write: the address people type, when it is not this machine's",
    )
    parse.add_argument("--workers", type=int, default=1, help="server processes (default: 1)")
    parse.add_argument("--auth", action="store_true", help=f"ask for users and passwords: {auth.ADMIN_PASSWORD}")
    parse.add_argument("--insecure", action="store_true", help="allow a --host beyond this machine without --auth")
    parse.add_argument(
        *("--store", "--backend-store-uri"),
        metavar="URI",
        default=os.environ.get("MLFLOW_BACKEND_STORE_URI"),
        help="the store, such as postgresql://USER@HOST/mlflow (default: MLFLOW_BACKEND_STORE_URI, where a password is "
        "better kept than in a command line, else SQLite in the state folder)",
    )
    parse.add_argument(
        *("--artifacts", "--artifacts-destination"),
        metavar="URI",
        help="keep artifacts here (s3://bucket/...) and pass them through the server "
        "(default: clients write the state folder themselves)",
    )
    return parse


def arguments(options: argparse.Namespace) -> list[str]:
    """What is said to `mlflow server`.

    Without `--artifacts` experiments get a plain folder as their artifact location, which clients
    with and without the server can both read; `mlflow-artifacts:/` would shut out those who open the file.
    """
    store = with_driver(options.store or store_uri())
    words = ["--host", options.host, "--port", str(options.port), "--workers", str(options.workers)]
    words += ["--backend-store-uri", store, "--registry-store-uri", store]
    if options.artifacts:
        words += ["--serve-artifacts", "--artifacts-destination", options.artifacts]
    else:
        words += ["--no-serve-artifacts", "--default-artifact-root", artifact_root()]
    words += [
        "--allowed-hosts",
        ",".join([*hosts(options), *([options.allowed_hosts] if options.allowed_hosts else [])]),
    ]
    if origins := options.cors_allowed_origins or own_origin(options):
        words += ["--cors-allowed-origins", origins]
    if options.auth:
        words += ["--app-name", guard.NAME]
    return [*words, "--uvicorn-opts", "--log-level warning --no-access-log"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost"


def is_every_address(host: str) -> bool:
    """Whether the server listens wherever it can, so that its address says nothing of its name."""
    address = _address(host)
    return address.is_unspecified if address else not host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def hosts(options: argparse.Namespace) -> list[str]:
    """The Host headers of the server's own address. MLflow's default is wider: `10.*`, which `10.evil.org` matches."""
    names = [*LOOPBACK, *([] if is_every_address(options.host) else [options.host])]
    return [f"{name}:{options.port}" for name in dict.fromkeys(names)]


def own_origin(options: argparse.Namespace) -> str:
    """The origin of the server's own pages where MLflow does not know it: loopback it does."""
    local = is_loopback(options.host) or is_every_address(options.host)
    return "" if local else f"http://{options.host}:{options.port}"


def require_protected(options: argparse.Namespace) -> None:
    """Refuse to serve other machines without users and passwords."""
    if not (is_loopback(options.host) or options.auth or options.insecure):
        raise SettingError(
            "whoever reaches this address could read and change every run",
            where=f"--host {options.host}",
            fix="add --auth, or --insecure when that is meant",
        )
    if options.auth:
        auth.password(auth.ADMIN_PASSWORD)


def announce(options: argparse.Namespace) -> None:
    """Say where the server will be, and warn of artifacts that would stay on the clients' disks."""
    print(f"MLflow: http://{options.host}:{options.port}", flush=True)
    if not is_loopback(options.host) and not options.artifacts:
        print(
            "warning: clients on other machines will write artifacts to their own disks (give --artifacts)",
            file=sys.stderr,
        )


def serve(options: argparse.Namespace) -> None:
    """Start the server and stay with it until it is stopped."""
    require_protected(options)
    require_free(options.host, options.port)
    os.environ.update(CALM)
    store = options.store or store_uri()
    require_database(store)
    if options.artifacts:
        require_bucket(options.artifacts)
    ensure_state()
    if options.auth:
        auth.prepare(store)
    initialise_shared(store)
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
