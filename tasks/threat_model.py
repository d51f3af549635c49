"""Check a threat model: every claimed mitigation against runs, tests, scans, settings and commands."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gauntlet.assurance.stride.evidence import Ran, gather
from gauntlet.assurance.stride.threat_model import load
from gauntlet.errors import GateError
from gauntlet.report import threat_report
from gauntlet.report.threat_report import Judged
from tasks.context import Context
from tasks.progress import shown
from tasks.stage import step
from tasks.store import connection, origin, tracking

TAG = "gauntlet.threat_model"


@step("threat model")
def threat_model(context: Context, path: str, strict: bool = False) -> str:
    """Check the threat model of a file and log what was found; returns the run's id.

    Raises `GateError`, after logging, when a check of a threat that is claimed enforced failed; with `strict` also
    when evidence is missing or an acceptance is over.
    """
    model, uri = load(Path(path)), connection.connect(context.tracking_uri)
    params = {"threat_model": Path(path).name, "strict": strict}
    with tracking.run("scan", context, None, name="threat model", scenario="threat-model", params=params) as run:
        with shown("threat model") as progress:
            evidence = gather(model.checks(), lambda tags: _ran(tags, uri), store=uri, progress=progress)
        now = datetime.now(UTC)
        judged = threat_report.assess(model, evidence, now.date())
        problems = [line for one in judged for line in one.problems(strict)]
        facts = _facts(judged, path, strict, now)
        run.text("threat_model.md", threat_report.to_markdown(model, judged, facts, problems))
        run.text("report.html", threat_report.to_html(model, judged, facts, problems))
        metrics = {f"threats/{status}": float(count) for status, count in threat_report.counts(judged).items()}
        run.record([], metrics, threats=threat_report.to_json(judged), problems=problems)
        run.tags({TAG: "failed" if problems else "ok"})
        _show(run.id, judged, problems)
        if problems:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise GateError(f"the threat model does not stand: {problems[0]}{more}")
    return run.id


def _ran(tags: Mapping[str, str], uri: str) -> Ran | None:
    """The newest finished run with these tags, as evidence."""
    run = tracking.newest(tags)
    if run is None:
        return None
    when = datetime.fromtimestamp(run.info.start_time / 1_000, UTC).date().isoformat()
    return Ran(run.info.run_id, tracking.page_of(run, uri), run.data.metrics, run.data.tags, when)


def _facts(judged: Sequence[Judged], path: str, strict: bool, now: datetime) -> dict[str, Any]:
    everything = {(e.kind, e.says): e for one in judged for e in one.evidence}.values()
    counts = {name: sum(e.outcome == name for e in everything) for name in threat_report.MARKS}
    return {
        "file": Path(path).name,
        "checked": f"{now:%Y-%m-%d %H:%M} UTC",
        "commit": origin.git_commit()[:12] or "none",
        "threats": len(judged),
        "checks": ", ".join(f"{count} {name}" for name, count in counts.items()),
        "missing evidence": "fails (strict)" if strict else "makes a threat partial",
    }


def _show(run_id: str, judged: Sequence[Judged], problems: Sequence[str]) -> None:
    """The table and the claims that do not hold, on standard error; the pages are in the run."""
    from rich.console import Console

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 130)
    console.print(threat_report.to_text(judged))
    lacking = {f"{e.says}: {e.detail}" for one in judged for e in one.of("missing")}
    if lacking:
        console.print(f"No evidence yet of {len(lacking)} checks (--strict fails on them):", style="yellow")
        for line in sorted(lacking):
            console.print(f"  ? {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(f"  ✗ {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    page = tracking.find(run_id, "report.html")
    console.print(f"Report: {page or run_id}", soft_wrap=True, highlight=False, markup=False)
