"""Attack a model with a battery: every attack at every budget, and the worst case per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet import evaluation, figures, validity
from gauntlet.attacks import AnyAttack, Attack
from gauntlet.evaluation import Attacked, Clean, WorstCase
from gauntlet.quiet import load_tensorflow
from tasks import tracking
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Loaded, Source
from tasks.trained import log_predictions

if TYPE_CHECKING:
    from gauntlet.datasets import Dataset
    from gauntlet.measurement import Measurement
    from gauntlet.progress import Progress

ITERATIVE_IMAGES = 1_000
"""Test images that an iterative attack gets when no number is asked for."""


@dataclass(frozen=True)
class Findings:
    """All that a battery found out about one model."""

    model: str
    clean: Clean
    loaded: Loaded
    results: Sequence[Attacked]
    doubts: Sequence[validity.Doubt]

    @property
    def worst(self) -> list[WorstCase]:
        """The worst case per image, by norm and budget."""
        return evaluation.worst_case(self.results)

    def accuracy(self, result: Attacked) -> Measurement:
        """Robust accuracy of a result with its verdict."""
        verdict, reasons = validity.verdict_of(result, self.doubts)
        return result.accuracy(self.model).model_copy(update={"validity": verdict, "reasons": reasons})

    def clean_accuracy(self) -> Measurement:
        """Clean accuracy over the whole test set."""
        return evaluation.share(self.clean.correct, model=self.model, condition="clean")


@task(name="attack", cache_policy=NO_CACHE)
def attack(
    context: Context,
    target: Source,
    attacks: Sequence[AnyAttack],
    eps: Sequence[float] = (),
    n: int | None = None,
    *,
    role: str = "model",
    source: Source | None = None,
    images_of: str | None = None,
    save_images: bool = False,
) -> str:
    """Attack `target`; returns the run's id. A battery's run holds the worst case, its children one attack each.

    Transfer instead of white-box: images made against `source`, or those that the attack run `images_of` saved.
    """
    load_tensorflow()
    dataset = context.load()
    transfer = bool(source or images_of)
    name = f"{'transfer to' if transfer else 'attack'} {role}"
    budgets = {budget for one in attacks for budget in one.budgets(eps, dataset.input_shape[-1])}
    params = context.params() | {"eps": sorted(budgets), "n": n, "source": source.model if source else images_of}
    params |= target.model_dump() | {"attack": [a.model_dump() for a in attacks]}
    scenario = "transfer" if transfer else "white-box"
    with tracking.run("attack", context, dataset, name=name, model=role, scenario=scenario, params=params) as run:
        with shown(name) as progress:
            loaded = target.load(dataset)
            clean = evaluation.evaluate(loaded.classifier, dataset.x_test, dataset.y_test, dataset.class_names)
            results = _results(context, dataset, loaded, clean, attacks, eps, n, source, images_of, progress)
        findings = _judge(role, dataset, loaded, clean, results)
        _log(run, context, dataset, findings, params)
        if save_images:
            run.arrays("adversarial.npz", **_saved(results))
    return run.id


def _results(
    context: Context,
    dataset: Dataset,
    loaded: Loaded,
    clean: Clean,
    attacks: Sequence[Attack],
    eps: Sequence[float],
    n: int | None,
    source: Source | None,
    images_of: str | None,
    progress: Progress,
) -> list[Attacked]:
    """The battery's results, from fresh images or from saved ones."""
    for one in attacks:
        for budget in one.budgets(eps, dataset.input_shape[-1]):
            one.check_budget(budget)
    if images_of:
        saved = tracking.arrays(images_of, "adversarial.npz")
        return _rescored(loaded, dataset, clean, attacks, eps, saved)

    def subset(one: Attack) -> np.ndarray:
        usual = min(ITERATIVE_IMAGES, len(dataset.x_test)) if one.iterative else None
        return dataset.test_subset(n if n is not None else usual, context.seed)

    made_on = source.load(dataset).classifier if source else None
    data = dataset.x_test, dataset.y_test, subset
    more = {"clean": clean.predictions, "source": made_on, "progress": progress}
    return evaluation.battery(loaded.classifier, attacks, *data, eps, context.seed, **more)  # type: ignore[arg-type]


def _saved(results: Sequence[Attacked]) -> dict[str, np.ndarray]:
    """Images and their indices, by attack, norm and budget."""
    found: dict[str, np.ndarray] = {}
    for result in results:
        found[f"images {_key(result.attack, result.eps)}"] = result.images
        found[f"index {_key(result.attack, result.eps)}"] = result.index
    return found


def _rescored(
    loaded: Loaded,
    dataset: Dataset,
    clean: Clean,
    attacks: Sequence[Attack],
    eps: Sequence[float],
    saved: Mapping[str, np.ndarray],
) -> list[Attacked]:
    """The same images, scored on another model."""
    found = []
    for one in attacks:
        for budget in one.budgets(eps, dataset.input_shape[-1]):
            images, index = (saved[f"{kind} {_key(one, budget)}"] for kind in ("images", "index"))
            data = dataset.x_test, dataset.y_test, index
            before = clean.predictions
            found.append(evaluation.score(loaded.classifier, one, *data, budget, images, "transfer", clean=before))
    return found


def _key(attack: Attack, eps: float) -> str:
    return f"{attack.name} {attack.norm} {eps:.6g}"


