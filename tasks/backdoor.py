"""Scan a model for unknown backdoors."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gauntlet import limits
from gauntlet.backdoor import references, scan
from gauntlet.errors import ModelError
from gauntlet.progress import part
from gauntlet.quiet import load_tensorflow
from gauntlet.report import backdoors
from gauntlet.roc import Rate
from tasks.context import Context
from tasks.gate import Evaluated
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.loaded import Loaded


@step("backdoor")
def backdoor(context: Context, target: Source, settings: scan.ModelScan, role: str = "model") -> str:
    """Search a trigger for every class, compare with clean models, and judge; returns the run's id."""
    load_tensorflow()
    dataset = context.load()
    images = scan.parts(dataset, settings, context.seed)
    params = context.params() | target.model_dump() | {"scan": settings.model_dump()}
    with tracking.run("backdoor", context, dataset, name=f"backdoor scan of {role}", model=role, params=params) as run:
        with shown(f"scan {role}") as progress, limits.within("the scan"):
            loaded = target.load(dataset)
            _check_range(loaded, target)
            model, started = loaded.classifier, time.perf_counter()
            candidates = scan.candidates(model, images, settings, context.seed, part(progress, 0.0, 0.4))
            seconds = time.perf_counter() - started
            known = references.reference_models(
                model, dataset, images, settings, context.seed, part(progress, 0.4, 0.95)
            )
            result = scan.judge(model, candidates, images.held_out, known, settings)
        _log(run, dataset, result, known, seconds)
    return run.id


def _check_range(loaded: Loaded, target: Source) -> None:
    """A model that is shown other pixels than it was trained on has triggers that it does not have."""
    if loaded.better_range:
        what = f"it fits pixels {loaded.better_range} clearly better than {loaded.input_range}"
        raise ModelError(f"not scanned: {what}", where=target.model, fix=f"--input-range {loaded.better_range}")


def _log(run: tracking.Run, dataset: Dataset, result: scan.ScanResult, known: scan.References, seconds: float) -> None:
    """Metrics of the whole and of each class, both pictures, the triggers as arrays."""
    metrics = {"scan_model/p_value": result.p_value, "scan_model/seconds": seconds}
    metrics |= {"scan_model/references": float(len(known.accuracy))}
    metrics |= {} if result.target is None else {"scan_model/target": float(result.target)}
    for one in result.classes:
        values = {"statistic": one.statistic, "class_p_value": one.p_value, "success_rate": one.success_rate}
        run.metrics({f"scan_model/{name}": value for name, value in values.items()}, step=one.label)
    about = f"{run.model}: {result.verdict}"
    image = dataset.x_test[0]
    run.figure("triggers.png", backdoors.inverted_triggers(result, image, dataset.class_names, f"{about}, candidates"))
    title = f"{about}, compared with {len(known.accuracy)} clean models ({known.basis})"
    run.figure("classes.png", backdoors.class_values(result, dataset.class_names, title))
    arrays = {f"{one.kind}_{name}": getattr(one, name) for one in result.found for name in PARTS}
    run.arrays("triggers.npz", **arrays)
    run.tags({"gauntlet.verdict": result.verdict})
    run.record(
        [],
        metrics,
        verdict=result.verdict,
        target=result.target,
        p_value=result.p_value,
        reasons=result.reasons,
        accused=list(result.accused),
        basis=known.basis,
        reference_accuracy=list(known.accuracy),
        classes=[asdict(one) for one in result.classes],
    )


PARTS = ("mask", "pattern", "sizes", "values")
"""Of a kind of candidates, what is kept as arrays."""
SUSPICIOUS = "suspicious of a backdoor"
"""What a line of the gate says of a class."""
FIELDS = ("statistic", "p_value", "success_rate", "low", "high")
"""Of a class, what is printed."""


