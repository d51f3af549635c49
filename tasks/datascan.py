"""Scan a training set for poisoned data, before anything is trained on it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet import limits
from gauntlet.backdoor import inspections
from gauntlet.backdoor.inspections import AnyInspection, Seen
from gauntlet.data import datascan, dropping
from gauntlet.errors import GateError
from gauntlet.poisoning import AnyPoisoning
from gauntlet.quiet import load_tensorflow
from gauntlet.report import pictures
from gauntlet.training import fit
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gauntlet.data.datascan import Check
    from gauntlet.data.datasets import Dataset

METRICS = {
    "patches": {"patch_score": "patch_score"},
    "labels": {"label_suspects": "suspects", "label_p_value": "p_value"},
    "class balance": {"balance_p_value": "p_test"},
    "duplicates": {name: name for name in ("duplicates", "contradicting", "leaked")},
    "spectral": {"spectral_p_value": "p_value", "spectral_suspects": "suspects"},
    "clusters": {"clusters_p_value": "p_value", "clusters_suspects": "suspects"},
    "isolation": {"isolation_p_value": "p_value", "isolation_suspects": "suspects"},
}
"""Of each check the metrics (`inspect/NAME`) and the facts that they are."""


@step("inspect")
def inspect(
    context: Context,
    settings: datascan.DataScan,
    poisoning: AnyPoisoning | None = None,
    fail_on_suspects: bool = False,
    ways: Sequence[AnyInspection] = inspections.EVERY,
    training: fit.Training | None = None,
    model: Source | None = None,
) -> str:
    """Scan the training set, poisoned first where that is asked for to see what is found; returns the run's id.

    What looks at a network looks at `model`, which was trained on this set, or trains one by `training`.
    Raises `GateError`, after logging, when a check alarms and `fail_on_suspects` is set.
    """
    dataset, training = context.load(), training or fit.Training(seed=context.seed)
    poisoning = poisoning and poisoning.aimed(dataset.n_classes)
    planted = poisoning.poison(dataset.x_train, dataset.y_train, context.seed) if poisoning else None
    looked_at = replace(dataset, x_train=planted.x, y_train=planted.y) if planted else dataset
    params = context.params() | {"scan": settings.model_dump(), "inspection": [one.model_dump() for one in ways]}
    params |= {"poisoning": poisoning.model_dump()} if poisoning else {}
    params |= model.model_dump() if model else {}
    params |= training.model_dump() if any(one.trains for one in ways) else {}
    scenario = poisoning.name if poisoning else "as it is"
    with tracking.run("inspect", context, dataset, name="inspect", scenario=scenario, params=params) as run:
        with shown("inspect training set") as progress:
            checks = inspections.inspect(ways, _seen(looked_at, settings, training, model), progress)
        rows = [_row(check, planted.index if planted else None) for check in checks]
        _log(run, looked_at, checks, rows)
        _show(rows)
        if fail_on_suspects and (alarms := [check for check in checks if check.alarm]):
            raise GateError("; ".join(f"{check.name}: {check.says}" for check in alarms))
    return run.id


def _seen(dataset: Dataset, settings: datascan.DataScan, training: fit.Training, model: Source | None) -> Seen:
    """What is looked at; the given model is loaded when an inspection asks for it."""

    def given() -> Any:
        load_tensorflow()
        with limits.within("loading the model"):
            return model.load(dataset).keras.model if model else None

    return Seen(dataset, settings, training, given if model else None)


def _log(run: tracking.Run, dataset: Dataset, checks: Sequence[Check], rows: Sequence[dict[str, Any]]) -> None:
    """Metrics and rows of every check, the suspects as a table, as positions and as pictures."""
    import pandas as pd

    suspects = datascan.suspects(checks)
    metrics = {
        "inspect/alarms": float(sum(check.alarm for check in checks)),
        "inspect/suspects": float(len(suspects)),
        "inspect/images": float(len(dataset.x_train)),
    }
    for check in checks:
        metrics |= {f"inspect/{name}": check.facts[fact] for name, fact in METRICS.get(check.name, {}).items()}
    by_check = {check.name: pd.Index(suspects).isin(check.suspects) for check in checks}
    run.table("suspects.parquet", pd.DataFrame({"index": suspects, "label": dataset.y_train[suspects]} | by_check))
    run.arrays("suspects.npz", **dropping.as_arrays(dataset, {check.name: check.suspects for check in checks}))
    if len(suspects):
        title = f"{dataset.name}: {len(suspects):,} of {len(dataset.x_train):,} training images suspected"
        shown = {f"{one.name}:\n{len(one.suspects):,}": one.suspects for one in checks if len(one.suspects)}
        sides = dataset.x_train, dataset.y_train
        run.figure("suspects.png", pictures.suspected_images(*sides, shown, dataset.class_names, title))
    run.record([], metrics, checks=list(rows))


def _row(check: Check, planted: np.ndarray | None) -> dict[str, Any]:
    """What `--json` prints of a check; with planted poison also how much of it is among the suspects."""
    row: dict[str, Any] = {"check": check.name, "alarm": check.alarm, "suspects": len(check.suspects)}
    if planted is not None:
        hits, named = len(np.intersect1d(planted, check.suspects)), len(check.suspects)
        row |= {"planted": len(planted), "recall": hits / len(planted), "false_positives": named - hits}
        row |= {"precision": hits / named if named else None}
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
            recalled = round(row["recall"] * row["planted"])
            cells.append(f"{recalled:,} of {row['planted']:,}, {row['false_positives']:,} false")
        grid.add_row(*cells, style="bold red" if row["alarm"] else "")
    Console(stderr=True, width=None if sys.stderr.isatty() else 110).print(grid)
