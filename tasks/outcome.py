"""What a single stage measured, for the terminal: its table, its verdict, and where to look further."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from gauntlet.report import document
from tasks.store import connection, tracking


def show(uri: str | None, *run_ids: str) -> None:
    """Print one table of all that the runs measured, their verdicts and notes, and where the first lies: to stderr."""
    records = [tracking.records(run_id) for run_id in run_ids]
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    measured = {(m.model, m.label, m.n, m.value): m for one in records for m in one["measurements"]}
    if measured:  # clean accuracy, which each run has, stands there once
        console.print(document.to_text(list(measured.values())))
    for line in () if measured else rates(tracking.read(run_ids[0]).data.metrics):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    names = [f"{tracking.read(run_id).info.run_name}: " if len(run_ids) > 1 else "" for run_id in run_ids]
    printed = [line for name, one in zip(names, records, strict=True) for line in lines(one, name)]
    where = connection.ui_command(connection.connect(uri))
    for line in (*dict.fromkeys(printed), f"Run: {run_ids[0]}", f"MLflow: {where}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def lines(records: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """The verdict with its reasons, after the run's `name`, and the notes, of a run that has them."""
    if verdict := records.get("validity"):
        yield f"{name}{verdict}{': ' if records['reasons'] else ''}{'; '.join(records['reasons'])}"
    yield from (f"note: {note}" for note in records.get("notes", ()))


def rates(metrics: Mapping[str, float]) -> Iterator[str]:
    """The metrics that have an interval, each with its own: of a detector those at the largest budget."""
    for name in sorted(name for name in metrics if f"{name}_low" in metrics):
        yield f"{name}: {metrics[name]:.3f} [{metrics[f'{name}_low']:.3f}, {metrics[f'{name}_high']:.3f}]"
