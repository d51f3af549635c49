"""Whether a model's answers have anything to do with the labels.

Accuracy alone cannot tell: on 97 images of one class and 3 of another a useful model may be right less often than one
that always answers the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CLEARLY = 3.0
"""Standard errors above independence from which a dependence counts."""


def dependence(scores: Array, y: Array) -> float:
    """Standard errors by which the score of the true class exceeds what other images' labels would give.

    `scores` (n, k) are any scores, or one-hot predictions; `y` (n,) are labels. Independent answers give about
    N(0, 1): with p the share of each class in `y`, the mean of `scores[i, y[i]] - p @ scores[i]` is then 0. Its
    standard error is the smaller of two: by the spread among images, which is 0 for a few images that are all right,
    and by that of permuted labels (Hoeffding 1951), which a rare class that is always right does not inflate.
    """
    n, shares = len(y), np.bincount(y, minlength=scores.shape[1]) / len(y)
    apart = scores.astype(np.float64) - (scores @ shares)[:, np.newaxis]
    excess = apart[np.arange(n), y]
    permuted = float(((apart - apart.mean(axis=0)) ** 2 @ shares).sum()) / max(n - 1, 1)
    mean, error = float(excess.mean()), float(np.sqrt(min(excess.var(), permuted) / n))
    if error <= 1e-12 * abs(mean):
        return np.inf if mean > 1e-12 else 0.0
    return mean / error


def informative(predictions: Array, y: Array, n_classes: int) -> bool:
    """Whether predicted classes (n,) depend on the labels (n,)."""
    return dependence(np.eye(n_classes)[predictions], y) > CLEARLY


def balanced_accuracy(predictions: Array, y: Array) -> float:
    """The mean over classes of the share of their images that are right."""
    return float(np.mean([(predictions[y == k] == k).mean() for k in np.unique(y)]))
