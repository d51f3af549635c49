"""One night: its settings, and its stages, each taken again when nothing it depends on changed, each failing alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from flows import nights
from flows.problems import Problems
from flows.settings import (
    ROLE,
    BackdoorSettings,
    BatterySettings,
    CodeSettings,
    TrainingSettings,
    WorkerSettings,
    check_triggers,
)
from gauntlet.attacks import ApgdCe, ApgdDlr, Attacks, Fgsm, Pgd, UniformNoise
from gauntlet.defenses.detection import AnyDetector
from gauntlet.errors import GateError, ModelError, SettingError, meant, one_line
from gauntlet.poisoning import AnyPoisoning, CornerTrigger

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.gate import Evaluated


class NightlyConfig(TrainingSettings, BatterySettings, BackdoorSettings, CodeSettings, WorkerSettings):
    """Settings of the flow `nightly`."""

    candidate: str | None = Field(None, description="models:/NAME/VERSION or @ALIAS; default: one is trained")
    champion: str | None = Field(None, description="the same; default: the candidate's name @champion")
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
    detector: AnyDetector | None = Field(None, description="NAME or NAME:key=value: attacks with it are conditions too")
    planted: bool = Field(True, description="plant adversarial images that the attacks must find")
    canaries: bool = Field(True, description="check the evaluation itself first, on models with known flaws")
    fail_on: Literal["low", "medium", "high"] = Field("medium", description="severity at which a new finding fails")
    promote: bool = Field(False, description="make the candidate the champion if it passes, or if there is none yet")
    nights: int = Field(30, ge=1, le=1_000, description="nights of the trend")
    notify: str | None = Field(
        None,
        pattern=r"^[\w-]+/[\w-]+$",
        description="Prefect block KIND/NAME for the verdict; default: GAUNTLET_WEBHOOK",
    )
    name: str = Field("nightly", pattern=ROLE, description="of the night's run")
    parent: str | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="MLflow run that the night is listed below")
    models: str | None = Field(None, description="FILE.yaml, a list of these settings: a night for each, and one page")
    at_once: int = Field(1, ge=1, le=64, description="nights of a list that run at a time, each in its own process")

    def check(self) -> None:
        """Refuse as well triggers that this data cannot carry or that want nothing; of a list, in every entry."""
        if self.models:
            nights.check(self)
            return
        super().check()
        self.floors()
        check_triggers(self.trigger, self.data())

    def floors(self) -> dict[str, float]:
        """Minimum share by condition; `SettingError` for what is no CONDITION=SHARE."""
        from gauntlet.gate.verdict import KINDS, is_condition

        shares = {}
        for text in self.floor:
            name, share = (word.strip() for word in text.partition("=")[::2])
            if name in shares:
                raise SettingError(f"{name} is given twice", where="--floor", fix="give it once")
            try:
                shares[name] = float(share)
            except ValueError:
                shares[name] = -1.0
            if not name or not 0 <= shares[name] <= 1:
                raise SettingError(f"{text!r} is no CONDITION=SHARE", where="--floor", fix="for example clean=0.95")
            if not is_condition(name):
                fix = f"{', '.join(KINDS)}, or an attack{meant(name, KINDS)}"
                raise SettingError(f"no condition is called {one_line(name, 80)!r}", where="--floor", fix=fix)
        return shares


class Night:
    """What the flow `nightly` does, step by step, and what it has to tell in the end."""

    def __init__(self, config: NightlyConfig, where: Context, run_id: str) -> None:
        """`run_id` is the night's own run, whose children the stages are."""
        self.config, self.where, self.run_id = config, where, run_id
        self.battery, self.problems = config.battery(), Problems()
        self.known = tuple(one.aimed(where.load().n_classes) for one in config.trigger)
        self.runs: dict[str, str] = {}
        self.bank: tuple[str, ...] = ()
        self.again: list[str] = []
        self.remarks: list[str] = []

    @property
    def attacks(self) -> str:
        """The attacks' settings as one text, to tell whether they changed."""
        return self.battery.model_dump_json()

    @property
    def notes(self) -> list[str]:
        """What the page tells besides the verdict's reasons."""
        unchanged = f"taken again, as nothing that they depend on changed: {', '.join(self.again)}"
        return [*self.battery.left_out, *self.remarks, *([unchanged] if self.again else [])]

    def stage(self, name: str, make: Any, *inputs: Any, role: str = "", about: Context | None = None) -> str | None:
        """The run of a stage: one with the same inputs, otherwise a new one; None when it fails."""
        from tasks.stage import reuse

        label = f"{name} {role}".strip()
        outcome = self.problems.caught(label, reuse, self.where, name, make, *inputs, about=about)
        if outcome is None:
            return None
        self.runs[label], again = outcome
        self.again += [label] if again else []
        return self.runs[label]

    def check_audit(self) -> None:
        """A night whose audit log is broken cannot pass."""
        from tasks.store import audit, connection

        self.problems.caught("audit log", audit.require_whole, connection.connect(self.where.tracking_uri))

    def instrument(self) -> list[str]:
        """What is wrong with the canaries; nothing when they are alive. They are the same whatever the night's data."""
        from tasks import canaries
        from tasks.context import Context

        if not self.config.canaries:
            return ["the canaries were left out: nothing says that the instrument works"]
        digits = Context(dataset="digits")
        run_id = self.stage("canaries", lambda where: canaries.canaries(where, data=digits), about=digits)
        return canaries.wrong(run_id) if run_id else ["the canaries could not be evaluated"]

    def models(self, asked: str | None, champion: str | None) -> tuple[str | None, str | None]:
        """The versions of candidate and champion, whole; a champion that was trained on other data is refused."""
        from tasks.promote import check_champion
        from tasks.store import registry, versions

        candidate = asked or self._trained()
        if candidate is None:
            return None, None
        by_alias = champion is None
        champion = champion or versions.champion_of(versions.name_of(candidate))
        for model in {candidate, champion} - {None}:
            registry.check(str(model))
        digest = champion and versions.data_digest_of(champion)
        if digest and digest != self.where.load().digest:
            what = f"the champion {champion} was trained on other data ({digest[:12]})"
            fix = "give --champion, or the data set it was trained on"
            raise SettingError(what, where="champion", fix=fix)
        if champion:
            odd = check_champion(self.where, champion, by_alias)
            self.remarks += [odd] if odd else []
        return candidate, champion

    def freeze(self, candidate: str | None, champion: str | None) -> None:
        """Choose the images of this night before anything is evaluated: which test images, and which of the bank."""
        from tasks.promote import next_fold
        from tasks.replay import LEAST, frozen
        from tasks.store import registry, versions

        if champion is None:
            return
        fold, subsets = next_fold(champion), self.battery.subsets(len(self.where.load().x_test))
        self.where = self.where.model_copy(update={"fold": fold % subsets})
        self.remarks += _images(fold, subsets)
        anchor = versions.champion_of(versions.name_of(champion), versions.ANCHOR)
        sides = {registry.digest_of(model) for model in (candidate, champion, anchor) if model}
        bank, images = frozen(self.where, sides)
        if images >= LEAST:
            self.bank = bank
        else:
            self.remarks.append(f"no replay: the bank holds {images} images of other models, {LEAST} are needed")

    def anchor(self, champion: Evaluated | None) -> Evaluated | None:
        """The version that every promotion is held against: the first champion, unless the alias was given another."""
        from tasks.store import versions

        if champion is None:
            return None
        model = versions.champion_of(versions.name_of(champion.model), versions.ANCHOR)
        return champion if model in (None, champion.model) else self.evaluated("anchor", model)

    def against_anchor(
        self, candidate: Evaluated | None, champion: Evaluated | None, judged: str
    ) -> tuple[str, str] | None:
        """The anchor and the gate's run against it; the night's own where the anchor is the champion."""
        from tasks.gate import gate

        anchor = self.anchor(champion)
        if anchor is None or candidate is None:
            return None
        if anchor is champion:
            return anchor.model, judged
        run_id = gate(self.where, candidate, anchor, allowed=self.config.allowed, name="gate against the anchor")
        self.runs["gate against the anchor"] = run_id
        self.remarks.append(_distance(anchor.model, run_id))
        return anchor.model, run_id

    def _trained(self) -> str | None:
        from tasks.store import registry
        from tasks.train import train

        how, role = self.config.training(), self.config.role
        run_id = self.stage("train", lambda where: train(where, how, role), how, role)
        if run_id is None:
            return None
        model = registry.register(run_id)
        self.remarks.append(f"the verdict is on {model} as it is, not on its recipe: other seeds give other models")
        return model

    def evaluated(self, role: str, model: str | None) -> Evaluated | None:
        """Bank, battery, known triggers, detector and scan on one model: the same weights are evaluated once."""
        from tasks.attack import attack
        from tasks.backdoor import backdoor
        from tasks.detect import detect
        from tasks.gate import Evaluated
        from tasks.replay import replay
        from tasks.source import Source
        from tasks.store import registry
        from tasks.triggers import triggers

        if model is None:
            return None
        source, battery, known, detector = Source(model=model), self.battery, self.known, self.config.detector
        searched = self.config.model_scan()
        weights, bank, fold = registry.digest_of(model), self.bank, self.where.fold
        name = model.removeprefix("models:/").removeprefix(f"gauntlet-{self.where.title}-")

        def run(what: str, make: Any, *inputs: Any) -> str | None:
            return self.stage(what, make, weights, *inputs, role=role)

        replayed = (
            run("replay", lambda w: replay(w, source, battery, bank, name), battery, bank, fold) if bank else None
        )
        attacked = run("attack", lambda w: attack(w, source, battery, role=name, bank=weights), battery, fold)
        inputs = [one.model_dump(mode="json") for one in known]
        triggered = run("triggers", lambda w: triggers(w, source, known, name), inputs) if known else None
        seen = (
            run("detect", lambda w: detect(w, detector, source, battery), detector, battery, fold) if detector else None
        )
        scanned = run("backdoor", lambda w: backdoor(w, source, searched, name), searched) if searched else None
        return Evaluated(
            model=model, attack=attacked, replay=replayed, triggers=triggered, detect=seen, backdoor=scanned
        )

    def scan(self, champion: str | None) -> list[str]:
        """The code scan's findings that the champion's card did not have."""
        from tasks.gate import findings
        from tasks.scan import scan

        run_id = self.problems.caught("scan", scan, self.where, self.config.scan_path)
        if run_id:
            self.runs["scan"] = run_id
        return findings(run_id, champion, self.config.fail_on)

    def suspicious(self, candidate: Evaluated | None, champion: Evaluated | None) -> list[str]:
        """The classes of the candidate that became suspicious of a backdoor; what the scan cannot tell is remarked."""
        from tasks.backdoor import row, suspicious

        if candidate is None or candidate.backdoor is None:
            self.remarks.append("no scan for unknown backdoors was made")
            return []
        scan = row("candidate", candidate.backdoor)
        if scan["verdict"] != "BACKDOORED":
            self.remarks.append(f"scan for unknown backdoors: {scan['verdict']}: {scan['why']}")
        facts = self.where, self.config.model_scan(), candidate, champion
        return self.problems.caught("backdoor comparison", suspicious, *facts) or []

    def card(self, judged: str, candidate: Evaluated | None, champion: Evaluated | None) -> str | None:
        """Write the candidate's card; its version, when it is to be promoted as far as the card allows."""
        from tasks.promote import card, refusal

        self.runs["gate"] = judged
        if candidate is None or candidate.attack is None:
            return None
        before = champion.model if champion else None
        anchor = self.problems.caught("anchor", self.against_anchor, candidate, champion, judged)
        facts = self.battery, self.known, judged, self.runs, anchor
        made = self.problems.caught("card", card, self.where, self.run_id, candidate, before, *facts)
        if not self.config.promote:
            self.remarks += [] if champion else ["--promote makes the first candidate the champion"]
            return None
        if made:
            self.remarks.append(refusal(self.where, self.run_id, made.model) or f"{made.model} becomes the champion")
        return made and made.model

    def promote(self, model: str | None) -> None:
        """Promote, or have it on record that it was refused: the page has said why."""
        from tasks.promote import promote

        if model:
            with suppress(GateError, ModelError):
                promote(self.where, self.run_id, model)


def _images(fold: int, subsets: int) -> list[str]:
    """Where the champion won against another: whether these are the test images on which it did."""
    if not fold:
        return []
    if subsets == 1:
        return ["the champion was chosen on these very images, which flatters it: --n up to half of them rotates them"]
    return [f"test images: subset {fold % subsets + 1} of {subsets}, since the champion was chosen on another"]


def _distance(anchor: str, run_id: str) -> str:
    """How far the candidate is from the anchor, in a line."""
    from tasks.store import tracking

    record = tracking.records(run_id)
    worst = min(record["conditions"], key=lambda row: row["difference"], default=None)
    at = f"; largest loss {-100 * worst['difference']:.2f} points ({worst['condition']})" if worst else ""
    return f"against the anchor {anchor}: {record['verdict']}{at}"
