"""Compare the night's candidate with the champion, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from gauntlet.assurance.scan.findings import Severity
from gauntlet.gate import verdict as rules
from gauntlet.gate.statistics import decide
from gauntlet.measurement import budget
from gauntlet.report import document
from tasks.context import Context
from tasks.stage import step
from tasks.store import registry, tracking

if TYPE_CHECKING:
    import pandas as pd


class Evaluated(BaseModel):
    """The runs that say how one model did; None where a stage failed or was not asked for."""

    model_config = ConfigDict(frozen=True)

    model: str
    attack: str | None = None
    replay: str | None = None
    triggers: str | None = None
    detect: str | None = None
    backdoor: str | None = None

    def outcomes(self) -> dict[str, pd.Series]:
        """Correct or not per image and condition."""
        if self.attack is None:
            return {}
        clean, attacked = (tracking.frame(self.attack, f"{name}.parquet") for name in ("clean", "outcomes"))
        replayed, triggered = (
            tracking.frame(r, "outcomes.parquet") if r else None for r in (self.replay, self.triggers)
        )
        detected = _detected(self.detect) if self.detect else None
        proven = "certified.parquet"
        certified = tracking.frame(self.attack, proven) if tracking.find(self.attack, proven) else None
        return rules.outcomes(clean, attacked, replayed, triggered, detected, certified)

    def doubt(self, role: str) -> list[str]:
        """Why the evaluation cannot pass, if it cannot."""
        if self.attack is None:
            return []
        tags = tracking.read(self.attack).data.tags
        verdict, reasons = tags.get("gauntlet.validity", "INVALID"), tags.get("gauntlet.reasons", "")
        return [] if verdict == "VALID" else [f"the {role}'s evaluation is {verdict}: {reasons}"]

    def notes(self, role: str) -> list[str]:
        """What its evaluation remarks besides its doubts: what no probe could exclude, few images, hidden gradients."""
        return [f"{role}: {note}" for note in tracking.records(self.attack)["notes"]] if self.attack else []


@step("gate")
def gate(
    context: Context,
    candidate: Evaluated | None,
    champion: Evaluated | None,
    *,
    allowed: float,
    dead_canaries: Sequence[str] = (),
    failed: Sequence[str] = (),
    findings: Sequence[str] = (),
    floors: Mapping[str, float] | None = None,
    name: str = "gate",
) -> str:
    """The verdict on every condition and on the night; returns the run's id, whose `metrics.json` holds both.

    `floors` are what a first champion must reach.
    """
    params = context.params() | {"allowed": allowed, "candidate": candidate and candidate.model}
    params |= {"champion": champion and champion.model}
    with tracking.run("gate", context, context.load(), name=name, params=params) as run:
        before, after = (one.outcomes() if one else {} for one in (champion, candidate))
        conditions = rules.pairs(before, after)
        doubts = [
            *(candidate.doubt("candidate") if candidate else []),
            *(champion.doubt("champion") if champion else []),
        ]
        gates = decide(conditions, allowed) if conditions else {}
        gates = rules.doubtful(gates) if doubts else gates
        known: dict[str, Any] = {"dead_canaries": dead_canaries, "doubts": doubts, "failed": failed}
        known |= {"findings": findings, "missing": rules.one_sided(before, after) if conditions else []}
        known |= {"needed": rules.needed(before, after, allowed) if conditions else None}
        verdict, reasons = rules.night_verdict(gates, champion=champion is not None, **known)
        run.tags({"gauntlet.verdict": verdict, "gauntlet.reasons": "; ".join(reasons)})
        if gates:
            run.table("gate.json", document.frame(shown(rules.rows(gates))))
        first = rules.unmet(after, floors or {}, failed) if champion is None else []
        facts = {"verdict": verdict, "reasons": reasons, "unmet": first, "needed": known["needed"]}
        run.record([], {}, conditions=rules.rows(gates), **facts)
    return run.id


def _detected(run_id: str) -> pd.DataFrame:
    """Whether each attacked image is withstood: classified correctly by the model, or stopped by the detector."""
    outcomes, threshold = tracking.frame(run_id, "outcomes.parquet"), tracking.records(run_id)["threshold"]
    outcomes = outcomes[outcomes["attack"] != "clean"]
    withstood = outcomes["correct"] | (outcomes["score"] > threshold)
    return outcomes.assign(correct=withstood, images=outcomes["attack"].str.cat(outcomes["eps"].map(budget), " "))


def findings(scan: str | None, champion: str | None, least: Severity) -> list[str]:
    """The findings of the run `scan` that the champion's card did not have; none where it has no card."""
    before = champion and registry.runs_of_card(champion).get("scan")
    if not (scan and before):
        return []
    return rules.new_findings(tracking.table(before, "findings.json"), tracking.table(scan, "findings.json"), least)


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The gate's rows as people read them, the worst first: shares and differences in percent and points."""
    rows = sorted(rows, key=lambda row: ("FAIL", "INCONCLUSIVE", "PASS").index(row["verdict"]))
    return [
        {
            "condition": row["condition"],
            "verdict": row["verdict"],
            "n": f"{row['n']:,}",
            "champion %": f"{100 * row['champion']:.2f}",
            "candidate %": f"{100 * row['candidate']:.2f}",
            "difference [90 %], points": f"{100 * row['difference']:+.2f} "
            f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]",
            "p (Holm)": f"{row['adjusted']:.2g}",
            "power": "" if row["power"] else "none",
        }
        for row in rows
    ]
