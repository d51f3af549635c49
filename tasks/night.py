"""The page of a night: verdict and reasons, the gate, what changed, the last nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_markdown_artifact

from gauntlet.evaluation.provenance import code_digest
from gauntlet.gate import trend
from gauntlet.gate.trend import Night
from gauntlet.quiet import printable
from gauntlet.report import document
from tasks import backdoor, gate
from tasks.context import Context
from tasks.gate import Evaluated
from tasks.recorded import recorded
from tasks.stage import step
from tasks.store import connection, origin, registry, tracking

if TYPE_CHECKING:
    import pandas as pd

    from gauntlet.measurement import Measurement

Sides = tuple[tuple[str, Evaluated | None], ...]
"""Candidate and champion, with their roles."""
FILE, GATE = "night.json", "Candidate against champion"
SHOWN = ["condition", "n", "champion %", "candidate %", "difference [90 %], points"]
"""Columns of the gate that fit a terminal, behind the verdict's mark."""
MARKS = {"FAIL": "[bold red]✗[/bold red]", "INCONCLUSIVE": "[yellow]?[/yellow]"}


@step("page")
def page(
    context: Context,
    night: str,
    candidate: Evaluated | None,
    champion: Evaluated | None,
    judged: str,
    attacks: str,
    runs: Mapping[str, str],
    nights: int = 30,
    notes: Sequence[str] = (),
) -> None:
    """Write `report.html`, `report.md` and `metrics.json` of the run `night`, tag it, and tell Prefect."""
    record, opened = tracking.records(judged), tracking.Run(night, "")
    now = _night(context, night, candidate, record, attacks)
    opened.json(FILE, now.model_dump())
    past = _past(context, night, nights)
    drops = trend.attributed(past[-1] if past else None, now)
    sides = ("candidate", candidate), ("champion", champion)
    remarks = [note for role, one in sides if one for note in one.notes(role)]
    content = document.Report(
        f"Nightly: {record['verdict']}",
        _facts(context, candidate, champion, now),
        [m for role, one in sides for m in _measured(role, one)],
        {
            "The last nights": trend.figure([*past, now], "Correct images, night by night"),
            **_scanned(sides, record["reasons"]),
        },
        _tables(record, runs, sides),
        [*record["reasons"], *drops, *notes, *remarks],
    )
    _log(opened, content, record, now)
    if recorded():
        create_markdown_artifact(document.to_markdown(content), key="nightly", description=content.title)


def _measured(role: str, evaluated: Evaluated | None) -> list[Measurement]:
    """What was measured of a model, in the row of its role: its name is that of an earlier night, maybe."""
    if not evaluated or not evaluated.attack:
        return []
    return [m.model_copy(update={"model": role}) for m in tracking.records(evaluated.attack)["measurements"]]


def _night(context: Context, run_id: str, candidate: Evaluated | None, record: dict[str, Any], attacks: str) -> Night:
    facts = {"dataset_digest": context.load().digest, "attacks": attacks, "code_digest": code_digest()}
    if candidate:
        facts["model_digest"] = registry.digest_of(candidate.model)
    shares = {who: {row["condition"]: row[who] for row in record["conditions"]} for who in ("candidate", "champion")}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    facts |= origin.versions()
    return Night(run_id=run_id, started=started, verdict=record["verdict"], facts=facts, **shares)


def _past(context: Context, now: str, most: int) -> list[Night]:
    """The nights before this one that were judged, oldest first; failed ones too, as theirs are verdicts as well."""
    runs = tracking.search(context, {"stage": "nightly"}, "tags.`gauntlet.verdict` != ''", ended=False)
    paths = [tracking.find(run_id, FILE) for run_id in runs if run_id != now]
    return [Night.model_validate_json(path.read_text()) for path in paths if path][-(most - 1) :] if most > 1 else []


