"""Attack a model: the one just trained, a registered one, or a file of yours."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from flows.command import flow, main
from flows.settings import BatterySettings, ModelSettings, WorkerSettings, context, result
from gauntlet.errors import GateError, SettingError


class AttackConfig(ModelSettings, BatterySettings, WorkerSettings):
    """Settings of the flow `attack`."""

    model: str | None = Field(
        None, description="models:/NAME/VERSION, models:/NAME@candidate, runs:/ID/model, FILE.keras or module:function"
    )
    source: str | None = Field(None, description="make the images against this model instead: a transfer attack")
    require_valid: bool = Field(False, description="fail unless the evaluation is VALID")
    save_images: bool = Field(False, description="keep the adversarial images as an artifact")
    canaries: bool = Field(False, description="check the evaluation itself instead, on models with known flaws")

    @property
    def trains(self) -> bool:
        """Only the canaries are trained."""
        return self.canaries

    @model_validator(mode="after")
    def _one_of_both(self) -> AttackConfig:
        if (self.model is None) != self.canaries:
            raise SettingError("a model to attack, or the canaries", where="--model", fix="give --model or --canaries")
        return self


@flow(AttackConfig)
def attack(config: AttackConfig) -> dict[str, Any]:
    """Attack a model with every attack at every budget; the worst case per image and a verdict come with it."""
    return _canaries(config) if config.canaries else _attack(config)


def _attack(config: AttackConfig) -> dict[str, Any]:
    from tasks import outcome
    from tasks.attack import attack as attack_task
    from tasks.source import Source

    target = Source(**{name: getattr(config, name) for name in Source.model_fields})
    source = Source(model=config.source, trust=config.trust) if config.source else None
    battery, where = config.battery(), context(config)
    run_id = attack_task(where, target, battery, source=source, save_images=config.save_images)
    outcome.show(config.tracking_uri, run_id)
    evaluation = result(run_id, config)
    if config.require_valid and evaluation["validity"] != "VALID":
        raise GateError(f"the evaluation is {evaluation['validity']}: {'; '.join(evaluation['reasons'])}")
    return evaluation


def _canaries(config: AttackConfig) -> dict[str, Any]:
    from tasks import canaries

    run_id = canaries.canaries(context(config))
    canaries.show(run_id)
    if wrong := canaries.wrong(run_id):
        raise GateError(f"the measuring instrument is broken: {'; '.join(wrong)}")
    return result(run_id, config)


if __name__ == "__main__":
    main(attack)