def _judge(role: str, dataset: Dataset, loaded: Loaded, clean: Clean, results: Sequence[Attacked]) -> Findings:
    """The results and what speaks against them."""
    zero = evaluation.zero_gradients(loaded.classifier, dataset.x_test[clean.correct], dataset.y_test[clean.correct])
    evidence = validity.Evidence(results, dataset.n_classes, zero, loaded.outputs == "probabilities (log)")
    return Findings(role, clean, loaded, results, validity.doubts(evidence))


def _log(run: tracking.Run, context: Context, dataset: Dataset, findings: Findings, params: dict[str, Any]) -> None:
    """The run of the battery, and below it one of each attack when there are several."""
    kinds = list(dict.fromkeys(result.attack for result in findings.results))
    for kind in kinds:
        mine = [result for result in findings.results if result.attack == kind]
        child = params | {"attack": kind.model_dump(), "eps": [result.eps for result in mine]}
        name = f"{kind.name} on {run.model}"
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
    _log_summary(run, dataset, findings, several=len(kinds) > 1)


def _metrics(result: Attacked, findings: Findings) -> dict[str, float]:
    """The contract's metrics of one attack at one budget."""
    accuracy = findings.accuracy(result)
    if result.knowledge == "transfer":
        names = {"transfer/accuracy": accuracy.value, "transfer/loss": result.loss}
        return names | {"transfer/accuracy_low": accuracy.low, "transfer/accuracy_high": accuracy.high}
    success = result.success_rate(findings.model)
    return {
        "robust/accuracy": accuracy.value,
        "robust/accuracy_low": accuracy.low,
        "robust/accuracy_high": accuracy.high,
        "robust/loss": result.loss,
        "robust/linf_max": float(result.linf.max()),
        "robust/l2_mean": float(result.l2.mean()),
        "robust/seconds": result.seconds,
    } | ({"robust/attack_success_rate": success.value} if success else {})


def _log_examples(run: tracking.Run, dataset: Dataset, result: Attacked, suffix: str) -> None:
    """Pictures and predictions of one attack at one budget; the last budget's files have no suffix."""
    what = f"{result.attack.name} at {result.eps:.4g} on {run.model}"
    title = f"{what} ({result.knowledge})" if result.attack.adversary else what
    shown_clean = dataset.x_test[result.index]
    predictions = result.labels, result.clean_predictions, result.predictions
    run.figure(
        f"examples{suffix}.png",
        figures.adversarial_examples(shown_clean, result.images, *predictions, dataset.class_names, title),
    )
    counts, report = evaluation.tables(result.labels, result.predictions, dataset.class_names)
    attacked = Clean(result.labels, result.predictions, 0.0, counts, report)
    log_predictions(run, attacked, dataset, f"{title}, n = {len(result.index):,}", suffix)


def _log_summary(run: tracking.Run, dataset: Dataset, findings: Findings, several: bool) -> None:
    """What concerns the whole battery: clean accuracy, worst case, verdict, outcomes, curve, records."""
    import pandas as pd

    accuracies = [findings.accuracy(result) for result in findings.results]
    worst = [case.accuracy(findings.model) for case in findings.worst] if several else []
    measured = [findings.clean_accuracy(), *accuracies, *worst]
    verdict, reasons = validity.verdict(findings.doubts)
    run.tags({"gauntlet.validity": verdict, "gauntlet.reasons": "; ".join(reasons)})
    run.tags({"gauntlet.input_range": findings.loaded.input_range, "gauntlet.outputs": findings.loaded.outputs})
    for case in (case for case in worst if case.norm == worst[0].norm):
        metrics = {
            "robust/accuracy": case.value,
            "robust/accuracy_low": case.low,
            "robust/accuracy_high": case.high,
        }
        run.metrics(metrics, step=round(1_000 * (case.eps or 0)))
    run.table("outcomes.parquet", pd.concat([result.frame() for result in findings.results], ignore_index=True))
    title = f"{run.model}: robust accuracy by budget"
    run.figure("robustness_curve.png", figures.robustness_curves(measured, title, 1 / dataset.n_classes))
    clean = {"clean/accuracy": measured[0].value, "clean/loss": findings.clean.loss}
    run.record(measured, clean, **_summary(findings, verdict, reasons))


def _summary(findings: Findings, verdict: str, reasons: Sequence[str]) -> dict[str, Any]:
    """What `--json` prints beside the run and the settings."""
    shares = ("low", "high", "eps", "norm")
    worst = [case.accuracy(findings.model) for case in findings.worst]
    return {
        "n": max(len(result.index) for result in findings.results),
        "clean_accuracy": findings.clean_accuracy().value,
        "validity": verdict,
        "reasons": list(reasons),
        "results": [_row(result, findings) for result in findings.results],
        "worst_case": [{"robust_accuracy": m.value, "n": m.n} | m.model_dump(include=set(shares)) for m in worst],
    }


def _row(result: Attacked, findings: Findings) -> dict[str, Any]:
    accuracy = findings.accuracy(result)
    success = result.success_rate(findings.model)
    return {
        "attack": result.attack.name,
        "robust_accuracy": accuracy.value,
        "attack_success_rate": success.value if success else None,
        "seconds": result.seconds,
    } | accuracy.model_dump(include={"eps", "norm", "knowledge", "low", "high", "n", "validity", "reasons"})
