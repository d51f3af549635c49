"""The gate of a night: candidate against champion, condition by condition, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from gauntlet.assurance.scan.findings import Severity, compare, rank
from gauntlet.attacks import ATTACKS
from gauntlet.evaluation.bank import Replay
from gauntlet.gate.card import Verdict
from gauntlet.gate.statistics import Gate, Paired, overall
from gauntlet.measurement import budget

if TYPE_CHECKING:
    import pandas as pd

FLOORS = {name for name, kind in ATTACKS.items() if not kind.adversary}
REPLAY = str(Replay.model_fields["name"].default)


def outcomes(
    clean: pd.DataFrame,
    attacked: pd.DataFrame,
    replayed: pd.DataFrame | None = None,
    triggered: pd.DataFrame | None = None,
    detected: pd.DataFrame | None = None,
) -> dict[str, pd.Series]:
    """Correct or not per test image (by position) of one model, for every condition.

    The frames are the `clean.parquet` and `outcomes.parquet` of its runs. Attacks that did not try every image have no
    condition of their own; they count in the worst case, as does the replay bank. A detector is right about an image
    that it lets pass clean, or stops attacked.
    """
    import pandas as pd

    if replayed is not None:  # a cascade holds the replayed images already, as its head start
        attacked = pd.concat([attacked[attacked["attack"] != REPLAY], replayed], ignore_index=True)
    found = {"clean": clean.set_index("index")["correct"]}
    worst: dict[str, list[pd.Series]] = {}
    for place, group in attacked.groupby(["attack", "norm", "eps"], sort=True):
        attack, norm, eps = cast("tuple[str, str, float]", place)
        correct, where = group.set_index("index")["correct"], _where(norm, eps)
        if group["tried"].all():
            found[f"{attack} {where}"] = correct
        if attack.partition(":")[0] not in FLOORS:
            worst.setdefault(where, []).append(correct)
    for where, several in worst.items():
        found[f"worst case {where}"] = pd.concat(several, axis=1, join="inner").all(axis=1)
    if triggered is not None:
        found |= {f"trigger {name}": g.set_index("index")["correct"] for name, g in triggered.groupby("attack")}
    if detected is not None:
        found |= {f"detector on {name}": g.set_index("index")["correct"] for name, g in detected.groupby("images")}
    return found


def pairs(champion: Mapping[str, pd.Series], candidate: Mapping[str, pd.Series]) -> dict[str, Paired]:
    """Both models on the images that both were tried on, for every condition that both have."""
    found = {}
    for name in (name for name in candidate if name in champion):
        common = candidate[name].index.intersection(champion[name].index)
        if len(common):
            both = (model[name].loc[common].to_numpy(bool) for model in (champion, candidate))
            found[name] = Paired.of(*both)
    return found


def settle(
    gates: Mapping[str, Gate],
    *,
    dead_canaries: Sequence[str] = (),
    doubts: Sequence[str] = (),
    failed: Sequence[str] = (),
    findings: Sequence[str] = (),
    champion: bool = True,
) -> tuple[Verdict, list[str]]:
    """The night's verdict and its reasons: the instrument first, then losses, then whatever keeps it from passing.

    `findings` are new ones of the code scan: as bad as a loss. `doubts` are evaluations that are not VALID, `failed`
    stages that did not end: with either the night cannot pass.
    """
    if dead_canaries:
        return "INVALID", [f"the measuring instrument is broken: {line}" for line in dead_canaries]
    losses = [f"{name}: {gate.reason}" for name, gate in gates.items() if gate.verdict == "FAIL"]
    if losses or findings:
        return "FAIL", [*losses, *findings, *failed]
    reasons = [*failed, *doubts]
    if not champion:
        reasons.append("there is no champion to compare with")
    reasons += [f"{name}: {gate.reason}" for name, gate in gates.items() if gate.verdict == "INCONCLUSIVE"]
    if not reasons and gates and overall(gates) == "PASS":
        return "PASS", []
    return "INCONCLUSIVE", reasons or ["nothing was compared"]


def rows(gates: Mapping[str, Gate]) -> list[dict[str, Any]]:
    """The gate as plain data, a row a condition."""
    return [{"condition": name} | asdict(gate) for name, gate in gates.items()]


def new_findings(before: pd.DataFrame, now: pd.DataFrame, least: Severity = "medium") -> list[str]:
    """The findings of a scan that an earlier one did not have, one line each, of severity `least` or above.

    By fingerprint, and as often as it comes: a line that was copied is new.
    """
    earlier, later = cast("Any", before.itertuples()), cast("Any", now.itertuples())
    new = [found for found in compare(earlier, later).new if rank(found.severity) >= rank(least)]
    return [f"new finding {f.rule} ({f.severity}) in {f.file}, line {f.line}: {f.message}" for f in new]


def _where(norm: str, eps: float) -> str:
    return f"L{norm} {budget(eps)}" if norm == "2" else budget(eps)
