"""The whole gauntlet: train, attack, poison, defend, scan, compare."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flows.command import flow, main
from flows.problems import Problems
from flows.settings import (
    BackdoorSettings,
    BatterySettings,
    CodeSettings,
    PoisoningSettings,
    TrainingSettings,
    WorkerSettings,
    context,
)
from gauntlet.defenses.training import AdversarialTraining, AnyDefense, OnTheFly


class SuiteConfig(TrainingSettings, BatterySettings, PoisoningSettings, BackdoorSettings, CodeSettings, WorkerSettings):
    """Settings of the flow `suite`."""

    defense: tuple[AnyDefense, ...] = Field(
        (AdversarialTraining(), OnTheFly()), description="NAME or NAME:key=value,key=value; repeatable"
    )
    fail_on: Literal["low", "medium", "high"] | None = Field(None, description="fail on findings this severe or worse")


@flow(SuiteConfig)
def suite(config: SuiteConfig) -> dict[str, Any]:
    """Train a baseline, attack, poison and defend it, scan the code, and compare all of it in one table."""
    from tasks.compare import compare
    from tasks.scan import scan
    from tasks.store import tracking
    from tasks.train import train

    where = context(config)
    params = config.model_dump(mode="json", exclude={"tracking_uri"})
    with tracking.run("suite", where, where.load(), name="suite", params=params) as parent:
        below, problems = where.below(parent.id), Problems()
        baseline = train(below, config.training())
        attacked = problems.caught("attack", _attack, config, below, baseline, "baseline", save_images=True)
        problems.caught("backdoor scan", _scan, config, below, baseline, "baseline")
        problems.caught("poison", _poison, config, below, baseline)
        for defense in config.defense:
            problems.caught(f"defend {defense.name}", _defend, config, below, baseline, attacked, defense)
        problems.caught("scan", scan, below, config.scan_path, config.fail_on)
        compare(below, parent.id, f"Gauntlet: {where.title}", problems.lines)
        problems.raise_first()
    return _summary(parent.id, config)


def _attack(config: SuiteConfig, below: Any, trained: str, role: str, **more: Any) -> str:
    from tasks.attack import attack
    from tasks.source import Source
    from tasks.store import registry

    target = Source(model=registry.model_uri(trained))
    return str(attack(below, target, config.battery(), role=role, **more))


def _poison(config: SuiteConfig, below: Any, baseline: str) -> None:
    from tasks.poison import poison
    from tasks.source import Source
    from tasks.store import registry

    poisoned: str = poison(below, config.training(), config.poisoning, Source(model=registry.model_uri(baseline)))
    _attack(config, below, poisoned, "poisoned")
    _scan(config, below, poisoned, "poisoned")


def _scan(config: SuiteConfig, below: Any, trained: str, role: str) -> None:
    """Look for a backdoor without knowing of one."""
    from tasks.backdoor import backdoor
    from tasks.source import Source
    from tasks.store import registry

    if settings := config.model_scan():
        backdoor(below, Source(model=registry.model_uri(trained)), settings, role)


def _defend(config: SuiteConfig, below: Any, baseline: str, attacked: str | None, defense: Any) -> None:
    """The defended model, attacked white-box and by the baseline's images."""
    from tasks.attack import attack
    from tasks.defend import defend
    from tasks.source import Source
    from tasks.store import registry

    source = Source(model=registry.model_uri(baseline))
    defended = defend(below, config.training(), defense, source, baseline)
    _attack(config, below, defended, defense.name)
    if attacked:
        target, battery = Source(model=registry.model_uri(defended)), config.battery().filled("gradients")
        adversaries = tuple(one for one in battery.attack if one.adversary)
        if adversaries:
            images = battery.model_copy(update={"attack": adversaries})
            attack(below, target, images, role=defense.name, images_of=attacked)


def _summary(run_id: str, config: SuiteConfig) -> dict[str, Any]:
    """What `--json` prints; the table and the next steps go to the terminal."""
    from tasks.compare import show
    from tasks.store import connection, tracking

    show(run_id, connection.connect(config.tracking_uri))
    recorded = tracking.records(run_id)
    measured = [m.model_dump(mode="json") for m in recorded["measurements"]]
    return config.model_dump(mode="json", exclude={"tracking_uri"}) | {
        "run_id": run_id,
        "measurements": measured,
    }


if __name__ == "__main__":
    main(suite)
