"""Models without a gradient, such as step functions: a search without gradients stands for the attacks.

Where the battery holds one, a search of another kind and a stronger one of its own are tried on what it leaves. If they
break no more, the number rests on the search, and it does not matter that gradients are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gauntlet.attacks import Attack, FiniteDifferences, Square
from gauntlet.evaluation.outcome import Attacked
from gauntlet.threat import Images, Labels
from gauntlet.validity.retries import Retry, retried
from gauntlet.validity.stakes import at_stake, mine

STEPS = 0.5
"""Of the images: with so many that have no gradient, a model is taken for a step function."""
LEAST_QUERIES = 400
"""Of an image, from which on an attack is a search and not a sample."""
SEARCHED = 32
"""Images that another search gets at most."""
KINDS = FiniteDifferences(), Square(max_iter=1_000), Square(norm="2", max_iter=1_000)


def searches(results: Sequence[Attacked]) -> list[Attacked]:
    """Those of searches without gradients, on a model that shows them."""
    able = [r for r in results if r.attack.adversary and r.attack.iterative and r.attack.access != "gradients"]
    return [r for r in able if r.knowledge == "white-box" and r.calls.max() >= LEAST_QUERIES]


def searched(model: Any, x: Images, y: Labels, results: Sequence[Attacked], seed: int) -> Iterator[Retry]:
    """For each norm in which the battery searches without gradients: other searches, on images that it left."""
    for case in at_stake(results):
        here = searches(mine(case, results))
        if here:
            after = min(here, key=lambda result: result.robust.mean())
            yield from (retried(model, x, y, other, after, case, SEARCHED, seed + 1) for other in _others(here, after))


def _others(here: Sequence[Attacked], after: Attacked) -> list[Attack]:
    """The kinds of search that are not tried yet, and the strongest one made stronger."""
    names = {result.attack.name for result in here}
    fresh: list[Attack] = [one for one in KINDS if one.norm == after.attack.norm and one.name not in names]
    stronger = after.attack.stronger()
    return [*fresh, stronger] if stronger else fresh
