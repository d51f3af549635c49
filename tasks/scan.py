"""Scan source code with Bandit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet import sast
from gauntlet.errors import GateError
from gauntlet.state import PROJECT_ROOT
from tasks import tracking
from tasks.context import Context
from tasks.progress import shown

if TYPE_CHECKING:
    import pandas as pd

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
        run.json("bandit.json", result.report)
        run.table("findings.json", _frame(result))
        run.record([], counts | {"scan/lines": float(result.lines), "scan/errors": float(len(result.errors))})
        if fail_on and (bad := result.at_or_above(fail_on)):
            first = bad[0]
            where = f"{first.rule} in {first.file}, line {first.line}"
            raise GateError(f"{len(bad)} findings of severity {fail_on} or above, first {where}: {first.message}")
    return run.id


def _frame(result: sast.ScanResult) -> pd.DataFrame:
    """The findings, a row each, the worst first."""
    import pandas as pd

    columns = ["severity", "confidence", "rule", "name", "file", "line", "message", "fingerprint"]
    return pd.DataFrame([{name: getattr(f, name) for name in columns} for f in result.findings], columns=columns)
