"""Check the evaluation itself: models broken on purpose must be doubted, honest ones must be VALID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gauntlet.quiet import load_tensorflow
from gauntlet.validity import canaries as zoo
from tasks.context import Context
from tasks.progress import shown
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    import pandas as pd


@step("canaries")
def canaries(context: Context, names: Sequence[str] | None = None, data: Context | None = None) -> str:
    """Evaluate the canaries, all or those of `names`, on `data` where that is not the context's; returns the run's id.

    The run's `metrics.json` says of each what was expected, what came, and whether that is right.
    """
    load_tensorflow()
    dataset = (data or context).load()
    training = zoo.usual_training(len(dataset.x_train), context.seed)
    params = (data or context).params() | {"training": training.model_dump(), "names": list(names or [])}
    with tracking.run("canaries", context, None, name="canaries", params=params) as run:
        with shown("canaries") as progress:
            rows = list(zoo.run(dataset, training, progress, names))
        caught = sum(row.ok for row in rows)
        run.table("canaries.json", frame(rows))
        run.tags({"gauntlet.canaries": "alive" if caught == len(rows) else "dead"})
        facts = [{"name": r.name, "expected": r.expected, "verdict": r.verdict, "reason": r.reason} for r in rows]
        metrics = {"canaries/right": float(caught), "canaries/all": float(len(rows))}
        entries = [fact | {"ok": row.ok, "seconds": row.seconds} for fact, row in zip(facts, rows, strict=True)]
        run.record([], metrics, canaries=entries)
    return run.id


def frame(rows: Sequence[zoo.Canary]) -> pd.DataFrame:
    """A row a canary: what was expected, what came."""
    import pandas as pd

    columns = ("model", "expected", "verdict", "reason", "right")
    cells = [(row.name, row.expected, row.verdict, row.reason or "none", "yes" if row.ok else "NO") for row in rows]
    return pd.DataFrame(cells, columns=columns)


def wrong(run_id: str) -> list[str]:
    """One line for each canary that was not judged as it must be."""
    entries = tracking.records(run_id).get("canaries", [])
    return [
        f"{row['name']}: expected {row['expected']!r}, got {row['verdict']} ({row['reason'] or 'no reason'})"
        for row in entries
        if not row["ok"]
    ]


def show(run_id: str) -> None:
    """The table, on standard error."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title="Canaries: broken on purpose, or honest")
    for heading in ("model", "expected", "verdict", "reason", "right"):
        grid.add_column(heading)
    for row in tracking.records(run_id).get("canaries", []):
        cells = row["name"], row["expected"], row["verdict"], row["reason"] or "none", "yes" if row["ok"] else "NO"
        grid.add_row(*cells, style="" if row["ok"] else "bold red")
    Console(stderr=True, width=None).print(grid)
