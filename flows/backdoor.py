"""Scan a model for unknown backdoors."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import ModelSettings, context
from gauntlet.backdoor.scan import ModelScan, parts

STATUS = {"BACKDOORED": 1, "CLEAN": 0, "INCONCLUSIVE": 3}
DEFAULTS = {name: field.default for name, field in ModelScan.model_fields.items()}


class BackdoorConfig(ModelSettings):
    """Settings of the flow `backdoor`."""

    model: str = Field(
        description="models:/NAME/VERSION, models:/NAME@candidate, runs:/ID/model, FILE.keras or module:function"
    )
    p_value: float = Field(DEFAULTS["p_value"], gt=0, lt=0.5, description="BACKDOORED below it, corrected over classes")
    references: int = Field(
        DEFAULTS["references"],
        ge=0,
        le=100,
        description="clean models of the same network and data, trained once and kept; 0: only the other classes",
    )

    def check(self) -> None:
        """Refuse as well data with too few test images."""
        super().check()
        parts(self.data(), self.settings(), self.seed)

    def settings(self) -> ModelScan:
        """The settings of the scan."""
        return ModelScan(p_value=self.p_value, references=self.references)


@flow(BackdoorConfig)
def backdoor(config: BackdoorConfig) -> dict[str, Any]:
    """Search the smallest trigger of every class and compare with clean models: BACKDOORED, CLEAN or INCONCLUSIVE."""
    from tasks import backdoor
    from tasks.source import Source

    target = Source(**{name: getattr(config, name) for name in Source.model_fields})
    run_id = backdoor.backdoor(context(config), target, config.settings())
    backdoor.show(run_id)
    summary = backdoor.summary(run_id, config.model)
    return summary | {"exit_status": STATUS[summary["verdict"]]}


if __name__ == "__main__":
    main(backdoor)
