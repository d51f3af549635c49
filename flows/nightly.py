"""The nightly regression: tonight's candidate against the champion, and one page in the morning."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from flows.command import flow, main
from flows.night import Night
from flows.settings import ROLE, BatterySettings, TrainingSettings, context, result
from gauntlet.attacks import ApgdCe, ApgdDlr, Attacks, Fgsm, Pgd, UniformNoise
from gauntlet.defenses.detection import AnyDetector
from gauntlet.defenses.poisoning import AnyPoisoning, CornerTrigger
from gauntlet.errors import GateError, SettingError

INCONCLUSIVE = 3
"""Exit status of a night that is neither; FAIL and INVALID fail the flow."""


class NightlyConfig(TrainingSettings, BatterySettings):
    """Settings of the flow `nightly`."""

    candidate: str | None = Field(None, description="models:/NAME/VERSION or @ALIAS; else one is trained")
    champion: str | None = Field(None, description="the same; else the candidate's name @champion")
    role: str = Field(
        "baseline", pattern=ROLE, description="registered name of a candidate that is trained: gauntlet-DATASET-ROLE"
    )
    attack: Attacks = Field(
        (UniformNoise(), Fgsm(), Pgd(), ApgdCe(), ApgdDlr(targets=3, max_iter=50)),
        description="attacks on both models; repeatable",
    )
    allowed: float = Field(0.01, gt=0, lt=1, description="the largest drop that does not matter, as a share")
    floor: tuple[str, ...] = Field(
        ("clean=0.5", "trigger=0.9"),
        description="share a first champion must reach, CONDITION=SHARE (trigger: not sent to the target); repeatable",
    )
    trigger: tuple[AnyPoisoning, ...] = Field((CornerTrigger(),), description="known triggers; repeatable")
    detector: AnyDetector | None = Field(None, description="NAME or NAME:key=value: what it sees is a condition, too")
    canaries: bool = Field(True, description="try the measuring instrument first")
    scan_path: str | None = Field(None, description="code to scan; this project when not given")
    fail_on: Literal["low", "medium", "high"] = Field("medium", description="severity at which a new finding fails")
    promote: bool = Field(False, description="make the candidate the champion if it passes, or if there is none yet")
    nights: int = Field(30, ge=1, le=1_000, description="nights of the trend")
    notify: str | None = Field(None, description="Prefect block KIND/NAME to tell the verdict; else GAUNTLET_WEBHOOK")

    def check(self) -> None:
        """Refuse as well triggers that no image of this data can carry."""
        super().check()
        self.floors()
        dataset = self.data()
        for one in self.trigger:
            one.check(dataset.input_shape, dataset.n_classes)

    def floors(self) -> dict[str, float]:
        """Minimum share by condition; `SettingError` for what is no CONDITION=SHARE."""
        found = {}
        for text in self.floor:
            name, _, share = text.partition("=")
            try:
                found[name.strip()] = float(share)
            except ValueError:
                found[name.strip()] = -1.0
            if not name.strip() or not 0 <= found[name.strip()] <= 1:
                raise SettingError(f"{text!r} is no CONDITION=SHARE", where="--floor", fix="for example clean=0.95")
        return found


@flow(NightlyConfig)
def nightly(config: NightlyConfig) -> Any:
    """Candidate against champion on the same images, seeds and tools: PASS, FAIL or INCONCLUSIVE, and why."""
    from tasks.gate import gate
    from tasks.night import page
    from tasks.notify import notify
    from tasks.store import registry, tracking

    where, asked = context(config), (config.candidate, config.champion)
    given = [uri and registry.version_uri(uri) for uri in asked]
    params = config.model_dump(mode="json", exclude={"tracking_uri"})
    with tracking.run("nightly", where, where.load(), name="nightly", params=params) as parent:
        night = Night(config, where.below(parent.id), parent.id)
        candidate, champion = night.models(*given)
        night.check_audit()
        dead = night.instrument()
        findings = night.scan(champion)
        night.freeze(candidate, champion)
        both = night.evaluated("candidate", candidate), night.evaluated("champion", champion)
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
    from tasks.store import tracking

    show(run_id, tracking.connect(config.tracking_uri))
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
