"""Fit a detector to clean images, and see what it makes of attacked ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gauntlet import limits
from gauntlet.defenses.detection import AnyDetector, FittedDetector
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.evaluation.outcome import Attacked
from gauntlet.models.access import Target
from gauntlet.progress import part
from gauntlet.quiet import load_tensorflow
from gauntlet.report import curves, figures
from gauntlet.roc import Detection, Rate, Scores, after_rejection, evaluate_detector
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import tracking

if TYPE_CHECKING:
    import pandas as pd

    from gauntlet.data.datasets import Dataset
    from gauntlet.progress import Progress


class Scored(NamedTuple):
    """One attack at one budget, as the detector sees it."""

    attacked: Attacked
    scores: Scores
    detection: Detection

    @property
    def condition(self) -> str:
        """Such as `fgsm 0.1`."""
        return self.attacked.accuracy("").label


@dataclass(frozen=True)
class DetectorFindings:
    """All that was found out about one detector, on the same images clean and attacked."""

    fitted: FittedDetector
    scores_clean: Scores
    correct: np.ndarray
    """Which clean images the classifier gets right, (n,)."""
    found: Sequence[Scored]

    @property
    def worst(self) -> list[Scored]:
        """The attack that is hardest to detect, at each budget of the norm that was tried first."""
        hardest: dict[float, Scored] = {}
        adversaries = [one for one in self.found if one.attacked.attack.adversary]
        for one in (one for one in adversaries if one.attacked.attack.norm == adversaries[0].attacked.attack.norm):
            known = hardest.get(one.attacked.eps, one)
            hardest[one.attacked.eps] = min(known, one, key=lambda scored: scored.detection.auc.value)
        return list(hardest.values())


@step("detect")
def detect(
    context: Context,
    detector: AnyDetector,
    target: Source,
    battery: Battery,
    *,
    role: str | None = None,
) -> str:
    """Fit `detector`, attack `target`, score both kinds of images; returns the run's id.

    The images are made white-box against the classifier by an attacker who knows of no detector (`adaptive: False`):
    one who does may evade both. Several attacks are a run each, below one that holds the hardest to detect.
    """
    load_tensorflow()
    dataset, role = context.load(), role or detector.name
    battery = battery.model_copy(update={"cascade": False}).without_early_stop()
    params = context.params() | target.model_dump() | battery.model_dump() | {"adaptive": False}
    params |= {"detector": detector.model_dump()}
    name = f"detect {role}"
    battery.check(dataset.input_shape, len(dataset.x_test))
    with limits.within("loading the model", battery.max_seconds, battery.max_memory):
        classifier = target.load(dataset).classifier
    with tracking.run("detect", context, dataset, name=name, model=role, scenario="white-box", params=params) as run:
        run.tags({"gauntlet.adaptive": False})
        with shown(name) as progress:
            results = _attack(context, dataset, classifier, battery, part(progress, 0, 0.4))
            fitted = detector.fit(dataset, context.seed, part(progress, 0.4, 0.95))
            findings = _score(dataset, fitted, results)
        _log(run, context, dataset, findings, params)
    return run.id


def _attack(
    context: Context, dataset: Dataset, classifier: Target, battery: Battery, progress: Progress
) -> list[Attacked]:
    """The battery's images, every attack on the same ones."""
    sizes = [battery.images(one, len(dataset.x_test)) for one in battery.attack]
    index = context.images(min((n for n in sizes if n is not None), default=None))
    data = dataset.x_test, dataset.y_test, classifier.labels(dataset.x_test)
    job = Job(classifier, *data, context.seed, keep=None)
    return run(battery, job, lambda _: index, progress)


def _score(dataset: Dataset, fitted: FittedDetector, results: Sequence[Attacked]) -> DetectorFindings:
    """The detector's scores of the clean images and of each attack's."""
    first = results[0]
    clean = fitted.scores(dataset.x_test[first.index])
    scored = []
    for result in results:
        scores = fitted.scores(result.images)
        scored.append(Scored(result, scores, evaluate_detector(clean, scores, fitted.threshold)))
    return DetectorFindings(fitted, clean, first.clean_predictions == first.labels, scored)


