"""Train a defended model; it is attacked like any other."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from gauntlet import limits
from gauntlet.defenses.training import AnyDefense
from gauntlet.quiet import load_tensorflow
from gauntlet.training import fit
from tasks.context import Context
from tasks.progress import shown
from tasks.source import Source
from tasks.store import registry, tracking
from tasks.trained import record


@task(name="defend", cache_policy=NO_CACHE)
def defend(
    context: Context,
    training: fit.Training,
    defense: AnyDefense,
    baseline: Source,
    baseline_run: str | None = None,
    role: str | None = None,
) -> str:
    """Apply `defense`, log and register the model as `role`; its cost is compared with `baseline_run`; the run's id."""
    load_tensorflow()
    dataset = context.load()
    settings = training.resolved(len(dataset.x_train))
    role = role or defense.name
    params = (
        context.params()
        | settings.model_dump()
        | {"defense": defense.model_dump(), "baseline": baseline.model, "trust": baseline.trust}
    )
    with limits.within("loading the model"):
        clean_model = baseline.load(dataset).keras
    with (
        tracking.run("defend", context, dataset, name=role, scenario=defense.name, params=params) as run,
        shown(f"defend {role}") as progress,
    ):
        trained = defense.apply(dataset, settings, clean_model, progress)
        recorded = record(run, dataset, trained)
        run.record([recorded.clean], recorded.metrics | cost_ratio(trained.seconds, baseline_run))
    registry.register(run.id)
    return run.id


def cost_ratio(seconds: float, baseline_run: str | None) -> dict[str, float]:
    """The seconds of a training over those of the baseline's, where they are known."""
    usual = tracking.read(baseline_run).data.metrics.get("train/seconds") if baseline_run else None
    return {"train/cost_ratio": seconds / usual} if usual else {}
