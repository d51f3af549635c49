"""`python -m mlflow_server.serve` (`make serve`): everything in one terminal.

MLflow's server, Prefect's server, the work pool `local`, the deployments of prefect.yaml and a worker that
runs them. Ctrl-C stops all of it; when one part dies, the others are stopped and its last lines are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence

from gauntlet.errors import GauntletError
from gauntlet.state import PROJECT_ROOT, ensure_state
from mlflow_server.children import ChildDied, Children
from mlflow_server.port import port, require_free

HOST = "127.0.0.1"
POOL = "local"
PATIENCE = 120.0  # Seconds for one part to become ready: migrations of a fresh database take ten on a slow disk.
POLL = 0.25


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser("python -m mlflow_server.serve", description="MLflow, Prefect and a worker.")
    parse.add_argument("--mlflow-port", type=port, default=5000, help="port of MLflow (default: 5000)")
    parse.add_argument("--prefect-port", type=port, default=4200, help="port of Prefect (default: 4200)")
    return parse


def environment(mlflow_port: int, prefect_port: int) -> dict[str, str]:
    """What every child is told: where the servers are, where to keep things, and to keep quiet.

    INFO, because it goes to log files and to Prefect's pages, not to this terminal.
    """
    state, mlflow = ensure_state(), f"http://{HOST}:{mlflow_port}"
    return {
        **os.environ,
        "GAUNTLET_STATE": str(state),
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_REGISTRY_URI": mlflow,
        "PREFECT_API_URL": f"http://{HOST}:{prefect_port}/api",
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(prefect_port),
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


def get(number: int, path: str) -> bytes | None:
    """The body of a page of a server on this machine, or nothing while it does not answer with 200."""
    connection = http.client.HTTPConnection(HOST, number, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def pool_is_ready(number: int) -> bool:
    """Whether a worker polls the pool, by Prefect's own account."""
    page = get(number, f"/api/work_pools/{POOL}")
    return page is not None and json.loads(page).get("status") == "READY"


async def wait_for(what: str, ready: Callable[[], object], children: Children) -> None:
    """Ask until it is ready; give up when a child dies or patience runs out."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not await asyncio.to_thread(ready):
        children.require_alive()
        if asyncio.get_running_loop().time() > deadline:
            raise ChildDied(f"{what} was not ready after {PATIENCE:.0f} s\n{children.alive[-1].last_lines()}")
        await asyncio.sleep(POLL)


async def bring_up(children: Children, options: argparse.Namespace) -> None:
    """Start the parts in the order they need each other, then watch over them."""
    mlflow_port, prefect_port = options.mlflow_port, options.prefect_port
    say(f"Starting MLflow and Prefect; logs in {children.logs}")
    await children.start("mlflow", *module("mlflow_server", "--host", HOST, "--port", str(mlflow_port)))
    await children.start("prefect", *module("prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)))
    await wait_for("MLflow", lambda: get(mlflow_port, "/health"), children)
    say(f"MLflow   http://{HOST}:{mlflow_port}")
    await wait_for("Prefect", lambda: get(prefect_port, "/api/health"), children)
    say(f"Prefect  http://{HOST}:{prefect_port}")
    await deploy(children)
    await children.start("worker", *module("prefect", "worker", "start", "--pool", POOL, "--type", "process"))
    await wait_for("the worker", lambda: pool_is_ready(prefect_port), children)
    say("Ready. Ctrl-C stops everything.")
    await children.watch()


async def deploy(children: Children) -> None:
    """Make the work pool and register the deployments of prefect.yaml."""
    unattended = module("prefect", "--no-prompt")
    await children.run("pool", *unattended, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    await children.run("deploy", *unattended, "deploy", "--all")


async def serve(options: argparse.Namespace) -> int:
    """Bring everything up, stay, and leave nothing behind."""
    children = _children(options)
    work = asyncio.ensure_future(bring_up(children, options))
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
    told = environment(options.mlflow_port, options.prefect_port)
    logs = ensure_state() / "logs"
    logs.mkdir(exist_ok=True)
    return Children(told, PROJECT_ROOT, logs)


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 0 stopped on request, 1 a part died, 2 the user's input."""
    options = parser().parse_args(words)
    try:
        require_free(HOST, options.mlflow_port, flag="--mlflow-port")
        require_free(HOST, options.prefect_port, flag="--prefect-port")
        return asyncio.run(serve(options))
    except GauntletError as error:
        print(f"serve: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
