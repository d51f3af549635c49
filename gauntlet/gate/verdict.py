"""The gate of a night: candidate against champion, condition by condition, on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gauntlet.assurance.scan.findings import Severity, compare, rank
from gauntlet.attacks import ATTACKS
from gauntlet.gate.card import Verdict
from gauntlet.gate.statistics import Gate, Paired, images_to_tell, overall
from gauntlet.measurement import budget

if TYPE_CHECKING:
    import pandas as pd

FLOORS = {name for name, kind in ATTACKS.items() if not kind.adversary}


KINDS = ("clean", "trigger", "worst case", "certified", "with detector")
"""What the names of conditions begin with, where they do not with an attack's."""


def is_condition(name: str) -> bool:
    """Whether a condition, or several of a kind, can be called so: `pgd`, `pgd 0.1`, `worst case`."""
    attack = name.partition(" ")[0].partition(":")[0]
    return attack in ATTACKS or any(f"{name} ".startswith(f"{kind} ") for kind in KINDS)


def outcomes(
    clean: pd.DataFrame,
    attacked: pd.DataFrame,
    replayed: pd.DataFrame | None = None,
    triggered: pd.DataFrame | None = None,
    detected: pd.DataFrame | None = None,
    certified: pd.DataFrame | None = None,
) -> dict[str, pd.Series]:
    """Correct or not per test image (by position) of one model, for every condition.

    The frames are the `clean.parquet` and `outcomes.parquet` of its runs. Attacks that did not try every image have no
    condition of their own; they count in the worst case, as does the replay bank. With a detector, an attacked image is
    withstood when it is classified correctly or stopped; clean images have no such condition, as the detector, which
    knows no model, says the same of them on both sides.
    """
    import pandas as pd

    if replayed is not None:
        attacked = pd.concat([attacked, replayed], ignore_index=True)
    series = {"clean": clean.set_index("index")["correct"]}
    worst: dict[str, list[pd.Series]] = {}
    for place, group in attacked.groupby(["attack", "norm", "eps"], sort=True):
        attack, norm, eps = cast("tuple[str, str, float]", place)
        correct, where = group.set_index("index")["correct"], _where(norm, eps)
        if group["tried"].all():
            series[f"{attack} {where}"] = correct
        if attack.partition(":")[0] not in FLOORS:
            worst.setdefault(where, []).append(correct)
    for where, several in worst.items():
        series[f"worst case {where}"] = pd.concat(several, axis=1, join="inner").all(axis=1)
    if certified is not None:
        for place, group in certified.groupby(["certifier", "norm", "eps"], sort=True):
            certifier, norm, eps = cast("tuple[str, str, float]", place)
            series[f"certified {certifier} {_where(norm, eps)}"] = group.set_index("index")["certified"]
    if triggered is not None:
        series |= {f"trigger {name}": g.set_index("index")["correct"] for name, g in triggered.groupby("attack")}
    if detected is not None:
        series |= {f"with detector {name}": g.set_index("index")["correct"] for name, g in detected.groupby("images")}
    return series


def pairs(champion: Mapping[str, pd.Series], candidate: Mapping[str, pd.Series]) -> dict[str, Paired]:
    """Both models on the images that both were tried on, for every condition that both have."""
    conditions = {}
    for name in (name for name in candidate if name in champion):
        common = candidate[name].index.intersection(champion[name].index)
        if len(common):
            both = (model[name].loc[common].to_numpy(bool) for model in (champion, candidate))
            conditions[name] = Paired.of(*both)
    return conditions


def needed(champion: Mapping[str, pd.Series], candidate: Mapping[str, pd.Series], allowed: float) -> int | None:
    """The images that would tell, by the images and conditions of this night; None where a million would not."""
    import pandas as pd

    both = {name: (champion[name], candidate[name]) for name in candidate if name in champion}
    changes = {name: after.astype(int) - before.reindex(after.index) for name, (before, after) in both.items()}
    common = pd.concat(changes, axis=1, join="inner").dropna()
    return images_to_tell(common.to_numpy(np.int8), allowed) if len(common) else None


