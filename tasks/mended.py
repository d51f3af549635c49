"""What a defense left of a backdoor: triggers' success rates before and after, and the clean accuracy that it cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gauntlet.evaluation.clean import share
from gauntlet.measurement import Measurement
from gauntlet.poisoning import AnyPoisoning
from tasks.poison import backdoor
from tasks.store import tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import WhiteBox

BEFORE, AFTER = "before", "after"


def mended(dataset: Dataset, known: Sequence[AnyPoisoning], before: WhiteBox, after: WhiteBox) -> list[dict[str, Any]]:
    """Rows `{"what", "before", "after"}` of clean accuracy and of every known trigger, with their intervals."""
    models = {BEFORE: before, AFTER: after}
    clean = [
        share(model.labels(dataset.x_test) == dataset.y_test, model=name, condition="clean")
        for name, model in models.items()
    ]
    rows = [_row("clean accuracy", clean)]
    for one in known:
        measured = backdoor(dataset, one.aimed(dataset.n_classes), models)
        rates = [m for m in measured if m.metric == "attack_success_rate"]
        rows.append(_row(f"success of {one.name}", rates))
    return rows


def _row(what: str, measured: Sequence[Measurement]) -> dict[str, Any]:
    return {"what": what} | {m.model: {"value": m.value, "low": m.low, "high": m.high, "n": m.n} for m in measured}


def metrics(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The clean accuracy lost, and of the trigger that still succeeds most the rates before and after."""
    clean, *triggers = rows
    values = {"mend/accuracy_lost": clean[BEFORE]["value"] - clean[AFTER]["value"]}
    if not triggers:
        return values
    worst = max(triggers, key=lambda row: row[AFTER]["value"])
    for suffix, end in {"": "value", "_low": "low", "_high": "high"}.items():
        values[f"backdoor/attack_success_rate{suffix}"] = worst[AFTER][end]
        values[f"mend/success_rate_before{suffix}"] = worst[BEFORE][end]
    return values


def show(run_id: str) -> None:
    """The rows and the seconds, on standard error; nothing for a defense that mends nothing."""
    from rich.console import Console
    from rich.table import Table

    kept = tracking.records(run_id)
    if "mended" not in kept:
        return
    grid = Table(title=f"{kept['model']}: {kept['metrics']['train/seconds']:.1f} seconds")
    for heading in ("", "n", BEFORE, AFTER):
        grid.add_column(heading, justify="left" if not heading else "right")
    for row in kept["mended"]:
        grid.add_row(row["what"], f"{row[AFTER]['n']:,}", *(_percent(row[side]) for side in (BEFORE, AFTER)))
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    console.print(grid)
    if len(kept["mended"]) == 1:
        console.print("No --trigger was given: how much of a backdoor is left, a scan may tell (gauntlet backdoor).")


def _percent(rate: dict[str, float]) -> str:
    value, low, high = (100 * rate[name] for name in ("value", "low", "high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