def _log(
    run: tracking.Run, context: Context, dataset: Dataset, findings: DetectorFindings, params: dict[str, Any]
) -> None:
    """The run of the detector, and below it one of each attack when there are several."""
    kinds = list(dict.fromkeys(one.attacked.attack for one in findings.found))
    if len(kinds) > 1:
        for one in findings.worst:
            run.metrics(_metrics(one, findings), step=_step(one))
    for kind in kinds:
        child = {k: v for k, v in params.items() if k != "attack"} | {"attack": kind.model_dump()}
        facts = {"name": f"{kind.name} seen by {run.model}", "model": run.model, "scenario": kind.name, "params": child}
        below = tracking.run("detect", context.below(run.id), dataset, **facts)  # type: ignore[arg-type]
        with nullcontext(run) if len(kinds) == 1 else below as opened:
            mine = [one for one in findings.found if one.attacked.attack == kind]
            opened.tags({"gauntlet.adaptive": False})
            for one in mine:
                opened.metrics(_metrics(one, findings), step=_step(one))
            if len(kinds) > 1:
                _log_pictures(opened, findings, mine)
    _log_pictures(run, findings, findings.found)
    _log_fit(run, findings.fitted)
    _log_summary(run, findings)


def _step(one: Scored) -> int:
    return round(1_000 * one.attacked.eps)


def _metrics(one: Scored, findings: DetectorFindings) -> dict[str, float]:
    """The contract's metrics of a detector against one attack at one budget."""
    return _spelt(_rates(one.detection) | _cost(findings), "detect/")


def _rates(detection: Detection) -> dict[str, Rate]:
    return {
        "auc": detection.auc,
        "tpr_at_fpr_5": detection.tpr_at_fpr_5,
        "tpr_at_fpr_1": detection.tpr_at_fpr_1,
        "tpr_at_threshold": detection.tpr_at_threshold,
    }


def _cost(findings: DetectorFindings) -> dict[str, Rate]:
    """What the threshold costs on clean images, whatever the attack."""
    threshold = findings.fitted.threshold
    service = after_rejection(findings.scores_clean, findings.correct, threshold)
    return {
        "fpr_at_threshold": findings.found[0].detection.fpr_at_threshold,
        "clean_accuracy_after_rejection": service.accuracy,
    } | ({"clean_accuracy_of_accepted": service.accuracy_accepted} if service.accuracy_accepted else {})


def _spelt(rates: dict[str, Rate], prefix: str = "") -> dict[str, float]:
    """Rates and their intervals as plain numbers."""
    ends = ("", "_low", "_high")
    return {
        f"{prefix}{name}{end}": number for name, rate in rates.items() for end, number in zip(ends, rate, strict=True)
    }


def _log_pictures(run: tracking.Run, findings: DetectorFindings, scored: Sequence[Scored]) -> None:
    """ROC curves and histograms of scores."""
    n = len(findings.scores_clean)
    title = f"{run.model}: clean or attacked, n = {n:,} each; the attacker knows of no detector"
    run.figure("roc.png", curves.roc_curves({one.condition: one.detection for one in scored}, title))
    attacked = {one.condition: one.scores for one in scored}
    threshold = findings.fitted.threshold
    run.figure("scores.png", curves.score_histogram(findings.scores_clean, attacked, threshold, title))


def _log_fit(run: tracking.Run, fitted: FittedDetector) -> None:
    """Losses of every epoch, as metrics and as a figure."""
    for epoch, values in enumerate(zip(*fitted.history.values(), strict=True), 1):
        run.metrics({f"train/{name}": value for name, value in zip(fitted.history, values, strict=True)}, step=epoch)
    run.figure("training_curves.png", figures.training_curves(fitted.history, f"{run.model}: training"))


def _log_summary(run: tracking.Run, findings: DetectorFindings) -> None:
    """Scores of every image, and what does not depend on the attack."""
    run.table("outcomes.parquet", _outcomes(findings))
    cost = _spelt(_cost(findings), "detect/")
    run.record(
        [],
        cost | {"train/seconds": findings.fitted.seconds},
        n=len(findings.correct),
        clean_accuracy=float(findings.correct.mean()),
        threshold=findings.fitted.threshold,
        adaptive=False,
        results=[_row(one) | _spelt(_cost(findings)) for one in findings.found],
    )


def _outcomes(findings: DetectorFindings) -> pd.DataFrame:
    """One row an image and condition, the clean images first."""
    import pandas as pd

    first = findings.found[0].attacked.frame()
    nothing: dict[str, Any] = {"attack": "clean", "eps": 0.0, "norm": "", "knowledge": "none", "linf": 0.0, "l2": 0.0}
    clean = first.assign(prediction=first.clean_prediction, correct=findings.correct, **nothing)
    frames = [clean.assign(score=findings.scores_clean)]
    frames += [one.attacked.frame().assign(score=one.scores) for one in findings.found]
    return pd.concat(frames, ignore_index=True)


def _row(one: Scored) -> dict[str, Any]:
    """What `--json` prints of one attack at one budget; the robust accuracy is that of the classifier alone."""
    accuracy = one.attacked.accuracy("")
    return {"attack": one.attacked.attack.name, "robust_accuracy": accuracy.value, "adaptive": False} | (
        accuracy.model_dump(include={"eps", "norm", "knowledge", "n"}) | _spelt(_rates(one.detection))
    )
