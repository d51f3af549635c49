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
    N(0, 1): with p the share of each class in `y`, the mean of `scores[i, y[i]] - p @ scores[i]` is then 0.
    """
    excess = _apart(scores, y)[np.arange(len(y)), y]
    return _in_errors(float(excess.mean()), float(excess.std() / np.sqrt(len(y))))


def informative(predictions: Array, y: Array, n_classes: int) -> bool:
    """Whether predicted classes (n,) depend on the labels (n,): in standard errors of the images or of permuted labels.

    The first says so of few images that are all right. The second (Hoeffding 1951) is not inflated by a rare class
    that is always right. Of scores it would tell what a bias hides from every prediction.
    """
    answers = np.eye(n_classes)[predictions]
    return max(dependence(answers, y), _permuted(answers, y)) > CLEARLY


def _permuted(scores: Array, y: Array) -> float:
    """The dependence in standard errors of permuted labels."""
    apart, n = _apart(scores, y), len(y)
    spread = ((apart - apart.mean(axis=0)) ** 2 @ np.bincount(y, minlength=scores.shape[1])).sum() / n
    return _in_errors(float(apart[np.arange(n), y].mean()), float(np.sqrt(spread / max(n - 1, 1) / n)))


def _apart(scores: Array, y: Array) -> Array:
    """Scores (n, k) less what each image's are on average over the labels."""
    shares = np.bincount(y, minlength=scores.shape[1]) / len(y)
    return scores.astype(np.float64) - (scores @ shares)[:, np.newaxis]


def _in_errors(mean: float, error: float) -> float:
    """A mean in standard errors: infinite without any error, 0 where there is nothing."""
    if error <= 1e-12 * abs(mean):
        return np.inf if mean > 1e-12 else 0.0
    return mean / error


def balanced_accuracy(predictions: Array, y: Array) -> float:
    """The mean over classes of the share of their images that are right."""
    return float(np.mean([(predictions[y == k] == k).mean() for k in np.unique(y)]))
