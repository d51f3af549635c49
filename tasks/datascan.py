"""Scan a training set for poisoned data, before anything is trained on it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet.data import datascan
from gauntlet.errors import GateError
from gauntlet.poisoning import AnyPoisoning
from gauntlet.report import pictures
from tasks.context import Context
from tasks.progress import shown
from tasks.store import tracking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gauntlet.data.datascan import Check
    from gauntlet.data.datasets import Dataset


@task(name="inspect", cache_policy=NO_CACHE)
def inspect(
    context: Context,
    settings: datascan.DataScan,
    poisoning: AnyPoisoning | None = None,
    fail_on_suspects: bool = False,
) -> str:
    """Scan the training set, poisoned first where that is asked for to see what is found; returns the run's id.

    Raises `GateError`, after logging, when a check alarms and `fail_on_suspects` is set.
    """
    dataset = context.load()
    poisoning = poisoning and poisoning.aimed(dataset.n_classes)
    planted = poisoning.poison(dataset.x_train, dataset.y_train, context.seed) if poisoning else None
    looked_at = replace(dataset, x_train=planted.x, y_train=planted.y) if planted else dataset
    scenario = poisoning.name if poisoning else "as it is"
    params = context.params() | {"scan": settings.model_dump()}
    params |= {"poisoning": poisoning.model_dump()} if poisoning else {}
    with tracking.run("inspect", context, dataset, name="inspect", scenario=scenario, params=params) as run:
        with shown("inspect training set") as progress:
            checks = datascan.scan(looked_at, settings, context.seed, progress)
        rows = [_row(check, planted.index if planted else None) for check in checks]
        _log(run, looked_at, checks, rows)
        _show(rows)
        if fail_on_suspects and (alarms := [check for check in checks if check.alarm]):
            raise GateError("; ".join(f"{check.name}: {check.says}" for check in alarms))
    return run.id


def _log(run: tracking.Run, dataset: Dataset, checks: Sequence[Check], rows: Sequence[dict[str, Any]]) -> None:
    """Metrics and rows of every check, the suspects as a table and as pictures."""
    import pandas as pd

    suspects = datascan.suspects(checks)
    facts = {check.name: check.facts for check in checks}
    metrics = {
        "inspect/alarms": float(sum(check.alarm for check in checks)),
        "inspect/suspects": float(len(suspects)),
        "inspect/images": float(len(dataset.x_train)),
        "inspect/patch_score": facts["patches"]["patch_score"],
        "inspect/label_suspects": facts["labels"]["suspects"],
        "inspect/label_p_value": facts["labels"]["p_value"],
        "inspect/balance_p_value": facts["class balance"]["p_test"],
        "inspect/duplicates": facts["duplicates"]["duplicates"],
        "inspect/contradicting": facts["duplicates"]["contradicting"],
        "inspect/leaked": facts["duplicates"]["leaked"],
    }
    by_check = {check.name: pd.Index(suspects).isin(check.suspects) for check in checks}
    run.table("suspects.parquet", pd.DataFrame({"index": suspects, "label": dataset.y_train[suspects]} | by_check))
    if len(suspects):
        title = f"{dataset.name}: {len(suspects):,} of {len(dataset.x_train):,} training images suspected"
        shown = dataset.x_train[suspects], dataset.y_train[suspects]
        run.figure("suspects.png", pictures.sample_images(*shown, dataset.class_names, title))
    run.record([], metrics, checks=list(rows))


def _row(check: Check, planted: np.ndarray | None) -> dict[str, Any]:
    """What `--json` prints of a check; with planted poison also how much of it is among the suspects."""
    row: dict[str, Any] = {"check": check.name, "alarm": check.alarm, "suspects": len(check.suspects)}
    if planted is not None:
        hits = len(np.intersect1d(planted, check.suspects))
        row |= {"planted": len(planted), "recall": hits / len(planted), "false_positives": len(check.suspects) - hits}
    return row | {"says": check.says, "facts": check.facts}


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """What every check says, on standard error."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title="Training set")
    headings = ("check", "alarm", "suspects", "says") + (("planted found",) if "planted" in rows[0] else ())
    for heading in headings:
        grid.add_column(heading, justify="right" if heading == "suspects" else "left")
    for row in rows:
        cells = [row["check"], "ALARM" if row["alarm"] else "no", f"{row['suspects']:,}", row["says"]]
        if "planted" in row:
            found = round(row["recall"] * row["planted"])
            cells.append(f"{found:,} of {row['planted']:,}, {row['false_positives']:,} false")
        grid.add_row(*cells, style="bold red" if row["alarm"] else "")
    Console(stderr=True, width=None if sys.stderr.isatty() else 110).print(grid)
