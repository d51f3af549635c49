"""Train a model on clean data and register it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import ROLE, TrainingSettings, context, result
from gauntlet.data.dropping import read_suspects


class TrainConfig(TrainingSettings):
    """Settings of the flow `train`."""

    drop: str | None = Field(None, description="suspects.npz of a scan of this training set: trains without them")
    role: str = Field("baseline", pattern=ROLE, description="name the model is registered under")

    def check(self) -> None:
        """Refuse as well a file of suspects that is none of this data set's."""
        super().check()
        if self.drop:
            read_suspects(Path(self.drop), self.data())


@flow(TrainConfig)
def train(config: TrainConfig) -> dict[str, Any]:
    """Train a model on clean data, measure it on the test set, and register it as a candidate."""
    from tasks import outcome
    from tasks.train import train as train_task

    run_id = train_task(context(config), config.training(), config.role, config.drop)
    outcome.show(config.tracking_uri, run_id)
    return result(run_id, config)


if __name__ == "__main__":
    main(train)
