"""Which images are taken: held out by class, or a representative few."""

from __future__ import annotations

import numbers

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import SettingError, one_line


def stratified_split(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted (kept, held out) indices (int64) into `labels` (N,), every class in proportion.

    Raises SettingError: `share` is not between 0 and 1 or does not suit the classes; unusable seed.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < share < 1:
        raise SettingError(f"is {share}", where="share", fix="give a fraction between 0 and 1")
    order, state = np.arange(len(labels), dtype=np.int64), checked_seed(seed)
    try:
        kept, rest = train_test_split(order, test_size=share, stratify=labels, random_state=state)
    except ValueError as error:
        what = f"{share} of {len(labels)} images cannot be split by class: {one_line(error)}"
        raise SettingError(what, where="share", fix="use another share or more images") from error
    return np.sort(kept), np.sort(rest)


def spread(labels: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices (int64) of at most `n` of `labels` (N,), every class in proportion.

    For one seed a smaller choice is a subset of every larger one.
    """
    rng = np.random.default_rng(checked_seed(seed))
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for k in np.unique(labels):
        members = shuffled[labels[shuffled] == k]
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:n]).astype(np.int64)


def checked_seed(seed: int) -> int:
    """A seed that NumPy and scikit-learn take; `SettingError` otherwise."""
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise SettingError(f"is {one_line(seed)}", where="seed", fix="give a whole number, 0 to 2**32 - 1")
    return int(seed)
