"""The nightly regression: the candidate against the champion, and one page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from flows import nights
from flows.command import flow, main
from flows.night import Night, NightlyConfig
from flows.settings import context, result
from gauntlet.errors import GateError, SettingError

if TYPE_CHECKING:
    from tasks.nights import Judged

INCONCLUSIVE = 3
"""Exit status of a night that is neither; FAIL and INVALID fail the flow."""


@flow(NightlyConfig)
def nightly(config: NightlyConfig) -> Any:
    """Candidate against champion on the same images, seeds and tools: PASS, FAIL or INCONCLUSIVE, and why."""
    return _several(config) if config.models else _one(config)


def _one(config: NightlyConfig) -> Any:
    from tasks.gate import gate
    from tasks.night import page
    from tasks.notify import notify
    from tasks.store import tracking, versions

    where = context(config).model_copy(update={"parent": config.parent})
    asked = config.candidate, config.champion
    given = [uri and versions.version_uri(uri) for uri in asked]
    params = config.model_dump(mode="json", exclude={"tracking_uri"})
    with tracking.run("nightly", where, where.load(), name=config.name, params=params) as parent:
        night = Night(config, where.below(parent.id), parent.id)
        candidate, champion = night.models(*given)
        night.check_audit()
        dead = night.instrument()
        findings = night.scan(champion)
        night.freeze(candidate, champion)
        both = night.evaluated("candidate", candidate), night.evaluated("champion", champion)
        findings += night.suspicious(*both)
        known: dict[str, Any] = {"dead_canaries": dead, "failed": night.problems.lines, "findings": findings}
        judged = gate(night.where, *both, allowed=config.allowed, floors=config.floors(), **known)
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
    answer = result(run_id, config)
    verdict, reasons = answer["verdict"], answer["reasons"]
    if verdict in ("FAIL", "INVALID"):
        raise GateError(f"{verdict}: {'; '.join(reasons)}")
    if verdict == "PASS":
        return answer
    message = "; ".join(reasons)[:1_000]
    return Completed(name="Inconclusive", message=message, data=answer | {"exit_status": INCONCLUSIVE})


def _several(config: NightlyConfig) -> Any:
    """A night for each model of a list; what they came to is told when all have ended."""
    from tasks import nights as list_of
    from tasks.store import connection, tracking

    listed = nights.listed(config)
    where, params = context(listed[0]), config.model_dump(mode="json", exclude={"tracking_uri"})
    ended: list[list_of.Judged] = []
    with tracking.run("nights", where, None, name="nights", params=params) as parent:
        below = [one.model_copy(update={"parent": parent.id}) for one in listed]
        with closing(nights.run(below, config.at_once)) as going:
            for one in going:
                ended.append(list_of.judged(parent.id, one))
                print(ended[-1].line, file=sys.stderr)
        list_of.page(parent.id, ended)
    list_of.show(parent.id, connection.connect(config.tracking_uri))
    return _worst(ended, result(parent.id, config))


def _worst(ended: Sequence[Judged], answer: dict[str, Any]) -> Any:
    """End as the worst of the nights did."""
    from prefect.states import Completed

    from tasks import nights as list_of

    status, summary = list_of.worst(ended), list_of.summary(ended)
    if status == 1:
        raise GateError(f"of {len(ended)} nights {summary}")
    if status == 2:
        raise SettingError(f"of {len(ended)} nights {summary}", where="models")
    if status == INCONCLUSIVE:
        return Completed(name="Inconclusive", message=summary, data=answer | {"exit_status": INCONCLUSIVE})
    return answer


if __name__ == "__main__":
    main(nightly)
