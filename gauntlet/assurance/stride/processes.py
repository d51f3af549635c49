"""Commands of our own, run to their end without a shell: what they said, how they ended, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """A command that was run; its status is None when it had to be stopped."""

    status: int | None
    text: str
    """Standard output and error together."""

    @property
    def last_line(self) -> str:
        """The last line that says something."""
        return next((line.strip() for line in reversed(self.text.splitlines()) if line.strip()), "")


def run(words: Sequence[str], cwd: Path, timeout: float, environment: Mapping[str, str]) -> Ended:
    """Run a command for at most `timeout` seconds in a process group of its own, all of which ends with it."""
    return asyncio.run(_run(words, cwd, timeout, environment))


async def _run(words: Sequence[str], cwd: Path, timeout: float, environment: Mapping[str, str]) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=cwd,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), timeout)
        return Ended(process.returncode, said.decode(errors="replace"))
    except TimeoutError:
        return Ended(None, "")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
