"""MLflow, Prefect, the deployments and a worker in one terminal.

MLflow's server, Prefect's server, the work pool `local`, the deployments of prefect.yaml and a worker that
runs them. Ctrl-C stops all of it; when one part dies, the others are stopped and its last lines are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import secrets
import signal
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gauntlet.commandline import Parser
from gauntlet.errors import GauntletError, SettingError
from gauntlet.state import PROJECT_ROOT, ensure_state, shipped
from mlflow_server import auth
from mlflow_server.children import ChildDied, Children
from mlflow_server.orchestrator import HOSTS
from mlflow_server.parts import TRIGRAMS, require_bucket, require_database
from mlflow_server.port import port, require_free
from mlflow_server.store import place, with_driver

HOST = "127.0.0.1"
POOL = "local"
DEPLOY = ("deploy", "--all", "--prefect-file", str(shipped("prefect.yaml")))
PATIENCE = (
    300.0  # Seconds for one part to become ready: on a busy machine the tables of a fresh Postgres take two minutes.
)
POLL = 0.25
PASSED_ON = ("--allowed-hosts", "--cors-allowed-origins", "--artifacts")
STORE, BUCKET = "MLFLOW_BACKEND_STORE_URI", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PREFECT_STORE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Variables of the stores, which the server that needs them is told and nobody else: not the worker."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = Parser("gauntlet serve", description="MLflow, Prefect and a worker.")
    parse.add_argument("--mlflow-port", type=port, default=5000, help="port of MLflow (default: 5000)")
    parse.add_argument("--prefect-port", type=port, default=4200, help="port of Prefect (default: 4200)")
    parse.add_argument("--auth", action="store_true", help=f"ask for users and passwords: {auth.ADMIN_PASSWORD}")
    parse.add_argument("--store", metavar="URI", default=os.environ.get(STORE), help=f"MLflow's (default: {STORE})")
    parse.add_argument(
        "--prefect-store",
        metavar="URI",
        default=next((os.environ[name] for name in PREFECT_STORE if name in os.environ), None),
        help=f"Prefect's own, another database (default: {PREFECT_STORE[0]}, else SQLite in the state folder)",
    )
    for flag in PASSED_ON:
        parse.add_argument(flag, help="for MLflow: see python -m mlflow_server --help")
    return parse


KEPT = {*auth.PASSWORDS, *BUCKET, *PREFECT_STORE, STORE, "PGPASSWORD"}


@dataclass(frozen=True)
class Secrets:
    """The secrets of each part, which the others do not get; empty without `--auth`."""

    mlflow: Mapping[str, str] = field(default_factory=dict)
    prefect: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, str] = field(default_factory=dict)
    worker: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """Who asks Prefect."""
        string = self.client.get(auth.PREFECT)
        return {"Authorization": f"Basic {b64encode(string.encode()).decode()}"} if string else {}


def distribute(options: argparse.Namespace) -> Secrets:
    """What is whose: the stores' addresses and keys, and with `--auth` the passwords."""
    mlflow = {name: os.environ[name] for name in (*BUCKET, "PGPASSWORD") if name in os.environ}
    mlflow |= {STORE: options.store} if options.store else {}
    prefect = {PREFECT_STORE[0]: with_driver(options.prefect_store, "asyncpg")} if options.prefect_store else {}
    return _with_passwords(mlflow, prefect) if options.auth else Secrets(mlflow=mlflow, prefect=prefect)


def _with_passwords(mlflow: dict[str, str], prefect: dict[str, str]) -> Secrets:
    """The administrator's password to MLflow alone; to the worker one of its own, made now unless it is set."""
    string = auth.prefect_string()
    given = auth.WORKER_PASSWORD in os.environ
    worker = auth.password(auth.WORKER_PASSWORD) if given else secrets.token_urlsafe(32)
    client = {auth.PREFECT: string}
    return Secrets(
        mlflow=mlflow | {auth.ADMIN_PASSWORD: auth.password(auth.ADMIN_PASSWORD), auth.WORKER_PASSWORD: worker},
        prefect=prefect | {"PREFECT_SERVER_API_AUTH_STRING": string},
        client=client,
        worker=client | {"MLFLOW_TRACKING_USERNAME": auth.WORKER, "MLFLOW_TRACKING_PASSWORD": worker},
    )


def require_stores(options: argparse.Namespace) -> None:
    """Raise `SettingError` when a store that was named is not there, or both servers were given the same one."""
    if options.store:
        require_database(options.store)
    if options.artifacts:
        require_bucket(options.artifacts)
    if options.prefect_store:
        require_database(options.prefect_store, extension=TRIGRAMS, where="--prefect-store")
        if place(options.prefect_store) == place(options.store or ""):
            what = "MLflow and Prefect cannot share a database: each keeps its version in a table of one name"
            raise SettingError(what, where="--prefect-store", fix="createdb prefect")


