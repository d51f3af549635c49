"""Train a defended model and attack it: white-box, and with the baseline's images."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import TrainingSettings, context, result
from gauntlet.attacks import AnyAttack, Fgsm, Pgd
from gauntlet.defenses import AdversarialTraining, AnyDefense
from gauntlet.threat import Budget


class DefendConfig(TrainingSettings):
    """Settings of the flow `defend`."""

    defense: AnyDefense = Field(AdversarialTraining(), description="NAME or NAME:key=value,key=value")
    model: str | None = Field(None, description="the undefended model; trained first when not given")
    attack: tuple[AnyAttack, ...] = Field((Fgsm(), Pgd()), min_length=1, description="attacks on the defended model")
    eps: tuple[Budget, ...] = Field(
        (), description="budget in [0, 1], 8/255 is fine; repeatable; else the literature's"
    )
    n: int | None = Field(
        None, ge=1, description="test images; else all for one-step attacks, 1,000 for iterative ones"
    )


@flow(DefendConfig)
def defend(config: DefendConfig) -> dict[str, Any]:
    """Train a defended model; score it against attacks made on itself (white-box) and on the baseline (transfer)."""
    from tasks import tracking
    from tasks.attack import attack
    from tasks.defend import defend as defend_task
    from tasks.source import Source
    from tasks.train import train

    where, how = context(config), config.training()
    trained = None if config.model else train(where, how)
    baseline = Source(model=config.model or tracking.model_uri(str(trained)))
    run_id = defend_task(where, how, config.defense, baseline, trained)
    target, battery = Source(model=tracking.model_uri(run_id)), (config.attack, config.eps, config.n)
    white_box = attack(where, target, *battery, role=config.defense.name)
    transfer = attack(where, target, *battery, role=config.defense.name, source=baseline)
    scores = {
        "white_box": tracking.records(white_box)["results"],
        "transfer": tracking.records(transfer)["results"],
    }
    return result(run_id, config) | scores


if __name__ == "__main__":
    main(defend)
