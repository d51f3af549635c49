"""Scan source code, model files and locked packages; log what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gauntlet.assurance.scan import scanning
from gauntlet.assurance.scan.findings import Severity
from tasks.context import Context
from tasks.progress import shown
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("severity", "confidence", "rule", "name", "file", "line", "message", "fingerprint", "tool")


@step("scan")
def scan(
    context: Context,
    path: str | None = None,
    fail_on: Severity | None = None,
    asked: scanning.Asked | None = None,
    show: bool = False,
) -> str:
    """Scan `path` (this project when not given), or all that is `asked`, and log the findings; returns the run's id.

    Raises `GateError`, after logging, when there are findings of severity `fail_on` or above.
    """
    asked = asked or scanning.Asked(path=path, fail_on=fail_on)
    asked.check()
    params = asked.model_dump(exclude_defaults=True) | {"path": asked.path or ".", "fail_on": asked.fail_on}
    tools = ", ".join(asked.roots)
    with tracking.run("scan", context, None, name="scan", scenario=tools, params=params) as run:
        with shown("scan"):
            outcome = scanning.scan(asked)
        _log(run, outcome)
        outcome.write()
        if show:
            from tasks.findings import show as show_findings

            show_findings(list(outcome.rows()), outcome.errors)
        outcome.gate()
    return run.id


def _log(run: tracking.Run, outcome: scanning.Outcome) -> None:
    for tool, one in outcome.scanned.items():
        if report := getattr(one, "report", None):
            run.json(f"{tool}.json", report)
    run.table("findings.json", _frame(outcome))
    run.json("findings.sarif", outcome.sarif())
    run.json("not_scanned.json", outcome.errors)
    run.tags({"gauntlet.dependencies": outcome.dependencies})
    run.record([], outcome.metrics(), inconclusive=outcome.is_inconclusive)


def _frame(outcome: scanning.Outcome) -> pd.DataFrame:
    """The findings, a row each, the worst first."""
    import pandas as pd

    rows = [{name: getattr(f, name, "") for name in COLUMNS} | {"state": state} for state, f in outcome.rows()]
    return pd.DataFrame(rows, columns=[*COLUMNS, "state"])
