"""The findings of a scan as a table in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gauntlet.assurance.scan.findings import Accepted, Finding

MOST = 60
_STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def show(rows: Sequence[tuple[str, Finding | Accepted]], errors: Sequence[str]) -> None:
    """Print findings with their states, and what was not inspected, on standard error."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140, highlight=False)
    if rows:
        console.print(_table(rows[:MOST]))
    else:
        console.print("no findings" + (", but not everything was inspected" if errors else ""))
    if len(rows) > MOST:
        console.print(f"{len(rows) - MOST} more in findings.json of the run")
    for error in errors[:MOST]:
        console.print(Text(f"not inspected: {error}", style="yellow"), soft_wrap=True)
    if len(errors) > MOST:
        console.print(f"{len(errors) - MOST} more in not_scanned.json of the run")


def _table(rows: Sequence[tuple[str, Finding | Accepted]]) -> Table:
    """One row per finding; untrusted texts are never interpreted as markup."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("severity")
    table.add_column("rule")
    table.add_column("where", overflow="fold")
    table.add_column("message", overflow="fold", ratio=1)
    if any(state for state, _ in rows):
        table.add_column("state")
    for state, finding in rows:
        line = getattr(finding, "line", 0)
        where = f"{finding.file}:{line}" if line else finding.file
        cells = [Text(finding.severity, style=_STYLES[finding.severity]), Text(finding.rule), Text(where)]
        table.add_row(*cells, Text(finding.message), *([Text(state)] if state else []))
    return table
