"""What each attack of a battery contributed: how near it came to the worst case, what only it broke, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.evaluation.outcome import Attacked

CAPTION = "What each attack contributed"
"""Of the table in reports."""


@dataclass(frozen=True)
class Effort:
    """Of one attack, over all its budgets."""

    attack: str
    norm: str
    optimality: float | None
    """In [0, 1]: the area between clean accuracy and the attack's own curve, as a share of the same area for the worst
    case (after Cinà et al. 2025, AttackBench, with budgets for distances). None in a cascade, or if nothing broke."""
    broken: int
    """Images that it made wrong at its largest budget; in a cascade, of those it tried."""
    only: int | None
    """Of those, the ones that no other attack made wrong; None in a cascade, where each image is broken once."""
    seconds: float
    calls: float
    """Gradients or queries per image tried, mean over the budgets."""


def efforts(results: Sequence[Attacked]) -> list[Effort]:
    """One for each attack that counts in a worst case, in the order of the battery."""
    counted = [result for result in results if result.attack.adversary and result.knowledge != "transfer"]
    kinds = dict.fromkeys((result.named, result.attack.norm) for result in counted)
    return [_effort(kind, [result for result in counted if result.attack.norm == kind[1]]) for kind in kinds]


def _effort(kind: tuple[str, str], rivals: Sequence[Attacked]) -> Effort:
    """Of the attack `kind` (name, norm), among all results of its norm."""
    mine = sorted((result for result in rivals if result.named == kind[0]), key=lambda result: result.eps)
    alone = all(result.alone for result in rivals)
    others = [result for result in rivals if result.named != kind[0] and result.eps == mine[-1].eps]
    cost = sum(result.seconds for result in mine), float(np.mean([result.mean_calls for result in mine]))
    only = len(_broken([mine[-1]]) - _broken(others)) if alone else None
    return Effort(*kind, _optimality(mine, rivals) if alone else None, int(mine[-1].broken.sum()), only, *cost)


def _broken(results: Iterable[Attacked]) -> set[int]:
    """Positions in the test set."""
    return {int(at) for result in results for at in result.index[result.broken]}


def _optimality(mine: Sequence[Attacked], rivals: Sequence[Attacked]) -> float | None:
    """Images broken, integrated over the budgets from 0 on; against those that any rival broke."""
    budgets = np.array([0.0, *(result.eps for result in mine)])
    own = [0, *(len(_broken([result])) for result in mine)]
    worst = [0, *(len(_broken(r for r in rivals if r.eps == result.eps)) for result in mine)]
    best = _area(worst, budgets)
    return _area(own, budgets) / best if best else None


def _area(counts: Sequence[int], budgets: NDArray[np.float64]) -> float:
    return float(np.trapezoid(counts, budgets))


NAMES = {"broken": "images broken", "only": "by no other", "seconds": "time (s)", "calls": "calls per image"}
"""Of fields, the columns in reports."""


def shown(efforts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Efforts as plain data, as the rows of a report's table; numbers to three digits."""
    return [{NAMES.get(name, name): _rounded(value) for name, value in effort.items()} for effort in efforts]


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value
