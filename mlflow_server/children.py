"""Child processes that start and stop together, each with its own process group and log.

Groups are not enough: Prefect's worker gives every flow run its own session. So all children carry a
mark in their environment, which whatever they start inherits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gauntlet.errors import GauntletError

GRACE = 10.0  # Seconds between asking a group to stop and killing it.
POLL = 0.1
MARK = "GAUNTLET_SERVE"


class ChildDied(GauntletError):
    """A child ended that should have stayed, or a command failed; carries the last lines it printed."""


@dataclass(frozen=True)
class Child:
    """One process, the leader of its own group."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def require_alive(self) -> None:
        """Raise when the process has ended."""
        if self.process.returncode is not None:
            raise ChildDied(f"{self.name} ended with status {self.process.returncode}\n{self.last_lines()}")

    def last_lines(self, count: int = 15) -> str:
        """The end of the log, indented, and where the rest is."""
        lines = self.log.read_text(errors="replace").splitlines()[-count:]
        return "\n".join([*(f"  {line}" for line in lines), f"  ({self.log})"])

    async def stop(self) -> None:
        """Ask the whole group to stop and kill what is left of it after a grace period."""
        self._signal(signal.SIGTERM)
        waited = 0.0
        while waited < GRACE and self._group_exists():
            await asyncio.sleep(POLL)
            waited += POLL
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # The group may live on without its leader, so the leader's own state is not asked.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _group_exists(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


@dataclass
class Children:
    """All children started so far; they share an environment, a working directory and a folder for logs."""

    environment: Mapping[str, str]
    cwd: Path
    logs: Path
    alive: list[Child] = field(default_factory=list)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def start(self, name: str, *words: str, environment: Mapping[str, str] | None = None) -> Child:
        """Start a process that is meant to stay; `told` is what only this one's environment has."""
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *words,
                cwd=self.cwd,
                env={**self.environment, **(environment or {}), MARK: self.mark},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.alive.append(child)
        return child

    async def run(self, name: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Run a command to its end; it must succeed and the others must outlive it."""
        child = await self.start(name, *words, environment=environment)
        while child.process.returncode is None:
            self.require_alive(besides=child)
            await asyncio.sleep(POLL)
        if child.process.returncode:
            child.require_alive()
        self.alive.remove(child)

    async def watch(self) -> None:
        """Stay until one child ends, then raise."""
        while True:
            self.require_alive()
            await asyncio.sleep(POLL)

    def require_alive(self, besides: Child | None = None) -> None:
        """Raise when any child has ended."""
        for child in self.alive:
            if child is not besides:
                child.require_alive()

    async def stop(self) -> None:
        """Stop all at once, then whatever left their groups."""
        await asyncio.gather(*(child.stop() for child in self.alive))
        for number in (signal.SIGTERM, signal.SIGKILL):
            await self._stop_stragglers(number)

    async def _stop_stragglers(self, number: signal.Signals) -> None:
        for pid in self._stragglers():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        waited = 0.0
        while waited < GRACE and self._stragglers():
            await asyncio.sleep(POLL)
            waited += POLL

    def _stragglers(self) -> list[int]:
        """Processes that carry the mark; without /proc (macOS) none is found and the groups must do."""
        wanted = f"{MARK}={self.mark}".encode()
        stragglers = []
        for file in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # It ended meanwhile, or belongs to someone else.
                if wanted in file.read_bytes().split(b"\0"):
                    stragglers.append(int(file.parent.name))
        return stragglers
