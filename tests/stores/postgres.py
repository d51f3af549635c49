"""A Postgres of the tests' own: a fresh data folder, a free port, passwords on."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import HOST, alone, free_port, wait_until

USER, PASSWORD = "gauntlet", "a password of the tests"


@dataclass
class Postgres:
    """A running server; `stop` and `start` again are for the tests that take it away."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def uri(self, database: str, password: str = PASSWORD) -> str:
        """As people write it, with no driver's name."""
        return f"postgresql://{USER}:{password.replace(' ', '%20')}@{HOST}:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql answers, unadorned."""
        words = [str(self.programs / "psql"), "-XAtq", "-h", HOST, "-p", str(self.port), "-U", USER]
        told = os.environ | {"PGPASSWORD": PASSWORD}
        done = subprocess.run(
            [*words, "-d", database, "-c", statement], env=told, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    def database(self, name: str, *extensions: str) -> str:
        """A new database with these extensions; returns its URI."""
        self.sql(f'CREATE DATABASE "{name}"')
        for extension in extensions:
            self.sql(f"CREATE EXTENSION {extension}", name)
        return self.uri(name)

    def start(self) -> None:
        """Start, and wait until it answers."""
        words = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        words += ["-c", f"listen_addresses={HOST}", "-c", "max_connections=200"]
        log = self.folder / "postgres.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    str(self.programs / "postgres"),
                    *words,
                    "-c",
                    f"listen_addresses={HOST}",
                    "-c",
                    "max_connections=200",
                ],
                stdout=output,
                stderr=output,
                **_owner(),
            )
        ready = [str(self.programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, log)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is Postgres' fast shutdown; SIGQUIT and SIGKILL are a crash."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None


NEEDED = ("initdb", "postgres", "pg_isready", "psql")


def programs() -> Path | None:
    """Where Postgres' programs are, if they are anywhere: the newest of the distribution's, or on PATH."""
    named = shutil.which("postgres")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    places = [*folders, *([Path(named).parent] if named else [])]
    return next((folder for folder in places if all((folder / name).is_file() for name in NEEDED)), None)


def absent() -> str:
    """Why no Postgres can be started here, or nothing."""
    return "" if programs() else "no Postgres here: no initdb on PATH or below /usr/lib/postgresql"


def postgres() -> AbstractContextManager[Postgres]:
    """One server with nothing in it; no process and no file is left."""
    where = programs()
    assert where is not None, absent()
    return alone("postgres", lambda folder: Postgres(where, folder, free_port()), _initialise)


def _initialise(server: Postgres) -> None:
    secret = server.folder / "password"
    secret.write_text(PASSWORD)
    if owner := _owner():
        for path in (server.folder, secret):
            shutil.chown(path, owner["user"])
    words = ["-D", str(server.folder / "data"), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    subprocess.run([str(server.programs / "initdb"), *words], check=True, capture_output=True, timeout=120, **_owner())


def _owner() -> dict[str, object]:
    """Postgres does not start as root: then it is someone without rights."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    return {"user": "postgres" if "postgres" in names else "nobody", "extra_groups": []}