def night_verdict(
    gates: Mapping[str, Gate],
    *,
    missing: Sequence[str] = (),
    needed: int | None = None,
    dead_canaries: Sequence[str] = (),
    doubts: Sequence[str] = (),
    failed: Sequence[str] = (),
    findings: Sequence[str] = (),
    champion: bool = True,
) -> tuple[Verdict, list[str]]:
    """The night's verdict and its reasons: the canaries first, then losses, then whatever prevents a PASS.

    `findings` are new ones of the code scan, and classes suspicious of a backdoor: as bad as a loss. `doubts` are
    evaluations that are not VALID, `failed` stages that did not end, `missing` conditions that only one side has: with
    any of them the night cannot pass. `needed` is the number of images that would tell. Doubts are always told.
    """
    if dead_canaries:
        return "INVALID", [f"the measuring instrument is broken: {line}" for line in dead_canaries]
    losses = [f"{name}: {gate.reason}" for name, gate in gates.items() if gate.verdict == "FAIL"]
    if losses or findings:
        return "FAIL", [*losses, *findings, *failed, *doubts, *missing]
    reasons = [*failed, *doubts, *missing]
    if not champion:
        reasons.append("there is no champion to compare with")
    open_ = [f"{name}: {gate.reason}" for name, gate in gates.items() if gate.verdict == "INCONCLUSIVE"]
    reasons += open_
    if open_:
        reasons.append(f"about {needed:,} images would tell" if needed else "more images would not tell")
    if gates and not (attacked := [name for name, gate in gates.items() if name != "clean" and gate.power]):
        reasons.append(f"nothing but clean accuracy was compared ({len(attacked)} conditions under attack have power)")
    if not reasons and gates and overall(gates) == "PASS":
        return "PASS", []
    return "INCONCLUSIVE", reasons or ["nothing was compared"]


def unmet(series: Mapping[str, pd.Series], floors: Mapping[str, float], failed: Sequence[str] = ()) -> list[str]:
    """What keeps a model from being a first champion: minima not reached, or not measured, and stages that failed.

    A floor is of a condition, or of all conditions of a kind: `clean`, `pgd`, `pgd 0.1`, `worst case`, `trigger`.
    """
    reasons = [f"a first champion needs every stage: {line}" for line in failed]
    for name, least in floors.items():
        shares = {
            one: float(s.mean()) for one, s in series.items() if one == name or one.startswith((f"{name} ", f"{name}:"))
        }
        if not shares:
            reasons.append(f"a first champion needs {name} at {100 * least:g} %, which was not measured")
        reasons += [
            f"a first champion needs {one} at {100 * least:g} %, got {100 * share:.2f} %"
            for one, share in shares.items()
            if share < least
        ]
    return reasons


def doubtful(gates: Mapping[str, Gate]) -> dict[str, Gate]:
    """The gates if an evaluation is in doubt: conditions under attack are then undecided."""
    return {
        name: replace(gate, verdict="INCONCLUSIVE", reason=f"an evaluation is in doubt; {gate.reason}")
        if _attacked(name) and gate.power
        else gate
        for name, gate in gates.items()
    }


def _attacked(name: str) -> bool:
    """Whether a condition rests on an attack, rather than on clean, noisy or triggered images."""
    kind = name.partition(" ")[0].partition(":")[0]
    return kind not in {"clean", "trigger", "certified", *FLOORS}


def one_sided(champion: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    """The conditions that only one of the two has, a line each."""
    sides = (("champion", champion, candidate), ("candidate", candidate, champion))
    return [f"{name}: only the {role} has it" for role, mine, other in sides for name in mine if name not in other]


def rows(gates: Mapping[str, Gate]) -> list[dict[str, Any]]:
    """The gate as plain data, a row a condition."""
    return [{"condition": name} | asdict(gate) for name, gate in gates.items()]


def new_findings(before: pd.DataFrame, now: pd.DataFrame, least: Severity = "medium") -> list[str]:
    """The findings of a scan that an earlier one did not have, one line each, of severity `least` or above.

    By fingerprint, and as often as it comes: a line that was copied is new.
    """
    earlier, later = cast("Any", before.itertuples()), cast("Any", now.itertuples())
    new = [finding for finding in compare(earlier, later).new if rank(finding.severity) >= rank(least)]
    return [f"new finding {f.rule} ({f.severity}) in {f.file}, line {f.line}: {f.message}" for f in new]


def _where(norm: str, eps: float) -> str:
    return f"L{norm} {budget(eps)}" if norm == "2" else budget(eps)
