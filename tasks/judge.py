"""Judge a published report: every figure and every conclusion against what its stages left in their records."""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from gauntlet.gate.verdict import FLOORS
from gauntlet.measurement import MISSING, Measurement, wilson
from gauntlet.report import document, figures
from gauntlet.studies.comparison import Comparison, definition
from gauntlet.studies.conclusions import RULES, Measured, conclude
from gauntlet.studies.study import BackdoorStage, Figure, Study
from tasks import backdoor
from tasks.context import Context
from tasks.stage import step
from tasks.store import origin, tracking

BARS = "Accuracy by condition, at the largest budgets"


class Outcome(BaseModel):
    """The result of a stage: the run with its records, or why there is none."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Says what was computed; a stage of another study with the same key is this one."""
    run: str | None = None
    problem: str = ""


@step("judge")
def judge_study(context: Context, run_id: str, study: Study, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Judge `study` by its stages and log the report to its run `run_id`; returns the rows of its two tables."""
    measured = {name: read(outcome.run) if outcome.run else None for name, outcome in outcomes.items()}
    other = None if context.title == study.dataset else f"measured on {context.title}, published of {study.dataset}"
    rows = [_figure(study, figure, measured[figure.stage], other) for figure in study.figures]
    claims = _conclusions(study, measured)
    verdicts = Counter(row["verdict"] for row in [*rows, *claims])
    everything = _unique([m for one in measured.values() if one for m in one.measurements])
    content = _report(context, run_id, study, outcomes, measured, rows, claims, everything)
    run = tracking.Run(run_id, "")
    run.tags({f"gauntlet.verdict.{name.replace(' ', '_')}": count for name, count in verdicts.items()})
    counts = {f"verdict/{name.replace(' ', '_')}": float(count) for name, count in verdicts.items()}
    stages = {name: outcome.model_dump() for name, outcome in outcomes.items()}
    run.record(everything, counts, figures=rows, conclusions=claims, stages=stages)
    _log(run, content)
    return {"report": study.name, "figures": rows, "conclusions": claims, "markdown": document.to_markdown(content)}


def combine(run_id: str, title: str, judged: Sequence[Mapping[str, Any]]) -> str:
    """All studies' reports as one Markdown page, kept in the run `run_id`."""
    figures, claims = ([row for one in judged for row in one[key]] for key in ("figures", "conclusions"))
    parts = [f"# {title}\n", _tally("figures", figures), _tally("conclusions", claims), ""]
    for one in judged:
        lines = one["markdown"].splitlines()
        parts += [f"#{line}" if line.startswith("#") else line for line in lines] + [""]
    text = "\n".join(parts).rstrip() + "\n"
    tracking.Run(run_id, "").text("five-reports.md", text)
    tracking.Run(run_id, "").record([], {}, figures=figures, conclusions=claims)
    return text


def _tally(what: str, rows: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(row["verdict"] for row in rows)
    return f"- **{what}**: {', '.join(f'{count} {verdict}' for verdict, count in counts.items()) or 'none'}"


def read(run_id: str) -> Measured:
    """What a stage's run holds: logged metrics, recorded measurements, and success rates with their intervals.

    A battery's attacks have runs of their own: their metrics come with the attack's name, as `fgsm/robust/loss`.
    """
    recorded = tracking.records(run_id)
    metrics = dict(tracking.read(run_id).data.metrics) | recorded["metrics"]
    for child in tracking.children(run_id):
        attack = child.data.tags.get("gauntlet.scenario", "")
        metrics |= {f"{attack}/{name}": value for name, value in child.data.metrics.items()}
    rates = [_success_rate(row, recorded) for row in recorded.get("results", [])]
    measurements = [*recorded["measurements"], *(rate for rate in rates if rate)]
    return Measured(metrics | _scan(run_id, metrics), measurements, recorded.get("verdict"))


def _scan(run_id: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Findings of a scan in all, and by rule (`scan/B301`)."""
    scan = tracking.find(run_id, "bandit.json") if "scan/lines" in metrics else None
    if not scan:
        return {}
    rules = Counter(finding["test_id"] for finding in json.loads(scan.read_text())["results"])
    return {"scan/issues": float(rules.total())} | {f"scan/{rule}": float(count) for rule, count in rules.items()}


def _success_rate(row: Mapping[str, Any], recorded: Mapping[str, Any]) -> Measurement | None:
    """The success rate of an attack as a measurement; its images are those that can be fooled."""
    rate, n = row.get("attack_success_rate"), row.get("attack_success_rate_n")
    if rate is None or not n or row["attack"] in FLOORS:
        return None
    low, high = wilson(round(rate * n), n)
    facts = {key: row[key] for key in ("eps", "norm", "knowledge")}
    bounds: dict[str, Any] = {"value": rate, "low": low, "high": high, "n": n}
    return Measurement(model=recorded["model"], condition=row["label"], metric="attack_success_rate", **facts, **bounds)


def _figure(study: Study, figure: Figure, measured: Measured | None, other: str | None) -> dict[str, Any]:
    """The row of a published figure; `other` says why none of the study can be compared, if so."""
    value = figure.find(measured) if measured else None
    missing = "stage failed" if measured is None else None if value else "not measured"
    reason = missing if missing == "stage failed" else figure.reason or other or missing
    row: dict[str, Any] = {"report": study.name, "figure": figure.name, "unit": figure.unit, "published": figure.share}
    row |= {"measured": None, "low": None, "high": None, "n": None, "difference": None, "compared": None}
    if value:
        row |= {"measured": value.value, "low": value.low, "high": value.high, "n": value.n}
        row |= {"difference": value.value - figure.share}
    if reason or not value:
        return row | {"verdict": "not comparable", "reason": reason}
    comparison = figure.compared(value, study.images)
    return row | {"compared": _facts_of(comparison), "verdict": comparison.verdict, "reason": ""}


def _facts_of(comparison: Comparison) -> dict[str, Any]:
    """What was compared, with what is allowed, for JSON: an end that is not known is null."""
    low, high = (end if math.isfinite(end) else None for end in (comparison.found.low, comparison.found.high))
    return {
        "scale": comparison.scale,
        "value": comparison.found.value,
        "low": low,
        "high": high,
        "allowed": list(comparison.allowed),
    }


def _conclusions(study: Study, measured: Mapping[str, Measured | None]) -> list[dict[str, Any]]:
    rows = []
    for one in study.conclusions:
        ruling = conclude(one.rule, {role: measured[stage] for role, stage in one.stages.items()})
        facts = {"report": study.name, "claim": one.claim, "verdict": ruling.verdict, "evidence": ruling.evidence}
        rows.append(facts | {"rule": one.rule})
    return rows


def _unique(measured: Sequence[Measurement]) -> list[Measurement]:
    """What several stages measured alike (clean accuracy) counts once."""
    return list({(m.model, m.label, m.n, m.value): m for m in measured}.values())


def _report(
    context: Context,
    run_id: str,
    study: Study,
    outcomes: Mapping[str, Outcome],
    measured: Mapping[str, Measured | None],
    rows: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    everything: Sequence[Measurement],
) -> document.Report:
    tables = {
        "Published figures": _shown_figures(rows),
        "Conclusions": [{key: row[key] for key in ("claim", "verdict", "evidence", "rule")} for row in claims],
        "Scan for unknown backdoors": _scans(study, outcomes),
        "Cost of every trained model": _cost(measured),
        "All that was measured": _shown_measurements(everything),
    }
    problems = [f"stage failed: {name}: {one.problem}" for name, one in outcomes.items() if one.problem]
    rules = dict.fromkeys(row["rule"] for row in claims)
    notes = [*problems, *study.notes, *GENERAL, *(f"{rule}: {inspect.getdoc(RULES[rule])}" for rule in rules)]
    pictures = _pictures(study, outcomes) | _bars(everything) | _times(measured)
    facts = _facts(context, run_id, study)
    return document.Report(f"{study.name}: {study.title}", facts, [], pictures, document.tables(tables), notes)


GENERAL = (
    "Published accuracies under attack are of the attacked images alone. Ours count an image only when it is right "
    "clean and attacked, which can be lower by the few images that an attack happens to put right.",
    definition(),
    "A conclusion holds when all of the 95 % interval says so, does not hold when none of it does, and else it is "
    "undecided; the worst of several attacks has the interval that holds for all of them at once (Bonferroni).",
)


def _facts(context: Context, run_id: str, study: Study) -> dict[str, Any]:
    dataset = context.load()
    info = tracking.read(run_id).info
    seconds = ((info.end_time or tracking.time_ms()) - info.start_time) / 1_000
    facts: dict[str, Any] = {"source": study.source, "data set": f"{dataset.name} ({dataset.source})"}
    facts |= {"training images": len(dataset.x_train), "test images": len(dataset.x_test), "seed": context.seed}
    return facts | {"time of this study (s)": round(seconds), "commit": origin.git_commit()[:12] or "none"}


def _shown_figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "figure": row["figure"],
            "unit": row["unit"],
            "published": _number(row, "published"),
            "measured": _number(row, "measured"),
            "95 % interval": _interval(row),
            "n": f"{row['n']:,}" if row["n"] else MISSING,
            "difference": _number(row, "difference", "+"),
            "compared [95 %]": _compared(row),
            "allowed": _allowed(row),
            "verdict": row["verdict"] + (f" ({row['reason']})" if row["reason"] else ""),
        }
        for row in rows
    ]


def _number(row: Mapping[str, Any], key: str, sign: str = "") -> str:
    """A figure in its unit: shares in percent with two decimals, others with four digits."""
    if row[key] is None:
        return MISSING
    return f"{100 * row[key]:{sign}.2f}" if row["unit"] == "percent" else f"{row[key]:{sign}.4g}"


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None or row["low"] == row["high"]:
        return MISSING
    return f"[{_number(row, 'low')}, {_number(row, 'high')}]"


def _compared(row: Mapping[str, Any]) -> str:
    """The interval of the difference, in the figure's unit, or of the ratio."""
    comparison = row["compared"]
    if not comparison or comparison["low"] == comparison["high"]:
        return MISSING
    ends = [_scaled(row, comparison[end]) if comparison[end] is not None else "unknown" for end in ("low", "high")]
    return f"[{', '.join(ends)}]"


def _allowed(row: Mapping[str, Any]) -> str:
    if not row["compared"]:
        return MISSING
    low, high = row["compared"]["allowed"]
    return f"[{_scaled(row, low)}, {_scaled(row, high)}]"


def _scaled(row: Mapping[str, Any], value: float) -> str:
    if row["compared"]["scale"] == "ratio":
        return f"×{value:.2f}"
    return f"{100 * value:+.2f}" if row["unit"] == "percent" else f"{value:+.4g}"


def _scans(study: Study, outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """A row for every model that was scanned."""
    scanned = {stage.model: outcomes[stage.id].run for stage in study.stages if isinstance(stage, BackdoorStage)}
    return [backdoor.row(model, run) for model, run in scanned.items() if run]


def _cost(measured: Mapping[str, Measured | None]) -> list[dict[str, Any]]:
    """Seconds of every training, and how many times the first one's that is."""
    seconds = {name: one.metrics["train/seconds"] for name, one in measured.items() if one and _trained(one)}
    first = next(iter(seconds.values()), 1.0)
    return [
        {"model": name, "training (s)": f"{value:.3g}", "ratio to baseline": f"{value / first:.2f}"}
        | {"inference (ms per image)": f"{_metrics(measured, name).get('clean/inference_ms', float('nan')):.3g}"}
        for name, value in seconds.items()
    ]


def _times(measured: Mapping[str, Measured | None]) -> dict[str, bytes]:
    """Training times as a chart, where there are several to compare."""
    seconds = {name: one.metrics["train/seconds"] for name, one in measured.items() if one and _trained(one)}
    drawn = figures.training_times(seconds, "Training times") if len(seconds) > 1 else None
    return {"Training times": figures.png(drawn)} if drawn else {}


def _trained(measured: Measured) -> bool:
    return "train/seconds" in measured.metrics and "clean/accuracy" in measured.metrics


def _metrics(measured: Mapping[str, Measured | None], name: str) -> Mapping[str, float]:
    metric = measured[name]
    return metric.metrics if metric else {}


def _shown_measurements(everything: Sequence[Measurement]) -> list[dict[str, Any]]:
    return [
        {
            "model": m.model,
            "condition": m.label,
            "knowledge": m.knowledge,
            "percent [95 %]": m.text,
            "n": f"{m.n:,}",
        }
        for m in everything
    ]


def _pictures(study: Study, outcomes: Mapping[str, Outcome]) -> dict[str, bytes]:
    """The pictures a study lists; a battery keeps those of its attacks in the runs below it."""
    pictures: dict[str, bytes] = {}
    for picture in study.pictures:
        run = outcomes[picture.stage].run
        below = [(f": {child.info.run_name}", child.info.run_id) for child in tracking.children(run)] if run else []
        for suffix, run_id in [("", run), *below] if run else []:
            path = tracking.find(run_id, picture.artifact)
            if path:
                pictures[f"{picture.caption}{suffix}"] = path.read_bytes()
    return pictures


def _bars(everything: Sequence[Measurement]) -> dict[str, bytes]:
    """Accuracy of every model under every condition at its largest budget."""
    shares = [m for m in everything if m.metric == "accuracy" and m.condition != "worst case"]
    largest: dict[tuple[str, str], float] = {}
    for m in shares:
        largest[m.condition, m.knowledge] = max(m.eps or 0.0, largest.get((m.condition, m.knowledge), 0.0))
    shown = [m for m in shares if (m.eps or 0.0) == largest[m.condition, m.knowledge]]
    return {BARS: figures.png(figures.accuracy_by_condition(shown, BARS))} if shown else {}


def _log(run: tracking.Run, content: document.Report) -> None:
    run.text("report.md", document.to_markdown(content))
    run.text("report.html", document.to_html(content))
    run.text("report.txt", _plain_text(content))
    picture = content.figures.get(BARS)
    if isinstance(picture, bytes):
        run.file("comparison.png", picture)


def _plain_text(content: document.Report) -> str:
    """The report for a reader without Markdown: facts, tables in columns, notes."""
    parts = [content.title, "=" * len(content.title), *(f"{key}: {value}" for key, value in content.facts.items())]
    for caption, frame in content.tables.items():
        parts += ["", caption, "-" * len(caption), frame.to_string(index=False, justify="left")]
    return "\n".join([*parts, "", "Notes", "-----", *content.notes]) + "\n"
