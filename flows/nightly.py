"""The nightly regression: tonight's candidate against the champion, and one page in the morning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from flows.command import flow, main
from flows.problems import Problems
from flows.settings import ROLE, BatterySettings, TrainingSettings, context, result
from gauntlet.attacks import ApgdCe, Attacks, Fgsm, Pgd, UniformNoise
from gauntlet.errors import GateError, SettingError
from gauntlet.poisoning import AnyPoisoning, CornerTrigger

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.gate import Evaluated

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
        (UniformNoise(), Fgsm(), Pgd(), ApgdCe()),
        description="attacks on both models; repeatable",
    )
    allowed: float = Field(0.01, gt=0, lt=1, description="the largest drop that does not matter, as a share")
    trigger: tuple[AnyPoisoning, ...] = Field((CornerTrigger(),), description="known triggers; repeatable")
    canaries: bool = Field(True, description="try the measuring instrument first")
    scan_path: str | None = Field(None, description="code to scan; this project when not given")
    promote: bool = Field(False, description="make the candidate the champion if it passes, or if there is none yet")
    nights: int = Field(30, ge=1, le=1_000, description="nights of the trend")


@flow(NightlyConfig)
def nightly(config: NightlyConfig) -> Any:
    """Candidate against champion on the same images, seeds and tools: PASS, FAIL or INCONCLUSIVE, and why."""
    from tasks import tracking
    from tasks.gate import gate
    from tasks.night import page

    where = context(config)
    params = config.model_dump(mode="json", exclude={"tracking_uri"})
    with tracking.run("nightly", where, where.load(), name="nightly", params=params) as parent:
        night = Night(config, where.below(parent.id), parent.id)
        dead = night.instrument()
        candidate, champion = night.models()
        night.scan()
        both = night.evaluated("candidate", candidate), night.evaluated("champion", champion)
        failed = night.problems.lines
        judged = gate(night.where, *both, allowed=config.allowed, dead_canaries=dead, failed=failed)
        night.finish(judged, *both)
        page(night.where, parent.id, *both, judged, night.attacks, night.runs, config.nights, night.notes)
    return _ended(parent.id, config)


class Night:
    """The stages of one night: each taken again when nothing changed, each failing alone."""

    def __init__(self, config: NightlyConfig, where: Context, run_id: str) -> None:
        """`run_id` is the night's own run, whose children the stages are."""
        self.config, self.where, self.run_id = config, where, run_id
        self.battery, self.problems = config.battery(), Problems()
        self.runs: dict[str, str] = {}
        self.notes: list[str] = []

    @property
    def attacks(self) -> str:
        """The attacks' settings as one text, to tell whether they changed."""
        return self.battery.model_dump_json()

    def stage(self, name: str, make: Any, *inputs: Any) -> str | None:
        """The run of a stage: one with the same inputs, else a fresh one; None when it fails."""
        from tasks.stage import reuse

        found = self.problems.caught(name, reuse, self.where, name, make, *inputs)
        if found is None:
            return None
        self.runs[name], again = found
        if again:
            self.notes.append(f"{name}: unchanged, run {self.runs[name]} taken again")
        return self.runs[name]

    def instrument(self) -> list[str]:
        """What is wrong with the canaries; nothing when they are alive or left out."""
        from tasks import canaries
        from tasks.context import Context

        if not self.config.canaries:
            return ["the canaries were left out: nothing says that the instrument works"]
        digits = Context(dataset="digits", seed=self.config.seed)
        run_id = self.stage("canaries", lambda where: canaries.canaries(where, data=digits))
        return canaries.wrong(run_id) if run_id else ["the canaries could not be evaluated"]

    def models(self) -> tuple[str | None, str | None]:
        """The versions of candidate and champion; a champion that was trained on other data is refused."""
        from tasks import registry

        candidate = self.config.candidate or self._trained()
        if candidate is None:
            return None, None
        candidate = registry.version_uri(candidate)
        name = registry.name_of(candidate)
        asked = self.config.champion
        champion = registry.version_uri(asked) if asked else registry.champion_of(name)
        digest = champion and registry.data_digest_of(champion)
        if digest and digest != self.where.load().digest:
            what = f"the champion {champion} was trained on other data ({digest[:12]})"
            fix = "give --champion, or the data set it was trained on"
            raise SettingError(what, where="champion", fix=fix)
        return candidate, champion

    def _trained(self) -> str | None:
        from tasks import registry
        from tasks.train import train

        how, role = self.config.training(), self.config.role
        run_id = self.stage("train", lambda where: train(where, how, role), how, role)
        return registry.register(run_id) if run_id else None

    def evaluated(self, role: str, model: str | None) -> Evaluated | None:
        """Bank, battery and known triggers on one model."""
        from tasks import registry
        from tasks.attack import attack
        from tasks.gate import Evaluated
        from tasks.replay import entries, replay
        from tasks.source import Source
        from tasks.triggers import triggers

        if model is None:
            return None
        source, battery, known = Source(model=model), self.battery, self.config.trigger
        weights, bank = registry.digest_of(model), entries(self.where)

        def run(what: str, make: Any, *inputs: Any) -> str | None:
            return self.stage(f"{what} {role}", make, weights, *inputs)

        replayed = run("replay", lambda w: replay(w, source, battery, role), battery, bank) if bank else None
        attacked = run("attack", lambda w: attack(w, source, battery, role=role, bank=True), battery)
        inputs = [one.model_dump(mode="json") for one in known]
        triggered = run("triggers", lambda w: triggers(w, source, known, role), inputs) if known else None
        return Evaluated(model=model, attack=attacked, replay=replayed, triggers=triggered)

    def scan(self) -> None:
        """The code scan."""
        from tasks.scan import scan

        run_id = self.problems.caught("scan", scan, self.where, self.config.scan_path)
        if run_id:
            self.runs["scan"] = run_id

    def finish(self, judged: str, candidate: Evaluated | None, champion: Evaluated | None) -> None:
        """The card, and the promotion where it is wanted."""
        from tasks.promote import card, promote

        self.runs["gate"] = judged
        if candidate is None or candidate.attack is None:
            return
        before = champion.model if champion else None
        facts = self.battery, self.config.trigger, judged, self.runs
        made = self.problems.caught("card", card, self.where, self.run_id, candidate, before, *facts)
        if made and self.config.promote:
            try:
                promote(self.where, self.run_id, candidate.model)
                self.notes.append(f"{candidate.model} is the champion now")
            except GateError as refusal:
                self.notes.append(str(refusal))


def _ended(run_id: str, config: NightlyConfig) -> Any:
    """Report everything, then fail: the flow's state says the verdict."""
    from prefect.states import Completed

    from tasks import tracking
    from tasks.night import show

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
