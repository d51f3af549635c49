"""Scan a training set for poisoned data.

Not called `inspect`, as its stage is: the folder of a deployment's flow comes first on Python's path.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flows.command import flow, main
from flows.settings import GivenModel, TrainingSettings, check_poisoning, context, result
from gauntlet.backdoor.inspections import EVERY, INSPECTIONS, AnyInspection
from gauntlet.data.datascan import DataScan
from gauntlet.poisoning import AnyPoisoning


class DataScanConfig(TrainingSettings, GivenModel):
    """Settings of the flow `datascan`."""

    poisoning: AnyPoisoning | None = Field(
        None, description="poison the training set first, to see what is found: NAME or NAME:key=value,key=value"
    )
    inspection: tuple[AnyInspection, ...] = Field(
        EVERY, description=f"NAME or NAME:key=value, of {', '.join(INSPECTIONS)}; repeatable; default: all"
    )
    model: str | None = Field(
        None,
        description="Keras model trained on this set, whose hidden layer is inspected; default: one is trained",
    )
    patch_score: float = Field(
        DataScan.model_fields["patch_score"].default, gt=0, description="score from which windows of one class alarm"
    )
    p_value: float = Field(
        DataScan.model_fields["p_value"].default,
        gt=0,
        lt=1,
        description="p-value below which labels alarm",
    )
    fail_on_suspects: bool = Field(False, description="exit with status 1 when a check alarms")

    def check(self) -> None:
        """Refuse as well a poisoning that this data cannot carry."""
        super().check()
        if self.poisoning:
            check_poisoning(self.poisoning, self.data())


@flow(DataScanConfig)
def datascan(config: DataScanConfig) -> dict[str, Any]:
    """Scan a training set: labels, duplicates, shared windows, and what a model that was trained on it gives away."""
    from tasks import datascan
    from tasks.source import Source

    settings = DataScan(patch_score=config.patch_score, p_value=config.p_value)
    model = Source(model=config.model, trust=config.trust) if config.model else None
    how = config.inspection, config.training(), model
    run_id = datascan.inspect(context(config), settings, config.poisoning, config.fail_on_suspects, *how)
    return result(run_id, config)


if __name__ == "__main__":
    main(datascan)