def summary(run_id: str, model: str) -> dict[str, Any]:
    """What `--json` prints of a scan."""
    kept = tracking.records(run_id)
    classes = [{"class": one["label"]} | {name: one[name] for name in FIELDS} for one in kept["classes"][:-1]]
    whole = {name: kept[name] for name in ("verdict", "target", "p_value", "reasons")}
    return {"run_id": run_id, "model": model} | whole | {"classes": classes}


def suspicious(
    context: Context, settings: scan.ModelScan, candidate: Evaluated, champion: Evaluated | None
) -> list[str]:
    """The classes of the candidate that became suspicious, a line each.

    Those that its scan accuses and the champion's does not; and those to which a probe sends most held-out images of
    the candidate and clearly fewer of the champion.
    """
    kept = tracking.records(str(candidate.backdoor))
    before = tracking.records(champion.backdoor)["accused"] if champion and champion.backdoor else []
    accused = dict(zip(kept["accused"], kept["reasons"], strict=False))
    new = {label: f"{SUSPICIOUS}: {reason}" for label, reason in accused.items() if label not in before}
    return [*(new | _became(context, settings, candidate, champion)).values()] if champion else [*new.values()]


def _became(context: Context, settings: scan.ModelScan, candidate: Evaluated, champion: Evaluated) -> dict[int, str]:
    """A line for each goal whose probe works on the candidate, where the champion's interval lies below."""
    arrays = tracking.arrays(str(candidate.backdoor), "triggers.npz")
    goals = scan.working_probes(arrays, settings)
    if not goals:
        return {}
    load_tensorflow()
    dataset = context.load()
    held_out = scan.parts(dataset, settings, context.seed).held_out
    with limits.within("comparing backdoors"):
        models = [Source(model=one.model).load(dataset).classifier for one in (candidate, champion)]
        rates = {goal: [scan.replayed(one, arrays, "probe", goal, held_out) for one in models] for goal in goals}
    risen = {goal: pair for goal, pair in rates.items() if pair[0].low > max(settings.works, pair[1].high)}
    k = len(dataset.class_names)
    classes = {goal: pair for goal, pair in risen.items() if goal < k}
    return {goal: _line(scan.goal_name(goal, k), *pair) for goal, pair in (classes or risen).items()}


def _line(name: str, now: Rate, before: Rate) -> str:
    shares = [f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" for value, low, high in (now, before)]
    text = f"one patch sends {shares[0]} of the candidate's held-out images there, {shares[1]} of the champion's"
    return f"{name} became {SUSPICIOUS}: {text}"


def row(role: str, run_id: str) -> dict[str, str]:
    """A scan in a line of a report's table."""
    kept = tracking.records(run_id)
    target = "" if kept["target"] is None else str(kept["target"])
    p = f"{kept['p_value']:.2g}"
    return {"model": role, "verdict": kept["verdict"], "class": target, "p (corrected)": p, "why": kept["reasons"][0]}


def picture(run_id: str) -> bytes | None:
    """The candidate triggers of every class as a PNG."""
    path = tracking.find(run_id, "triggers.png")
    return path.read_bytes() if path else None


def show(run_id: str) -> None:
    """The verdict, its reasons and every class, on standard error."""
    from rich.console import Console
    from rich.table import Table

    kept = tracking.records(run_id)
    grid = Table(title=f"{kept['verdict']} (p = {kept['p_value']:.2g}, corrected over goals and kinds)")
    for heading in ("class", "kind", "statistic", "p", "success on held-out images"):
        grid.add_column(heading, justify="left" if heading == "kind" else "right")
    for row in kept["classes"]:
        rate, ends = 100 * row["success_rate"], f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        cells = (
            scan.goal_name(row["label"], len(kept["classes"]) - 1).removeprefix("class "),
            row["kind"],
            f"{row['statistic']:+.1f}",
            f"{row['p_value']:.2g}",
            f"{rate:.1f} % {ends}",
        )
        grid.add_row(*cells, style="bold red" if row["label"] in kept["accused"] else "")
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)
    console.print(grid)
    for reason in kept["reasons"]:
        console.print(f"- {reason}", markup=False, highlight=False)
