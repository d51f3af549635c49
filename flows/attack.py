"""Attack a model: the one just trained, a registered one, or a file of yours."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import BatterySettings, ModelSettings, context, result
from gauntlet.errors import GateError


class AttackConfig(ModelSettings, BatterySettings):
    """Settings of the flow `attack`."""

    model: str = Field(
        description="models:/NAME/VERSION, models:/NAME@candidate, runs:/ID/model, FILE.keras or module:function"
    )
    source: str | None = Field(None, description="make the images against this model instead: a transfer attack")
    require_valid: bool = Field(False, description="fail unless the evaluation is VALID")
    save_images: bool = Field(False, description="keep the adversarial images as an artifact")


@flow(AttackConfig)
def attack(config: AttackConfig) -> dict[str, Any]:
    """Attack a model with every attack at every budget; the worst case per image and a verdict come with it."""
    from tasks.attack import attack as attack_task
    from tasks.source import Source

    target = Source(**{name: getattr(config, name) for name in Source.model_fields})
    source = Source(model=config.source, trust=config.trust) if config.source else None
    battery, where = config.battery(), context(config)
    run_id = attack_task(where, target, battery, source=source, save_images=config.save_images)
    found = result(run_id, config) | {"model": config.model}
    if config.require_valid and found["validity"] != "VALID":
        raise GateError(f"the evaluation is {found['validity']}: {'; '.join(found['reasons'])}")
    return found


if __name__ == "__main__":
    main(attack)
