"""Poison the training set, train on it, and measure whether the backdoor was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet import limits
from gauntlet.evaluation.clean import loss_metrics, predict, share
from gauntlet.poisoning import AnyPoisoning, Poisoned, Poisoning
from gauntlet.quiet import load_tensorflow
from gauntlet.report import figures, pictures
from gauntlet.training import fit
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import registry, tracking
from tasks.trained import record

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.measurement import Measurement
    from gauntlet.models.classifier import WhiteBox


@step("poison")
def poison(
    context: Context,
    training: fit.Training,
    poisoning: AnyPoisoning,
    baseline: Source,
    role: str = "poisoned",
) -> str:
    """Train on poisoned data and compare with the clean `baseline` on the same triggered images; the run's id."""
    load_tensorflow()
    dataset = context.load()
    settings, poisoning = training.resolved(len(dataset.x_train)), poisoning.aimed(dataset.n_classes)
    params = (
        context.params()
        | settings.model_dump()
        | {"poisoning": poisoning.model_dump(), "baseline": baseline.model, "trust": baseline.trust}
    )
    with limits.within("loading the model"):
        clean_model = baseline.load(dataset).white_box
    with (
        tracking.run("poison", context, dataset, name=role, scenario=poisoning.name, params=params) as run,
        shown(f"poison and train {role}") as progress,
    ):
        poisoned = poisoning.poison(dataset.x_train, dataset.y_train, context.seed)
        trained = fit.train(dataset, settings, x=poisoned.x, y=poisoned.y, progress=progress)
        recorded = record(run, dataset, trained)
        measured = backdoor(dataset, poisoning, {role: recorded.classifier, "baseline": clean_model})
        metrics = _metrics(measured, role, poisoned, dataset) | _target(poisoning, dataset)
        triggered = poisoning.trigger(dataset.x_test)
        metrics |= loss_metrics("backdoor/loss", predict(recorded.classifier, triggered, dataset.y_test)[1])
        _log_poison(run, dataset, poisoned, [recorded.clean, *measured])
        run.record([recorded.clean, *measured], recorded.metrics | metrics)
    registry.register(run.id)
    return run.id


def backdoor(dataset: Dataset, poisoning: Poisoning, models: dict[str, WhiteBox]) -> list[Measurement]:
    """Of each model: accuracy on triggered test images, and the share of those meant to change class that do.

    Nothing is wanted of an attack on availability: it has no success rate.
    """
    triggered, wanted = poisoning.trigger(dataset.x_test), poisoning.goal(dataset.y_test, dataset.n_classes)
    counted = dataset.y_test != wanted
    measurements = []
    for model, classifier in models.items():
        predictions = classifier.labels(triggered)
        facts: dict[str, Any] = {"model": model, "condition": "trigger"}
        measurements.append(share(predictions == dataset.y_test, **facts))
        if counted.any():
            measurements.append(share((predictions == wanted)[counted], metric="attack_success_rate", **facts))
    return measurements


def _metrics(measured: list[Measurement], role: str, poisoned: Poisoned, dataset: Dataset) -> dict[str, float]:
    mine = [m for m in measured if m.model == role]
    metrics = {
        "backdoor/accuracy": mine[0].value,
        "backdoor/poisoned_images": len(poisoned.index),
        "backdoor/poison_rate": len(poisoned.index) / len(dataset.x_train),
    }
    for success in mine[1:]:
        clean = next(m for m in measured if m.model != role and m.metric == success.metric)
        metrics |= {
            "backdoor/attack_success_rate": success.value,
            "backdoor/attack_success_rate_low": success.low,
            "backdoor/attack_success_rate_high": success.high,
            "backdoor/clean_model_success_rate": clean.value,
        }
    return metrics


def _target(poisoning: Poisoning, dataset: Dataset) -> dict[str, float]:
    """The class that is wanted of triggered images, where it is the same for all."""
    wanted = poisoning.goal(dataset.y_test, dataset.n_classes)
    targets = np.unique(wanted[wanted != dataset.y_test])
    return {"backdoor/target": float(targets[0])} if len(targets) == 1 else {}


def _log_poison(run: tracking.Run, dataset: Dataset, poisoned: Poisoned, measured: list[Measurement]) -> None:
    """The poisoned indices, examples of poisoned images, and success rate beside clean accuracy."""
    some = poisoned.index[:8]
    before, after = (dataset.x_train[some], dataset.y_train[some]), (poisoned.x[some], poisoned.y[some])
    title = f"{run.model}: {len(poisoned.index):,} of {len(dataset.x_train):,} training images poisoned"
    examples = pictures.poisoned_examples(before[0], after[0], before[1], after[1], dataset.class_names, title)
    run.figure("examples.png", examples)
    run.figure("backdoor.png", figures.backdoor_success(measured, f"{run.model}: backdoor"))
    run.json("poisoned_indices.json", np.asarray(poisoned.index).tolist())
