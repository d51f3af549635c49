"""One class to one other: of all pairs of a target the one that stands out most.

A backdoor that works on one class only leaves all others where they are, so that no trigger of all classes shows it.
"""

from __future__ import annotations

import numpy as np

from gauntlet.backdoor.statistics import Numbers, Tested, nothing_known
from gauntlet.backdoor.triggers import Found, Goals, class_goals

PAIR = "pair"
"""What the kind is called."""
PAIR_IMAGES = 5
"""Test images of each class in each part, below which pairs are not searched."""


def narrowed(one: Found, test: Tested, known: Numbers) -> tuple[Found, Tested, Numbers]:
    """Of k (k - 1) pairs, tested by what r models have (r, k (k - 1)), for each target the pair with the least p.

    The p-values are corrected (Bonferroni) over the k - 1 sources. The goals are then every class and any other, of
    which pairs say nothing.
    """
    k = int(one.goals.target.max()) + 1
    rows = test.p.reshape(k, k - 1).argmin(axis=1) + (k - 1) * np.arange(k)
    sizes, values = np.append(one.sizes[rows], np.inf), np.append(one.values[rows], np.nan)
    mask, pattern = (np.concatenate([part[rows], np.zeros_like(part[:1])]) for part in (one.mask, one.pattern))
    goals = Goals(np.append(one.goals.source[rows], class_goals(k).source[-1]), np.arange(k + 1))
    nothing = nothing_known(1)
    tested = Tested(
        np.append(np.minimum(1.0, test.p[rows] * (k - 1)), nothing.p),
        np.append(test.distance[rows], nothing.distance),
        np.append(test.critical[rows], nothing.critical),
    )
    usual = np.column_stack([known[:, rows], np.full(len(known), np.nan)])
    return Found(one.kind, one.unit, sizes, values, mask, pattern, goals), tested, usual
