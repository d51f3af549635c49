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

EVERY_SECONDS = 2.0
"""Prefect's server is told at most this often: each time costs a request."""


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """A progress to hand to long work; the bar stays on standard error, so that standard output stays data."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[now]}"),
    )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    with Bars(*columns, console=console) as bars, _artifact(what) as tell:
        row = bars.add_task(what, total=1.0, now="")

        def progress(now: str, share: float) -> None:
            bars.update(row, completed=share, now=now)
            tell(now, share)

        yield progress
        bars.update(row, completed=1.0, now="")
        tell(what, 1.0)


@contextmanager
def _artifact(what: str) -> Iterator[Progress]:
    """The same for Prefect's UI, where a server records the run."""
    if not recorded():
        yield silent
        return
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    key = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
    artifact, reported = create_progress_artifact(0.0, key=key, description=what), time.monotonic()

    def tell(_: str, share: float) -> None:
        nonlocal reported
        if share >= 1.0 or time.monotonic() - reported > EVERY_SECONDS:
            reported = time.monotonic()
            # A bar that cannot be drawn must not stop the work.
            with suppress(Exception):
                update_progress_artifact(artifact, progress=min(100.0, 100 * share))  # type: ignore[arg-type]

    yield tell
