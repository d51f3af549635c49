"""The nightly regression: tonight's candidate against the champion, and one page in the morning."""

from __future__ import annotations

from typing import Any

from flows.command import flow, main
from flows.night import Night, NightlyConfig
from flows.settings import context, result
from gauntlet.errors import GateError

INCONCLUSIVE = 3
"""Exit status of a night that is neither; FAIL and INVALID fail the flow."""


@flow(NightlyConfig)
def nightly(config: NightlyConfig) -> Any:
    """Candidate against champion on the same images, seeds and tools: PASS, FAIL or INCONCLUSIVE, and why."""
    from tasks.gate import gate
    from tasks.night import page
    from tasks.notify import notify
    from tasks.store import tracking, versions

    where, asked = context(config), (config.candidate, config.champion)
    given = [uri and versions.version_uri(uri) for uri in asked]
    params = config.model_dump(mode="json", exclude={"tracking_uri"})
    with tracking.run("nightly", where, where.load(), name="nightly", params=params) as parent:
        night = Night(config, where.below(parent.id), parent.id)
        candidate, champion = night.models(*given)
        night.check_audit()
        dead = night.instrument()
        findings = night.scan(champion)
        night.freeze(candidate, champion)
        both = night.evaluated("candidate", candidate), night.evaluated("champion", champion)
        findings += night.suspicious(*both)
        told: dict[str, Any] = {"dead_canaries": dead, "failed": night.problems.lines, "findings": findings}
        judged = gate(night.where, *both, allowed=config.allowed, floors=config.floors(), **told)
        wanted = night.card(judged, *both)
        page(night.where, parent.id, *both, judged, night.attacks, night.runs, config.nights, night.notes)
        night.promote(wanted)  # last of all: a night that is stopped before is repeated against the same champion
    notify(where, parent.id, config.notify)
    return _ended(parent.id, config)


def _ended(run_id: str, config: NightlyConfig) -> Any:
    """Report everything, then fail: the flow's state says the verdict."""
    from prefect.states import Completed

    from tasks.night import show
    from tasks.store import connection

    show(run_id, connection.connect(config.tracking_uri))
    found = result(run_id, config)
    verdict, reasons = found["verdict"], found["reasons"]
    if verdict in ("FAIL", "INVALID"):
        raise GateError(f"{verdict}: {'; '.join(reasons)}")
    if verdict == "PASS":
        return found
    told = "; ".join(reasons)[:1_000]
    return Completed(name="Inconclusive", message=told, data=found | {"exit_status": INCONCLUSIVE})


if __name__ == "__main__":
    main(nightly)