def _facts(context: Context, candidate: Evaluated | None, champion: Evaluated | None, now: Night) -> dict[str, Any]:
    dataset = context.load()
    facts = {"candidate": candidate.model if candidate else "none", "champion": champion.model if champion else "none"}
    facts |= {"data set": dataset.name, "data set digest": dataset.digest[:16], "seed": str(context.seed)}
    return facts | {"commit": origin.git_commit()[:12] or "none", "at": now.started} | origin.versions()


def _scanned(sides: Sides, reasons: Sequence[str]) -> dict[str, bytes]:
    """The candidate triggers of both models, if the scan finds one of them backdoored or newly suspicious."""
    runs = {role: one.backdoor for role, one in sides if one and one.backdoor}
    accused = any(tracking.records(run_id)["accused"] for run_id in runs.values())
    if not (accused or any(backdoor.SUSPICIOUS in line for line in reasons)):
        return {}
    drawn = {f"Backdoor scan: {role}": backdoor.picture(run_id) for role, run_id in runs.items()}
    return {caption: png for caption, png in drawn.items() if png}


def _tables(judged: dict[str, Any], runs: Mapping[str, str], sides: Sides) -> dict[str, pd.DataFrame]:
    rows = {
        GATE: gate.shown(judged["conditions"]),
        "Scan for unknown backdoors": [backdoor.row(role, one.backdoor) for role, one in sides if one and one.backdoor],
        "Runs of this night": [{"stage": stage, "run": run_id} for stage, run_id in runs.items()],
    }
    return document.tables(rows)


def _log(run: tracking.Run, content: document.Report, record: dict[str, Any], now: Night) -> None:
    run.text("report.html", _html(content, record))
    run.text("report.md", document.to_markdown(content))
    kept = ("verdict", "reasons", "conditions", "needed")
    run.json("metrics.json", document.to_json(content) | {name: record[name] for name in kept})
    shares = {f"{who}/{_plain(k)}": v for who in ("candidate", "champion") for k, v in getattr(now, who).items()}
    run.metrics(shares)
    if record["conditions"]:
        run.table("gate.json", content.tables[GATE])
    # last: only with its verdict is it a night that later ones look back to
    run.tags({"gauntlet.verdict": record["verdict"], "gauntlet.reasons": "; ".join(record["reasons"])})


def _html(content: document.Report, record: dict[str, Any]) -> str:
    """The page: verdict, reasons and gate at the top."""
    below = {caption: table for caption, table in content.tables.items() if caption != GATE}
    rows = content.tables.get(GATE)
    header = None if rows is None else [list(rows.columns), rows.to_numpy().tolist()]
    last = [note for note in content.notes if note not in record["reasons"]]
    shown = replace(content, tables=below, notes=last)
    top = {"verdict": record["verdict"], "reasons": record["reasons"], "gate": header}
    return document.to_html(shown, "night.html.j2", **top)


def _plain(condition: str) -> str:
    """A condition as MLflow can name a metric."""
    return condition.replace("/", " of ").replace("∞", "inf")


def show(night: str, uri: str) -> None:
    """Print the gate, the verdict and the page's path, to standard error."""
    from rich.console import Console
    from rich.table import Table

    record, console = tracking.records(night), Console(stderr=True)
    rows = gate.shown(record["conditions"])
    if rows:
        grid = Table(box=None, pad_edge=False, caption="percent of n images; differences in points")
        for heading in ("", "condition", "n", "champion", "candidate", "difference [90 %]"):
            grid.add_column(heading, justify="left" if heading in ("", "condition") else "right", no_wrap=True)
        for row in rows:
            grid.add_row(MARKS.get(row["verdict"], "[green]✓[/green]"), *(row[name] for name in SHOWN))
        console.print(grid)
    console.print(f"[bold]{record['verdict']}[/bold]", highlight=False)
    for line in record["notes"]:
        console.print(f"  {printable(line)}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {tracking.find(night, 'report.html')}", soft_wrap=True, highlight=False)
    console.print(f"MLflow: {connection.ui_command(uri)}", soft_wrap=True, highlight=False)
