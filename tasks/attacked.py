"""What a battery leaves behind: metrics, pictures, outcomes and records, in one run and its children."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.certify import Certified
from gauntlet.evaluation import effort
from gauntlet.evaluation.battery import spared
from gauntlet.evaluation.clean import Clean, loss_metrics, share, tables
from gauntlet.evaluation.outcome import Attacked, WorstCase, worst_case
from gauntlet.measurement import budget
from gauntlet.models.loaded import Loaded
from gauntlet.report import curves, figures, pictures
from gauntlet.validity import evidence, verdicts
from tasks.context import Context
from tasks.store import tracking
from tasks.trained import log_predictions

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.measurement import Measurement


TRANSFER = " (transfer)"
"""Behind the name of a run whose images were made against another model."""


@dataclass(frozen=True)
class AttackFindings:
    """All that a battery found out about one model."""

    model: str
    clean: Clean
    loaded: Loaded
    results: Sequence[Attacked]
    doubts: Sequence[evidence.Doubt]
    notes: Sequence[str] = ()
    certified: Sequence[Certified] = ()

    @property
    def worst(self) -> list[WorstCase]:
        """The worst case per image, by norm and budget."""
        return worst_case(self.results)

    def accuracy(self, result: Attacked) -> Measurement:
        """Robust accuracy of a result with its verdict."""
        verdict, reasons = verdicts.verdict_of(result, self.doubts)
        return result.accuracy(self.model).model_copy(update={"validity": verdict, "reasons": reasons})

    def worst_accuracy(self, case: WorstCase) -> Measurement:
        """The accuracy that is left in the worst case, with the share of the same images that is proven."""
        proven = spared(self.certified, len(self.clean.labels)).get((case.norm, case.eps))
        measured = case.accuracy(self.model)
        return measured.with_proven(int(proven[case.index].sum())) if proven is not None else measured

    def clean_accuracy(self) -> Measurement:
        """Clean accuracy over the whole test set."""
        return share(self.clean.correct, model=self.model, condition="clean")


def log(
    run: tracking.Run, context: Context, dataset: Dataset, findings: AttackFindings, params: dict[str, Any]
) -> None:
    """The run of the battery, and below it one of each attack when there are several."""
    kinds = list(dict.fromkeys(result.attack for result in findings.results))
    optimality = {(one.attack, one.norm): one.optimality for one in effort.efforts(findings.results)}
    for kind in kinds:
        mine = [result for result in findings.results if result.attack == kind]
        child = params | {"attack": kind.model_dump(), "eps": [result.eps for result in mine]}
        name = f"{mine[0].named} on {run.model}{TRANSFER * (mine[0].knowledge == 'transfer')}"
        below = tracking.run(
            "attack",
            context.below(run.id),
            dataset,
            name=name,
            model=run.model,
            scenario=kind.name,
            params=child,
        )
        with nullcontext(run) if len(kinds) == 1 else below as one:
            for result in mine:
                one.metrics(_metrics(result, findings), step=round(1_000 * result.eps))
                _log_examples(one, dataset, result, "" if result is mine[-1] else f"-eps-{result.eps:.4g}")
            if (share_of_worst := optimality.get((mine[0].named, kind.norm))) is not None:
                one.metrics({"robust/optimality": share_of_worst})
            _log_distances(one, mine[-1])
    _log_summary(run, findings, several=len(kinds) > 1)


def log_alone(run: tracking.Run, findings: AttackFindings) -> None:
    """All of a battery in a run without children: of several attacks the worst case has the metrics."""
    several = len({result.attack for result in findings.results}) > 1
    for result in () if several else findings.results:
        run.metrics(_metrics(result, findings), step=round(1_000 * result.eps))
    _log_summary(run, findings, several)


def _metrics(result: Attacked, findings: AttackFindings) -> dict[str, float]:
    """The contract's metrics of one attack at one budget; in a cascade only what is its own."""
    accuracy = findings.accuracy(result)
    effort = {"robust/seconds": result.seconds, "robust/calls_mean": result.mean_calls}
    if not result.alone:
        return effort | {"cascade/tried": int(result.tried.sum()), "cascade/broken": int(result.broken.sum())}
    if result.knowledge == "transfer":
        names = {"transfer/accuracy": accuracy.value} | loss_metrics("transfer/loss", result.losses)
        return names | {"transfer/accuracy_low": accuracy.low, "transfer/accuracy_high": accuracy.high}
    success = result.success_rate(findings.model)
    return (
        {
            "robust/accuracy": accuracy.value,
            "robust/accuracy_low": accuracy.low,
            "robust/accuracy_high": accuracy.high,
            "robust/linf_max": float(result.linf.max()),
            "robust/l2_mean": float(result.l2.mean()),
        }
        | loss_metrics("robust/loss", result.losses)
        | effort
        | ({"robust/attack_success_rate": success.value} if success else {})
    )


