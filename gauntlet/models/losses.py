"""What a gradient attack maximises: compiled losses from logits, one number an image.

`y` are the true classes, `target` the classes an attack aims at; a loss uses one of them or both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import tensorflow as tf

Loss = Literal["ce", "ce-targeted", "dlr", "dlr-targeted", "difference"]


def log_odds(logits: Any, y: Any, _target: Any) -> Any:
    """Of all other classes against the true one, in nats: cross-entropy is its softplus.

    The gradient is that of cross-entropy times a positive number, so that every attack that follows its direction does
    the same; it does not vanish where float32 rounds the true class's probability to one.
    """
    return tf.reduce_logsumexp(_others(logits, y), axis=1) - _at(logits, y)


def targeted_log_odds(logits: Any, _y: Any, target: Any) -> Any:
    """Of the target against all other classes."""
    return -log_odds(logits, target, target)


def dlr(logits: Any, y: Any, _target: Any) -> Any:
    """Difference of logits ratio, free of the logits' scale (Croce & Hein 2020, equation 6); three classes or more."""
    top = tf.math.top_k(logits, 3).values
    right, other = _at(logits, y), _best_other(logits, y)
    return -(right - other) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Any, y: Any, target: Any) -> Any:
    """The same towards a target (Croce & Hein 2020, equation 7); four classes or more."""
    top = tf.math.top_k(logits, 4).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12
    return -(_at(logits, y) - _at(logits, target)) / scale


def difference(logits: Any, y: Any, target: Any) -> Any:
    """Logit of the target less that of the true class: above 0 the boundary between both is crossed."""
    return _at(logits, target) - _at(logits, y)


def _at(logits: Any, classes: Any) -> Any:
    return tf.gather(logits, classes, batch_dims=1)


def _best_other(logits: Any, y: Any) -> Any:
    return tf.reduce_max(_others(logits, y), axis=1)


def _others(logits: Any, y: Any) -> Any:
    """The logits, with the lowest number there is at the class."""
    classes = tf.shape(logits)[1]
    return tf.where(tf.one_hot(y, classes, on_value=True, off_value=False), logits.dtype.min, logits)


LOSSES: dict[Loss, Callable[[Any, Any, Any], Any]] = {
    "ce": log_odds,
    "ce-targeted": targeted_log_odds,
    "dlr": dlr,
    "dlr-targeted": targeted_dlr,
    "difference": difference,
}
LEAST_CLASSES: dict[Loss, int] = {"dlr": 3, "dlr-targeted": 4}
"""Classes that a loss needs where two are not enough."""