def environment(mlflow_port: int, prefect_port: int) -> dict[str, str]:
    """The environment of every child: the servers' addresses, the folders, quiet libraries; no password.

    INFO, because it goes to log files and to Prefect's pages, not to this terminal. Only Prefect's own pages may
    ask it things from a browser; its default is any page.
    """
    state, mlflow = ensure_state(), f"http://{HOST}:{mlflow_port}"
    return {
        **{name: value for name, value in os.environ.items() if name not in KEPT},
        "GAUNTLET_STATE": str(state),
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_REGISTRY_URI": mlflow,
        "PREFECT_API_URL": f"http://{HOST}:{prefect_port}/api",
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(prefect_port),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{prefect_port},http://localhost:{prefect_port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_COLOR": "1",
    }


def module(*words: str) -> list[str]:
    """The command that runs a module, unbuffered so that its log is complete when it dies."""
    return [sys.executable, "-u", "-m", *words]


def get(number: int, path: str, headers: Mapping[str, str] | None = None) -> bytes | None:
    """The body of a page of a server on this machine, or nothing while it does not answer with 200."""
    connection = http.client.HTTPConnection(HOST, number, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.read() if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def pool_is_ready(number: int, headers: Mapping[str, str]) -> bool:
    """Whether a worker polls the pool, by Prefect's own account."""
    page = get(number, f"/api/work_pools/{POOL}", headers)
    return page is not None and json.loads(page).get("status") == "READY"


async def wait_for(what: str, ready: Callable[[], object], children: Children) -> None:
    """Ask until it is ready; give up when a child dies or patience runs out."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not await asyncio.to_thread(ready):
        children.require_alive()
        if asyncio.get_running_loop().time() > deadline:
            raise ChildDied(f"{what} was not ready after {PATIENCE:.0f} s\n{children.alive[-1].last_lines()}")
        await asyncio.sleep(POLL)


async def bring_up(children: Children, options: argparse.Namespace, secrets: Secrets) -> None:
    """Start the parts in the order they need each other, then watch over them."""
    mlflow_port, prefect_port = options.mlflow_port, options.prefect_port
    say(f"Starting MLflow and Prefect; logs in {children.logs}")
    await children.start("mlflow", *module("mlflow_server", *mlflow_flags(options)), environment=secrets.mlflow)
    flags = ["--factory", "mlflow_server.orchestrator:create_app", "--host", HOST, "--port", str(prefect_port)]
    named = ",".join(filter(None, (os.environ.get(HOSTS), options.allowed_hosts)))
    await children.start("prefect", *module("uvicorn", *flags), environment=dict(secrets.prefect) | {HOSTS: named})
    await wait_for("MLflow", lambda: get(mlflow_port, "/health"), children)
    say(f"MLflow   http://{HOST}:{mlflow_port}")
    await wait_for("Prefect", lambda: get(prefect_port, "/api/health"), children)
    say(f"Prefect  http://{HOST}:{prefect_port}")
    await deploy(children, secrets.client)
    worker = module("prefect", "worker", "start", "--pool", POOL, "--type", "process")
    await children.start("worker", *worker, environment=secrets.worker)
    await wait_for("the worker", lambda: pool_is_ready(prefect_port, secrets.headers), children)
    if options.auth:
        kept = "" if auth.PREFECT in os.environ else f"=$(cat '{auth.folder()}/prefect')"
        say(f"MLflow asks for {auth.admin()} and {auth.ADMIN_PASSWORD}, Prefect for {auth.PREFECT}{kept}")
    say("Ready. Ctrl-C stops everything.")
    await children.watch()


def mlflow_flags(options: argparse.Namespace) -> list[str]:
    """What is said to `python -m mlflow_server`."""
    flags = ["--host", HOST, "--port", str(options.mlflow_port), *(["--auth"] if options.auth else [])]
    for flag in PASSED_ON:
        if value := getattr(options, flag.removeprefix("--").replace("-", "_")):
            flags += [flag, value]
    return flags


async def deploy(children: Children, variables: Mapping[str, str]) -> None:
    """Make the work pool and register the deployments of prefect.yaml."""
    unattended = module("prefect", "--no-prompt")
    pool = ["work-pool", "create", POOL, "--type", "process", "--overwrite"]
    await children.run("pool", *unattended, *pool, environment=variables)
    await children.run("deploy", *unattended, *DEPLOY, environment=variables)


async def serve(options: argparse.Namespace) -> int:
    """Bring everything up, stay, and leave nothing behind."""
    secrets = distribute(options)
    children = _children(options)
    work = asyncio.ensure_future(bring_up(children, options, secrets))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        say("Stopping.")
    finally:
        await children.stop()
    return 0


def _children(options: argparse.Namespace) -> Children:
    ports = environment(options.mlflow_port, options.prefect_port)
    logs = ensure_state() / "logs"
    logs.mkdir(exist_ok=True)
    return Children(ports, PROJECT_ROOT, logs)


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 0 stopped on request, 1 a part died, 2 the user's input."""
    options = parser().parse_args(words)
    try:
        if options.auth:
            auth.password(auth.ADMIN_PASSWORD)
        require_free(HOST, options.mlflow_port, flag="--mlflow-port")
        require_free(HOST, options.prefect_port, flag="--prefect-port")
        require_stores(options)
        return asyncio.run(serve(options))
    except GauntletError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
