"""Poison a training set with a backdoor and measure whether the model learned it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import GivenModel, PoisoningSettings, TrainingSettings, context, result


class PoisonConfig(TrainingSettings, PoisoningSettings, GivenModel):
    """Settings of the flow `poison`."""

    model: str | None = Field(None, description="the clean model to compare with; trained first when not given")


@flow(PoisonConfig)
def poison(config: PoisonConfig) -> dict[str, Any]:
    """Train on a poisoned training set; report clean accuracy, and attack success beside a clean model's."""
    from tasks import outcome
    from tasks.poison import poison as poison_task
    from tasks.source import Source
    from tasks.store import registry
    from tasks.train import train

    where, how = context(config), config.training()
    clean = config.model or registry.model_uri(train(where, how))
    run_id = poison_task(where, how, config.poisoning, Source(model=clean, trust=config.trust))
    outcome.show(config.tracking_uri, run_id)
    return result(run_id, config)


if __name__ == "__main__":
    main(poison)
