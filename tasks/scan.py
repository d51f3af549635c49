"""Scan source code with Bandit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet import sast
from gauntlet.state import PROJECT_ROOT
from tasks import tracking
from tasks.context import Context
from tasks.progress import shown

Severity = Literal["low", "medium", "high"]


@task(name="scan", cache_policy=NO_CACHE)
def scan(context: Context, path: str | None = None, fail_on: Severity | None = None) -> str:
    """Scan `path` (this project when not given) and log the findings; returns the run's id.

    Raises `GateError`, after logging, when there are findings of severity `fail_on` or above.
    """
    chosen = Path(path) if path else PROJECT_ROOT
    params = {"path": path or ".", "fail_on": fail_on}
    with tracking.run("scan", context, None, name="scan", scenario="bandit", params=params) as run:
        with shown("scan"):
            result = sast.scan(chosen)
        counts = {f"scan/{severity}": float(count) for severity, count in result.counts().items()}
        run.json("bandit.json", result.raw)
        run.table("findings.json", sast.frame(result))
        run.record([], counts | {"scan/lines": float(result.lines), "scan/errors": float(len(result.errors))})
        sast.gate(result, fail_on)
    return run.id
