"""Processes of the tests' own: free ports, servers that start and end with a test, and patience."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from gauntlet.state import PROJECT_ROOT

HOST = "127.0.0.1"


class Server(Protocol):
    """What can be started and stopped."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((HOST, port)) == 0


def wait_until(ready: Callable[[], object], log: Path, seconds: float = 60) -> None:
    """Ask until it is ready; the log says why it never was."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextmanager
def running(*words: str, cwd: Path = PROJECT_ROOT, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, as from a terminal; nothing of it survives the test."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=cwd, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        with_group(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            with_group(process.pid, signal.SIGKILL)
            process.wait(30)


def with_group(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process group; whether there was one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True


class Typed(NamedTuple):
    """How a command line ended."""

    status: int
    out: str
    err: str
    modules: frozenset[str]
    """Loaded by it, or by a line before it."""


_TYPED = """
import contextlib, io, json, runpy, sys
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = words
    sys.modules.pop(words[0], None)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = runpy.run_module(words[0], run_name="__main__", alter_sys=True) and 0
        except SystemExit as done:
            status = done.code or 0
    print(json.dumps([status, out.getvalue(), err.getvalue(), list(sys.modules)]))
"""


def typed(lines: Sequence[Sequence[str]]) -> list[Typed]:
    """`python -m MODULE ...` for each of the lines, one after the other in one fresh interpreter."""
    command = [sys.executable, "-c", _TYPED]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, input=json.dumps(lines), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [Typed(status, out, err, frozenset(modules)) for status, out, err, modules in answers]


@contextmanager
def alone(name: str, make: Callable[[Path], S], prepare: Callable[[S], None]) -> Iterator[S]:
    """A server in a fresh folder, prepared and started; no process and no file of it is left."""
    folder = Path(tempfile.mkdtemp(prefix=f"gauntlet-{name}-"))
    server = make(folder)
    try:
        prepare(server)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def deployment_run(
    environment: dict[str, str], name: str, *words: str, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """`prefect deployment run NAME ...`, which waits for the end with `--watch`."""
    return subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deployment", "run", name, *words],
        cwd=PROJECT_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
