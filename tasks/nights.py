"""The results of a list of nights: one line per model in the terminal, and one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict

from gauntlet.quiet import printable
from gauntlet.report import document
from tasks.recorded import recorded
from tasks.stage import step
from tasks.store import connection, tracking

VERDICTS = {0: ("PASS",), 3: ("INCONCLUSIVE",), 1: ("FAIL", "INVALID")}
"""The verdicts with which a night ends, by its exit status; any other way to end is none."""
FAILED = "FAILED"
MILD = (2, 3, 0)
"""Exit statuses that are better than 1, from bad to good."""


class Ended(BaseModel):
    """How the process of a night ended."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: int
    """Its exit status; less than 0, the signal that killed it."""
    seconds: float
    log: str


class Judged(Ended):
    """A night of a list, and what it says."""

    verdict: str
    reasons: tuple[str, ...] = ()
    run_id: str | None = None

    @property
    def line(self) -> str:
        """The night in a line."""
        why = "; ".join(self.reasons) or "nothing was lost"
        return printable(f"{self.verdict:<12} {self.name:<24} {self.seconds / 60:5.1f} min  {why}")


def judged(parent: str, ended: Ended) -> Judged:
    """The verdict of a night below the run `parent`; without one, why it failed."""
    run = tracking.below(parent, "nightly").get(ended.name)
    tags: dict[str, str] = run.data.tags if run else {}
    verdict = tags.get("gauntlet.verdict", FAILED)
    if not run or verdict not in VERDICTS.get(ended.status, ()):
        return Judged(**ended.model_dump(), verdict=FAILED, reasons=(reason(ended),), run_id=run and run.info.run_id)
    reasons = tuple(tracking.records(run.info.run_id).get("reasons", ()))
    return Judged(**ended.model_dump(), verdict=verdict, reasons=reasons, run_id=run.info.run_id)


def reason(ended: Ended) -> str:
    """Why a night without a verdict ended: its last error, otherwise its status."""
    if ended.status < 0:
        return f"killed by signal {-ended.status}"
    path = Path(ended.log)
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    errors = [line for line in lines if line.startswith(("error: ", "failed: "))]
    return errors[-1].partition(": ")[2] if errors else f"exit status {ended.status}, see {ended.log}"


def worst(nights: Sequence[Ended]) -> int:
    """The exit status of them all: a night that failed (1) before one that was refused (2), then inconclusive (3)."""
    statuses = {one.status for one in nights}
    return 1 if statuses - set(MILD) else next((status for status in MILD if status in statuses), 0)


def counts(nights: Sequence[Judged]) -> dict[str, int]:
    """How many nights have which verdict."""
    return dict(Counter(one.verdict for one in nights))


def summary(nights: Sequence[Judged]) -> str:
    """The same in words."""
    return ", ".join(f"{count} {verdict}" for verdict, count in counts(nights).items())


@step("nights")
def page(run_id: str, nights: Sequence[Judged]) -> None:
    """Write `report.html`, `report.md` and `metrics.json` of the run of a list of nights, and tell Prefect."""
    opened, content = tracking.Run(run_id, ""), _report(nights)
    verdict = {0: "PASS", 3: "INCONCLUSIVE"}.get(worst(nights), "FAIL")
    reasons = [f"{one.name}: {'; '.join(one.reasons)}" for one in nights if one.reasons]
    html = document.to_html(content, "night.html.j2", verdict=verdict, reasons=reasons, gate=None)
    opened.text("report.html", html)
    opened.text("report.md", document.to_markdown(content))
    opened.json("metrics.json", document.to_json(content) | {"nights": [one.model_dump(mode="json") for one in nights]})
    opened.metrics({f"nights/{name}": count for name, count in counts(nights).items()})
    opened.tags({"gauntlet.verdict": verdict})
    if recorded():
        create_markdown_artifact(document.to_markdown(content), key="nights", description=content.title)


def _report(nights: Sequence[Judged]) -> document.Report:
    rows = [m.model_copy(update={"model": one.name}) for one in nights if one.run_id for m in _candidate(one.run_id)]
    minutes = sum(one.seconds for one in nights) / 60
    facts: dict[str, str | int | float] = {"models": len(nights), "minutes, all together": f"{minutes:.1f}"}
    return document.Report(
        f"Nightlies: {summary(nights)}", facts, rows, tables=document.tables({"Nights": _rows(nights)})
    )


def _candidate(run_id: str) -> list[Any]:
    return [m for m in tracking.records(run_id)["measurements"] if m.model == "candidate"]


def _rows(nights: Sequence[Judged]) -> list[dict[str, Any]]:
    return [
        {"model": one.name, "verdict": one.verdict, "minutes": one.seconds / 60}
        | {"why": "; ".join(one.reasons), "run": one.run_id}
        for one in nights
    ]


def show(run_id: str, uri: str) -> None:
    """Print the page's path, to standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print(f"Report: {tracking.find(run_id, 'report.html')}", soft_wrap=True, highlight=False)
    console.print(f"MLflow: {connection.ui_command(uri)}", soft_wrap=True, highlight=False)
