"""Scan source code, model files and locked packages for security findings, or check the threat model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flows.command import flow, main
from flows.settings import context, result
from flows.threats import ThreatModelSettings, threats
from gauntlet.assurance.scan.scanning import Asked

INCONCLUSIVE = 3
"""Exit status where a gate was asked for and not everything could be inspected."""


class ScanConfig(ThreatModelSettings):
    """Settings of the flow `scan`."""

    path: str | None = Field(None, description="code to scan; default: this project, if nothing else is given")
    model: str | None = Field(None, description="model file or folder to inspect, without loading it")
    lock: str | None = Field(None, description="lock file whose packages are looked up, such as constraints.txt")
    baseline: str | None = Field(None, description="file of accepted findings; --fail-on then counts new ones only")
    write_baseline: str | None = Field(None, description="write the findings as such a file; reasons given are kept")
    sarif: str | None = Field(None, description="write the findings as SARIF too, for a code host")
    fail_on: Literal["low", "medium", "high"] | None = Field(None, description="fail on findings this severe or worse")
    fail_on_new: bool = Field(False, description="fail on any finding that the baseline does not have")

    def asked(self) -> Asked:
        """What is scanned, compared and failed on."""
        return Asked(**{name: getattr(self, name) for name in Asked.model_fields})

    def check(self) -> None:
        """No data set is read; what is to be scanned must be there."""
        super().check()
        if not self.threat_model:
            self.asked().check()


@flow(ScanConfig)
def scan(config: ScanConfig) -> dict[str, Any]:
    """Scan code, model files and locked packages; count findings by severity. Or check a threat model."""
    if config.threat_model:
        return threats(config)
    from tasks.scan import scan as scan_task
    from tasks.store import tracking

    output = result(scan_task(context(config), asked=config.asked(), show=True), config)
    output |= {
        "dependencies": tracking.read(output["run_id"]).data.tags["gauntlet.dependencies"],
        "model": config.model,
    }
    return output | ({"exit_status": INCONCLUSIVE} if output["inconclusive"] else {})


if __name__ == "__main__":
    main(scan)
