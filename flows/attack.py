"""Attack a model: the one just trained, a registered one, or a file of yours."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import ModelSettings, context, result
from gauntlet.attacks import AnyAttack, Fgsm, GaussianNoise, Pgd
from gauntlet.threat import Budget


class AttackConfig(ModelSettings):
    """Settings of the flow `attack`."""

    model: str = Field(description="models:/NAME/VERSION, models:/NAME@candidate, runs:/ID/model or FILE.keras")
    attack: tuple[AnyAttack, ...] = Field(
        (GaussianNoise(), Fgsm(), Pgd()),
        min_length=1,
        description="NAME or NAME:key=value,key=value; repeatable",
    )
    eps: tuple[Budget, ...] = Field(
        (), description="budget in [0, 1], 8/255 is fine; repeatable; else the literature's"
    )
    n: int | None = Field(
        None, ge=1, description="test images; else all for one-step attacks, 1,000 for iterative ones"
    )
    source: str | None = Field(None, description="make the images against this model instead: a transfer attack")
    save_images: bool = Field(False, description="keep the adversarial images as an artifact")


@flow(AttackConfig)
def attack(config: AttackConfig) -> dict[str, Any]:
    """Attack a model with every attack at every budget; the worst case per image and a verdict come with it."""
    from tasks.attack import attack as attack_task
    from tasks.source import Source

    target = Source(model=config.model, input_range=config.input_range, outputs=config.outputs)
    source = Source(model=config.source) if config.source else None
    battery = (config.attack, config.eps, config.n)
    run_id = attack_task(context(config), target, *battery, source=source, save_images=config.save_images)
    return result(run_id, config) | {"model": config.model}


if __name__ == "__main__":
    main(attack)