def _log_distances(run: tracking.Run, result: Attacked) -> None:
    """Of a search for the smallest perturbation: how far away the boundary is."""
    if result.distance is None:
        return
    away = result.distance[result.tried & (result.clean_predictions == result.labels)]
    finite = away[np.isfinite(away)]
    shares = {"distance/found": len(finite) / max(len(away), 1)}
    quartiles = zip(("q1", "median", "q3"), np.percentile(finite, (25, 50, 75)), strict=True) if len(finite) else ()
    run.metrics(shares | {f"distance/{name}": float(value) for name, value in quartiles})
    title = f"{result.named} on {run.model}: smallest L{result.attack.norm} perturbation"
    run.figure("distances.png", curves.distances(away, title, result.attack.norm))


def _log_examples(run: tracking.Run, dataset: Dataset, result: Attacked, suffix: str) -> None:
    """Pictures and predictions of one attack at one budget; the last budget's files have no suffix."""
    what = f"{result.named} at {budget(result.eps)} on {run.model}"
    title = f"{what} ({result.knowledge})" if result.attack.adversary else what
    rows = np.flatnonzero(result.tried[: len(result.images)])
    shown_clean, images = dataset.x_test[result.index[rows]], result.images[rows]
    predictions = result.labels[rows], result.clean_predictions[rows], result.predictions[rows]
    run.figure(
        f"examples{suffix}.png",
        pictures.adversarial_examples(shown_clean, images, *predictions, dataset.class_names, title),
    )
    counts, report = tables(result.labels, result.predictions, dataset.class_names)
    attacked = Clean(result.labels, result.predictions, result.losses, counts, report)
    log_predictions(run, attacked, dataset, f"{title}, n = {len(result.index):,}", suffix)


def _log_summary(run: tracking.Run, findings: AttackFindings, several: bool) -> None:
    """What concerns the whole battery: clean accuracy, worst case, verdict, outcomes, curve, records."""
    import pandas as pd

    accuracies = [findings.accuracy(result) for result in findings.results if result.alone]
    certified = [one.accuracy(findings.model) for one in findings.certified]
    worst = [findings.worst_accuracy(case) for case in findings.worst] if several or certified else []
    measured = [findings.clean_accuracy(), *certified, *accuracies, *worst]
    verdict, reasons = verdicts.verdict(findings.doubts)
    run.tags({"gauntlet.validity": verdict, "gauntlet.reasons": "; ".join(reasons)})
    loaded = findings.loaded
    properties = ("input_range", "outputs", "layout", "temperature")
    run.tags({f"gauntlet.{name}": str(getattr(loaded, name)) for name in properties})
    run.tags({"gauntlet.access": loaded.classifier.access, "gauntlet.notes": "; ".join(findings.notes)})
    for case in (case for case in worst if case.norm == worst[0].norm):
        metrics = {
            "robust/accuracy": case.value,
            "robust/accuracy_low": case.low,
            "robust/accuracy_high": case.high,
        }
        run.metrics(metrics, step=round(1_000 * (case.eps or 0)))
    run.table("outcomes.parquet", pd.concat([result.frame() for result in findings.results], ignore_index=True))
    _log_certified(run, findings)
    clean = findings.clean
    whole = {"label": clean.labels, "prediction": clean.predictions, "correct": clean.correct}
    run.table("clean.parquet", pd.DataFrame({"index": np.arange(len(clean.labels))} | whole))
    title = f"{run.model}: robust accuracy by budget"
    run.figure("robustness_curve.png", figures.robustness_curves(measured, title, 1 / loaded.classifier.nb_classes))
    metrics = {"clean/accuracy": measured[0].value} | loss_metrics("clean/loss", clean.losses)
    run.record(measured, metrics, **_summary(findings, verdict, reasons))


