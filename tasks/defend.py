"""Train a defended model; it is attacked like any other."""

from __future__ import annotations

from collections.abc import Sequence

from gauntlet import limits
from gauntlet.defenses.training import AnyDefense
from gauntlet.poisoning import AnyPoisoning
from gauntlet.quiet import load_tensorflow
from gauntlet.training import fit
from tasks import mended
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.stage import step
from tasks.store import registry, tracking
from tasks.trained import record


@step("defend")
def defend(
    context: Context,
    training: fit.Training,
    defense: AnyDefense,
    baseline: Source,
    baseline_run: str | None = None,
    role: str | None = None,
    known: Sequence[AnyPoisoning] = (),
) -> str:
    """Apply `defense`, log and register the model as `role`; its cost is compared with `baseline_run`; the run's id.

    Of a defense that mends, or where triggers are `known`, it is told what is left of them and what that cost.
    """
    load_tensorflow()
    dataset = context.load()
    settings = training.resolved(len(dataset.x_train))
    role = role or defense.name
    params = (
        context.params()
        | settings.model_dump()
        | {"defense": defense.model_dump(), "baseline": baseline.model, "trust": baseline.trust}
    )
    params |= {"trigger": [one.model_dump() for one in known]} if known else {}
    with limits.within("loading the model"):
        clean_model = baseline.load(dataset).keras
    with (
        tracking.run("defend", context, dataset, name=role, scenario=defense.name, params=params) as run,
        shown(f"defend {role}") as progress,
    ):
        trained = defense.apply(dataset, settings, clean_model, progress)
        recorded = record(run, dataset, trained)
        metrics, more = recorded.metrics | cost_ratio(trained.seconds, baseline_run), {}
        if defense.mends or known:
            more["mended"] = mended.mended(dataset, known, clean_model, recorded.classifier)
            metrics |= mended.metrics(more["mended"])
        run.record([recorded.clean], metrics, **more)
    registry.register(run.id)
    return run.id


def cost_ratio(seconds: float, baseline_run: str | None) -> dict[str, float]:
    """The seconds of a training over those of the baseline's, where they are known."""
    usual = tracking.read(baseline_run).data.metrics.get("train/seconds") if baseline_run else None
    return {"train/cost_ratio": seconds / usual} if usual else {}
