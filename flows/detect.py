"""Fit a detector to clean images and let it look at attacked ones."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import BatterySettings, GivenModel, TrainingSettings, context, result
from gauntlet.attacks import Attacks, Fgsm
from gauntlet.defenses.detection import AnyDetector, GanDiscriminator


class DetectConfig(TrainingSettings, BatterySettings, GivenModel):
    """Settings of the flow `detect`."""

    detector: AnyDetector = Field(GanDiscriminator(), description="NAME or NAME:key=value,key=value")
    model: str | None = Field(None, description="the classifier that is attacked; trained first when not given")
    attack: Attacks = Field((Fgsm(),), description="attacks on the classifier; repeatable")


@flow(DetectConfig)
def detect(config: DetectConfig) -> dict[str, Any]:
    """Fit a detector to clean images; ROC, and rates at its threshold, on attacks that know of no detector."""
    from tasks import outcome
    from tasks.detect import detect as detect_task
    from tasks.source import Source
    from tasks.store import registry, tracking
    from tasks.train import train

    where = context(config)
    model = config.model or registry.model_uri(train(where, config.training()))
    source = Source(model=model, trust=config.trust)
    run_id = detect_task(where, config.detector, source, config.battery(), role=config.detector.name)
    outcome.show(config.tracking_uri, run_id)
    # The rates are logged by budget: here stand those at the largest.
    metrics = dict(tracking.read(run_id).data.metrics)
    return result(run_id, config) | {"model": model, "metrics": metrics}


if __name__ == "__main__":
    main(detect)
