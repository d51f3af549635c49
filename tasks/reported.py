"""The report of `gauntlet.evaluate` in MLflow: what `report.log_to_mlflow()` and MLflow's evaluator log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gauntlet.data.own import check_title
from tasks.attacked import AttackFindings, log_alone
from tasks.context import Context
from tasks.store import guest, tracking

if TYPE_CHECKING:
    from gauntlet.api import Report

STAGE, PAGE = "attack", "report.html"
FILES = ("certified.parquet", "clean.parquet", "metrics.json", "outcomes.parquet", "robustness_curve.png", PAGE)
"""Of a report in a run, at its root."""
PREFIX = "gauntlet."
"""Of the params in a run of others, which may have a `seed` of its own."""


def keep(report: Report, dataset: str) -> str:
    """Log a report into the open run, else into a new one of the experiment `gauntlet-<dataset>`; its id.

    Raises `DataError` for a name that no experiment can have, `SettingError` for a run that cannot be logged into.
    """
    check_title(dataset)
    if run_id := guest.active():
        keep_in(run_id, report, dataset)
        return run_id
    context = Context(dataset=dataset, tracking_uri=guest.store())
    facts: dict[str, Any] = {"name": f"attack {report.name}", "model": report.name, "scenario": _knowledge(report)}
    params = {"dataset": dataset, **report.settings}
    with guest.unmoved(), tracking.run(STAGE, context, None, **facts, params=params) as run:
        run.tags({"gauntlet.dataset_digest": report.data["digest"]})
        _log(run, report, context.title)
    return run.id


def keep_in(run_id: str, report: Report, dataset: str) -> None:
    """Log a report into a run of others, which stays open; `SettingError`, and nothing logged, when it is not free."""
    guest.check(run_id, FILES)
    run = tracking.Run(run_id, report.name)
    run.tags(tracking.tags_of(STAGE, dataset, report.name, _knowledge(report), report.data["digest"]))
    run.params({f"{PREFIX}{name}": value for name, value in report.settings.items()})
    _log(run, report, dataset)


def _log(run: tracking.Run, report: Report, title: str) -> None:
    """Input, metrics, tags, curve, outcomes, records and the page."""
    run.input({**report.data, "name": title}, "evaluation")
    parts = report.clean, report.loaded, report.results, report.doubts, report.notes, report.certified
    log_alone(run, AttackFindings(report.name, *parts))
    run.text(PAGE, report.to_html())


def _knowledge(report: Report) -> str:
    return report.results[0].knowledge