def _log_certified(run: tracking.Run, findings: AttackFindings) -> None:
    """Certified accuracy by budget, of the strongest certificate where there are several, and what was proven."""
    import pandas as pd

    if not findings.certified:
        return
    for one in sorted(findings.certified, key=lambda one: float(one.proven.mean())):
        accuracy = one.accuracy(findings.model)
        ends = {"": accuracy.value, "_low": accuracy.low, "_high": accuracy.high}
        section = "certified" if one.certifier.itself else "smoothed"
        metrics = {f"{section}/accuracy{end}": value for end, value in ends.items()}
        counts = {f"{section}/seconds": one.seconds, f"{section}/broken": float(one.broken.sum())}
        run.metrics(metrics | counts, step=round(1_000 * one.eps))
    run.table("certified.parquet", pd.concat([one.frame() for one in findings.certified], ignore_index=True))


def _certified_row(one: Certified, model: str) -> dict[str, Any]:
    """One certificate at one budget, for `--json`."""
    accuracy = one.accuracy(model)
    facts = {"certifier": one.certifier.name, "certified_accuracy": accuracy.value, "seconds": one.seconds}
    facts |= {"broken": int(one.broken.sum()), "open": int((~one.proven & ~one.broken).sum())}
    return facts | accuracy.model_dump(include={"eps", "norm", "low", "high", "n"})


def _summary(findings: AttackFindings, verdict: str, reasons: Sequence[str]) -> dict[str, Any]:
    """What `--json` prints beside the run and the settings."""
    shares = ("low", "high", "eps", "norm", "proven")
    worst = [findings.worst_accuracy(case) for case in findings.worst]
    return {
        "n": max(len(result.index) for result in findings.results),
        "clean_accuracy": findings.clean_accuracy().value,
        "validity": verdict,
        "reasons": list(reasons),
        "notes": list(findings.notes),
        "input_range": findings.loaded.input_range,
        "outputs": findings.loaded.outputs,
        "layout": findings.loaded.layout,
        "temperature": findings.loaded.temperature,
        "access": findings.loaded.classifier.access,
        "results": [_row(result, findings) for result in findings.results],
        "efforts": [asdict(one) for one in effort.efforts(findings.results)],
        "certified": [_certified_row(one, findings.model) for one in findings.certified],
        "worst_case": [{"robust_accuracy": m.value, "n": m.n} | m.model_dump(include=set(shares)) for m in worst],
    }


def _row(result: Attacked, findings: AttackFindings) -> dict[str, Any]:
    """One attack at one budget; of a cascade's later attacks the accuracy is what they and all before them left."""
    accuracy = findings.accuracy(result)
    success = result.success_rate(findings.model)
    return {
        "attack": result.attack.name,
        "label": result.named,
        "attack_id": result.attack.id,
        "robust_accuracy": accuracy.value,
        "attack_success_rate": success.value if success else None,
        "attack_success_rate_n": success.n if success else None,
        "seconds": result.seconds,
        "tried": int(result.tried.sum()),
        "broken": int(result.broken.sum()),
        "calls": result.mean_calls,
    } | accuracy.model_dump(include={"eps", "norm", "knowledge", "low", "high", "n", "validity", "reasons"})
