"""Train a defended model and attack it: white-box, and with the baseline's images."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import BatterySettings, GivenModel, TrainingSettings, check_triggers, context, result
from gauntlet.attacks import Attacks, Fgsm, Pgd
from gauntlet.defenses.training import AdversarialTraining, AnyDefense
from gauntlet.poisoning import AnyPoisoning


class DefendConfig(TrainingSettings, BatterySettings, GivenModel):
    """Settings of the flow `defend`."""

    defense: AnyDefense = Field(AdversarialTraining(), description="NAME or NAME:key=value,key=value")
    model: str | None = Field(None, description="the undefended model; trained first when not given")
    trigger: tuple[AnyPoisoning, ...] = Field(
        (), description="known triggers, whose success before and after the defense is reported; repeatable"
    )
    attack: Attacks = Field((Fgsm(), Pgd()), description="attacks on the defended model; repeatable")

    def check(self) -> None:
        """Refuse as well triggers that no image of this data can carry, or that want nothing."""
        super().check()
        check_triggers(self.trigger, self.data())


@flow(DefendConfig)
def defend(config: DefendConfig) -> dict[str, Any]:
    """Train a defended model; score it against attacks made on itself (white-box) and on the baseline (transfer)."""
    from tasks import mended, outcome
    from tasks.attack import attack
    from tasks.defend import defend as defend_task
    from tasks.source import Source
    from tasks.store import registry, tracking
    from tasks.train import train

    where, how = context(config), config.training()
    trained = None if config.model else train(where, how)
    baseline = Source(model=config.model or registry.model_uri(str(trained)), trust=config.trust)
    run_id = defend_task(where, how, config.defense, baseline, trained, known=config.trigger)
    mended.show(run_id)
    target, battery = Source(model=registry.model_uri(run_id)), config.battery()
    white_box = attack(where, target, battery, role=config.defense.name)
    transfer = attack(where, target, battery, role=config.defense.name, source=baseline)
    outcome.show(config.tracking_uri, run_id, white_box, transfer)
    scores = {
        "white_box": tracking.records(white_box)["results"],
        "transfer": tracking.records(transfer)["results"],
    }
    return result(run_id, config) | scores


if __name__ == "__main__":
    main(defend)
