"""Train a model on clean data and register it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import ROLE, TrainingSettings, context, result


class TrainConfig(TrainingSettings):
    """Settings of the flow `train`."""

    role: str = Field("baseline", pattern=ROLE, description="name the model is registered under")


@flow(TrainConfig)
def train(config: TrainConfig) -> dict[str, Any]:
    """Train a model on clean data, measure it on the test set, and register it as a candidate."""
    from tasks.train import train as train_task

    return result(train_task(context(config), config.training(), config.role), config)


if __name__ == "__main__":
    main(train)
