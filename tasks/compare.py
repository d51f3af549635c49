"""Bring the measurements of a suite together: one table, two charts, one report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact

from gauntlet.evaluation import effort
from gauntlet.measurement import Measurement, table
from gauntlet.report import document, figures
from tasks import backdoor
from tasks.context import Context
from tasks.progress import shown
from tasks.recorded import recorded
from tasks.stage import step
from tasks.store import connection, origin, tracking

Rows = list[dict[str, Any]]
"""Of a table: the cells by column."""
BARS, CURVES = "Accuracy by condition", "Robust accuracy by budget"


@step("compare")
def compare(context: Context, suite: str, title: str, problems: Sequence[str] = ()) -> str:
    """Compare all finished stages of the run `suite`; logs to a run of its own and to the suite's; its run's id."""
    with tracking.run("compare", context, None, name="compare") as run, shown("compare"):
        stages = _stages(suite)
        measured = _unique([m for stage in stages for m in stage["measurements"]])
        content = _report(context, stages, measured, title, problems)
        for opened in (run, tracking.Run(suite, "")):
            _log(opened, content)
    _show_in_prefect(measured, title)
    return run.id


def _stages(suite: str) -> list[dict[str, Any]]:
    """The records of every finished stage, with its name, stage and id."""
    stages = []
    for child in tracking.children(suite):
        facts = {
            "id": child.info.run_id,
            "name": child.info.run_name,
            "stage": child.data.tags["gauntlet.stage"],
        }
        stages.append(facts | {"tags": child.data.tags} | tracking.records(child.info.run_id))
    return stages


def _unique(measured: list[Measurement]) -> list[Measurement]:
    """A quantity that several stages measured alike (clean accuracy) counts once."""
    seen = {(m.model, m.label, m.n, m.value): m for m in reversed(measured)}
    return [m for m in measured if seen.pop((m.model, m.label, m.n, m.value), None)]


def _report(
    context: Context,
    stages: list[dict[str, Any]],
    measured: list[Measurement],
    title: str,
    problems: Sequence[str],
) -> document.Report:
    shown_figures: dict[str, bytes] = {}
    if measured:
        bars = figures.accuracy_by_condition(_largest(measured), "Accuracy by condition, at the largest budgets")
        curves = [m for m in measured if m.condition != "worst case"]
        chance = 1 / context.load().n_classes
        lines = figures.robustness_curves(curves, "Robust accuracy by budget", chance)
        shown_figures |= {BARS: figures.png(bars), CURVES: figures.png(lines)}
    shown_figures |= _pictures(stages)
    rows = {
        "Cost": _cost(stages),
        effort.CAPTION: _efforts(stages),
        "Code scan (Bandit)": _scan(stages),
        "Scan for unknown backdoors": _backdoors(stages),
        "Can the numbers be believed?": _verdicts(stages),
    }
    return document.Report(title, _facts(context), measured, shown_figures, document.tables(rows), list(problems))


def _largest(measured: list[Measurement]) -> list[Measurement]:
    """Of every condition the largest budget: the curves show the others."""
    largest: dict[tuple[str, str | None], float] = {}
    for m in measured:
        largest[m.condition, m.norm] = max(m.eps or 0.0, largest.get((m.condition, m.norm), 0.0))
    return [m for m in measured if (m.eps or 0.0) == largest[m.condition, m.norm]]


def _facts(context: Context) -> dict[str, Any]:
    dataset = context.load()
    facts: dict[str, Any] = {"data set": f"{dataset.name} ({dataset.source})", "data set digest": dataset.digest[:16]}
    facts |= {
        "training images": len(dataset.x_train),
        "test images": len(dataset.x_test),
        "seed": context.seed,
    }
    return facts | {"commit": origin.git_commit()[:12] or "none"} | origin.versions()


def _pictures(stages: list[dict[str, Any]]) -> dict[str, bytes]:
    """Examples of what the attacks and the poisoning did, from their own runs."""
    pictures = {}
    for stage in stages:
        below = tracking.children(stage["id"]) if stage["stage"] == "attack" else []
        runs = [(child.info.run_name, child.info.run_id) for child in below] or [(stage["name"], stage["id"])]
        for name, run_id in runs:
            picture = tracking.find(run_id, "examples.png")
            if picture and not name.startswith("transfer") and stage["tags"].get("gauntlet.scenario") != "transfer":
                pictures[f"Examples: {name}"] = picture.read_bytes()
    return pictures


def _backdoors(stages: list[dict[str, Any]]) -> Rows:
    return [backdoor.row(stage["model"], stage["id"]) for stage in stages if stage["stage"] == "backdoor"]


def _cost(stages: list[dict[str, Any]]) -> Rows:
    columns = {
        "train/seconds": "training (s)",
        "train/cost_ratio": "ratio to baseline",
        "clean/inference_ms": "inference (ms per image)",
        "clean/loss": "clean loss",
    }
    trained = [stage for stage in stages if "train/seconds" in stage["metrics"]]
    rows = [{"model": s["model"]} | {name: s["metrics"].get(key) for key, name in columns.items()} for s in trained]
    return [{k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _efforts(stages: list[dict[str, Any]]) -> Rows:
    """Of every white-box stage with more than one attack."""
    several = [stage for stage in stages if len(stage.get("efforts", ())) > 1]
    return effort.shown([{"evaluation": stage["name"]} | row for stage in several for row in stage["efforts"]])


def _scan(stages: list[dict[str, Any]]) -> Rows:
    scans = [stage["metrics"] for stage in stages if stage["stage"] == "scan"]
    return [{key.removeprefix("scan/"): int(value) for key, value in row.items()} for row in scans]


def _verdicts(stages: list[dict[str, Any]]) -> Rows:
    judged = [stage for stage in stages if "gauntlet.validity" in stage["tags"]]
    return [
        {
            "evaluation": stage["name"],
            "verdict": stage["tags"]["gauntlet.validity"],
            "reasons": stage["tags"].get("gauntlet.reasons") or "none",
            "notes": stage["tags"].get("gauntlet.notes") or "none",
        }
        for stage in judged
    ]


def _log(run: tracking.Run, content: document.Report) -> None:
    run.json("metrics.json", document.to_json(content))
    run.text("report.md", document.to_markdown(content))
    run.text("report.html", document.to_html(content))
    for name, caption in (("comparison.png", BARS), ("robustness_curve.png", CURVES)):
        picture = content.figures.get(caption)
        if isinstance(picture, bytes):
            run.file(name, picture)
    if content.measurements:
        run.table("comparison.json", table(content.measurements))


def _show_in_prefect(measured: list[Measurement], title: str) -> None:
    if measured and recorded():
        rows: Any = table(measured).reset_index().to_dict("records")
        create_table_artifact(key="comparison", table=rows, description=title)


def show(suite: str, uri: str) -> None:
    """Print the comparison, the report's path and the command of MLflow's page, to standard error."""
    from rich.console import Console

    measured = tracking.records(suite)["measurements"]
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    console.print(document.to_text(measured))
    page = tracking.find(suite, "report.html")
    console.print(f"Report: {page}\nMLflow: {connection.ui_command(uri)}", soft_wrap=True, highlight=False)
