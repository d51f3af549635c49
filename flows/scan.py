"""Scan source code for security findings, or check the threat model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from flows.command import Settings, flow, main
from flows.settings import context, result
from gauntlet.errors import SettingError


class ScanConfig(Settings):
    """Settings of the flow `scan`."""

    path: str | None = Field(None, description="file or folder to scan; this project when not given")
    fail_on: Literal["low", "medium", "high"] | None = Field(None, description="fail on findings this severe or worse")
    threat_model: str | None = Field(
        None,
        description="check a threat model instead; without a file the project's own, threat_model.yaml",
        json_schema_extra={"bare": "threat_model.yaml"},
    )
    strict: bool = Field(False, description="with --threat-model: fail when evidence is missing, too")

    @model_validator(mode="after")
    def _one_of_both(self) -> ScanConfig:
        if self.strict and not self.threat_model:
            raise SettingError("nothing to be strict about", where="--strict", fix="give --threat-model, too")
        if self.threat_model and (self.path or self.fail_on):
            raise SettingError("code or a threat model, not both", where="--threat-model", fix="run scan twice")
        return self

    def check(self) -> None:
        """No data set is read; a threat model is, before a server is started."""
        if self.threat_model:
            from gauntlet.threat_model import load

            load(Path(self.threat_model))


@flow(ScanConfig)
def scan(config: ScanConfig) -> dict[str, Any]:
    """Run Bandit over source code, or check that the threat model's mitigations hold; keep what was found."""
    if config.threat_model:
        from tasks.threat_model import threat_model

        return result(threat_model(context(config), config.threat_model, config.strict), config)
    from tasks.scan import scan as scan_task

    return result(scan_task(context(config), config.path, config.fail_on), config)


if __name__ == "__main__":
    main(scan)
