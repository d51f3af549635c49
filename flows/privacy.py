"""Measure what a model gives away: which images it was trained on, and the model itself."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import ModelSettings, TrainingSettings, context, result
from gauntlet.privacy import Thefts, usual


class PrivacyConfig(ModelSettings, TrainingSettings):
    """Settings of the flow `privacy`."""

    model: str | None = Field(None, description="the model to steal from; trained first when not given")
    theft: Thefts = Field(
        (),
        description="NAME or NAME:key=value,key=value; repeatable; default: membership by gap and loss, and a copy",
    )
    n: int | None = Field(None, ge=2, description="training and test images each; default: all of the smaller set")

    def check(self) -> None:
        """Refuse as well thefts that need more images than there are."""
        super().check()
        dataset = self.data()
        for one in self.theft or usual("gradients"):
            one.check(dataset, self.n)


@flow(PrivacyConfig)
def privacy(config: PrivacyConfig) -> dict[str, Any]:
    """Infer membership in the training set and copy the model by its answers; advantage and fidelity with intervals."""
    from tasks import privacy
    from tasks.source import Source
    from tasks.store import registry
    from tasks.train import train

    where = context(config)
    model = config.model or registry.model_uri(train(where, config.training()))
    expects = {name: getattr(config, name) for name in Source.model_fields}
    run_id = privacy.steal(where, Source(**expects | {"model": model}), config.theft, config.n)
    privacy.show(run_id)
    return result(run_id, config) | {"model": model}


if __name__ == "__main__":
    main(privacy)
