"""Scan source code for security findings, or check the threat model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flows.command import flow, main
from flows.settings import context, result
from flows.threats import ThreatModelSettings, threats


class ScanConfig(ThreatModelSettings):
    """Settings of the flow `scan`."""

    path: str | None = Field(None, description="file or folder to scan; this project when not given")
    fail_on: Literal["low", "medium", "high"] | None = Field(None, description="fail on findings this severe or worse")


@flow(ScanConfig)
def scan(config: ScanConfig) -> dict[str, Any]:
    """Run Bandit over source code; count findings by severity, keep them as a table. Or check a threat model."""
    if config.threat_model:
        return threats(config)
    from tasks.scan import scan as scan_task

    return result(scan_task(context(config), config.path, config.fail_on), config)


if __name__ == "__main__":
    main(scan)
