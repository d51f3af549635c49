"""Steal from a model: which images it was trained on, and the model itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from gauntlet import privacy
from gauntlet.errors import SettingError
from gauntlet.models.access import suffices
from gauntlet.progress import part
from gauntlet.quiet import load_tensorflow
from gauntlet.report import curves
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.access import Target
    from gauntlet.privacy import Theft, TheftResult


@step("privacy")
def steal(
    context: Context, target: Source, thefts: privacy.Thefts = (), n: int | None = None, role: str = "model"
) -> str:
    """Try every theft on `target`, the usual ones without a name, on `n` images; returns the run's id.

    Several thefts are a run each, below one that holds the worst of each kind.
    """
    load_tensorflow()
    dataset = context.load()
    params = context.params() | target.model_dump() | {"n": n}
    with tracking.run("privacy", context, dataset, name=f"privacy of {role}", model=role, params=params) as run:
        with shown(f"steal from {role}") as progress:
            victim = target.load(dataset).classifier
            tried = thefts or privacy.usual(victim.access)
            _check(victim, tried)
            stolen = [
                one.run(victim, dataset, n, context.seed, part(progress, i / len(tried), (i + 1) / len(tried)))
                for i, one in enumerate(tried)
            ]
        _log(run, context, dataset, stolen, params)
    return run.id


def _check(victim: Target, thefts: Sequence[Theft]) -> None:
    """Refuse, before anything is tried, what asks for more than the model shows."""
    for one in thefts:
        if not suffices(victim.access, one.needs):
            what = f"needs {one.needs}, the model shows only {victim.access}"
            raise SettingError(what, where=one.name, fix="leave it out")


def _log(
    run: tracking.Run, context: Context, dataset: Dataset, thefts: Sequence[TheftResult], params: dict[str, Any]
) -> None:
    """One run, and below it one of each theft when there are several."""
    for one in thefts:
        facts: dict[str, Any] = {"model": run.model, "scenario": one.theft.name, "params": params}
        name = f"{one.theft.title} of {run.model}"
        below = tracking.run("privacy", context.below(run.id), dataset, name=name, **facts)
        with nullcontext(run) if len(thefts) == 1 else below as opened:
            opened.params({"theft": one.theft.model_dump()})
            opened.tags({"gauntlet.knows": one.theft.knows})
            _log_pictures(opened, [one])
            if opened is not run:
                opened.record([], _metrics(one), thefts=[_row(one)])
    _log_pictures(run, thefts)
    run.record([], _worst(thefts), thefts=[_row(one) for one in thefts])


def _worst(thefts: Sequence[TheftResult]) -> dict[str, float]:
    """Of each metric the value of the theft that got most of its kind, among those that have it."""
    metrics: dict[str, float] = {}
    for one in sorted(thefts, key=lambda evidence: evidence.headline.value):
        metrics |= _metrics(one)
    return metrics


def _metrics(one: TheftResult) -> dict[str, float]:
    """The contract's metrics of a theft."""
    return {f"privacy/{name}": value for name, value in (_spelt(one) | one.counts).items()}


def _spelt(one: TheftResult) -> dict[str, float]:
    """Rates and their intervals as plain numbers."""
    ends = ("", "_low", "_high")
    return {f"{name}{end}": number for name, rate in one.rates.items() for end, number in zip(ends, rate, strict=True)}


def _row(one: TheftResult) -> dict[str, Any]:
    """What `--json` prints of one theft."""
    return {"theft": one.theft.name, "title": one.theft.title, "knows": one.theft.knows} | (one.counts | _spelt(one))


def _log_pictures(run: tracking.Run, thefts: Sequence[TheftResult]) -> None:
    """Membership rates against chance, and the fidelity of the copies."""
    inferred = {one.theft.title: one for one in thefts if one.roc is not None}
    copied = {one.theft.title: one for one in thefts if one.roc is None}
    if inferred:
        run.figure("roc.png", curves.membership_roc(inferred, f"{run.model}: who was trained on?"))
    if copied:
        run.figure("copies.png", curves.copies(copied, f"{run.model}: copies made of its answers"))


def show(run_id: str) -> None:
    """What was stolen, on standard error."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title="Stolen, with 95 % intervals (advantage and fidelity: lower is better)")
    for heading in ("theft", "measure", "value", "interval", "n"):
        grid.add_column(heading, justify="left" if heading in ("theft", "measure") else "right", overflow="fold")
    for row in tracking.records(run_id).get("thefts", []):
        membership = "members" in row
        n = f"{row['members']:,} + {row['non_members']:,}" if membership else f"{row['held_out']:,}"
        names = MEMBERSHIP if membership else EXTRACTION
        for place, (name, words) in enumerate((name, words) for name, words in names.items() if name in row):
            interval = f"[{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
            grid.add_row("" if place else row["title"], words, f"{row[name]:.4f}", interval, n)
        if not membership:
            grid.add_row("", "queries", f"{row['queries']:,}", "", "")
        grid.add_section()
    Console(stderr=True, width=None if sys.stderr.isatty() else 110).print(grid)


MEMBERSHIP = {
    "advantage": "advantage (0 is guessing)",
    "auc": "area under ROC",
    "tpr_at_fpr_1": "TPR at 1 % FPR",
    "tpr_at_fpr_01": "TPR at 0.1 % FPR",
}
EXTRACTION = {
    "fidelity": "fidelity of the copy",
    "fidelity_floor": "same images, true labels",
    "fidelity_majority": "one class for all",
    "copy_accuracy": "accuracy of the copy",
    "victim_accuracy": "accuracy of the victim",
}
