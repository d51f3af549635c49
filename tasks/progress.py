"""Show progress where people look: a bar in the terminal, a progress artifact in Prefect's UI."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from gauntlet.progress import Progress, silent
from tasks.recorded import recorded

SERVER_SECONDS = 2.0
"""Prefect's server is told at most this often: each time costs a request."""
LINE_SECONDS = 30.0
"""A log gets a line at most this often."""


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """A progress to hand to long work: a bar in a terminal, a line now and then in a log.

    It stays on standard error, so that standard output stays data.
    """
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[now]}"),
    )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    with Bars(*columns, console=console) as bars, _artifact(what) as tell:
        row = bars.add_task(what, total=1.0, now="")
        log = silent if sys.stderr.isatty() else _lines(what)

        def progress(now: str, share: float) -> None:
            bars.update(row, completed=share, now=now)
            log(now, share)
            tell(now, share)

        yield progress
        bars.update(row, completed=1.0, now="")
        tell(what, 1.0)


def _lines(what: str) -> Progress:
    """Plain lines: where standard error is a file, a bar is drawn only when the work is done."""

    def line(now: str, share: float) -> None:
        if share < 1.0:
            print(f"{what}: {share:.0%}, {now}", file=sys.stderr, flush=True)

    return _at_most_every(LINE_SECONDS, line)


def _at_most_every(seconds: float, progress: Progress) -> Progress:
    """The same, but for the end called only once in so many seconds."""
    last = time.monotonic()

    def seldom(now: str, share: float) -> None:
        nonlocal last
        if share >= 1.0 or time.monotonic() - last > seconds:
            last = time.monotonic()
            progress(now, share)

    return seldom


@contextmanager
def _artifact(what: str) -> Iterator[Progress]:
    """The same for Prefect's UI, where a server records the run."""
    if not recorded():
        yield silent
        return
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    key = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
    artifact = create_progress_artifact(0.0, key=key, description=what)

    def tell(_: str, share: float) -> None:
        # A bar that cannot be drawn must not stop the work.
        with suppress(Exception):
            update_progress_artifact(artifact, progress=min(100.0, 100 * share))  # type: ignore[arg-type]

    yield _at_most_every(SERVER_SECONDS, tell)
