"""Compare the night's candidate with the champion, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from gauntlet import gate as maths
from gauntlet.statistics import judge
from tasks import tracking
from tasks.context import Context

if TYPE_CHECKING:
    import pandas as pd


class Evaluated(BaseModel):
    """The runs that say how one model did; None where a stage failed or was not asked for."""

    model_config = ConfigDict(frozen=True)

    model: str
    attack: str | None = None
    replay: str | None = None
    triggers: str | None = None

    def outcomes(self) -> dict[str, pd.Series]:
        """Correct or not per image and condition."""
        if self.attack is None:
            return {}
        clean, attacked = (tracking.frame(self.attack, f"{name}.parquet") for name in ("clean", "outcomes"))
        replayed = tracking.frame(self.replay, "outcomes.parquet") if self.replay else None
        triggered = tracking.frame(self.triggers, "outcomes.parquet") if self.triggers else None
        return maths.outcomes(clean, attacked, replayed, triggered)

    def doubt(self, role: str) -> list[str]:
        """Why the evaluation cannot pass, if it cannot."""
        if self.attack is None:
            return []
        tags = tracking.read(self.attack).data.tags
        verdict, reasons = tags.get("gauntlet.validity", "INVALID"), tags.get("gauntlet.reasons", "")
        return [] if verdict == "VALID" else [f"the {role}'s evaluation is {verdict}: {reasons}"]


@task(name="gate", cache_policy=NO_CACHE)
def gate(
    context: Context,
    candidate: Evaluated | None,
    champion: Evaluated | None,
    *,
    allowed: float,
    dead_canaries: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> str:
    """The verdict on every condition and on the night; returns the run's id, whose `metrics.json` holds both."""
    params = context.params() | {"allowed": allowed, "candidate": candidate and candidate.model}
    params |= {"champion": champion and champion.model}
    with tracking.run("gate", context, context.load(), name="gate", params=params) as run:
        found = maths.pairs(champion.outcomes(), candidate.outcomes()) if candidate and champion else {}
        gates = judge(found, allowed) if found else {}
        doubts = [
            *(candidate.doubt("candidate") if candidate else []),
            *(champion.doubt("champion") if champion else []),
        ]
        told = {"dead_canaries": dead_canaries, "doubts": doubts, "failed": failed}
        verdict, reasons = maths.settle(gates, champion=champion is not None, **told)
        run.tags({"gauntlet.verdict": verdict, "gauntlet.reasons": "; ".join(reasons)})
        if gates:
            run.table("gate.json", frame(maths.rows(gates)))
        run.record([], {}, verdict=verdict, reasons=reasons, conditions=maths.rows(gates))
    return run.id


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The gate as people read it: shares and differences in percent and points."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "condition": row["condition"],
                "verdict": row["verdict"],
                "n": f"{row['n']:,}",
                "champion %": f"{100 * row['champion']:.2f}",
                "candidate %": f"{100 * row['candidate']:.2f}",
                "difference [90 %], points": f"{100 * row['difference']:+.2f} "
                f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]",
                "p (Holm)": f"{row['adjusted']:.2g}",
                "images needed": f"{row['needed']:,}" if row["needed"] else "",
            }
            for row in rows
        ]
    )
