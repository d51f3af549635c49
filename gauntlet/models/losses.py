"""What a gradient attack maximises: compiled losses from logits, one number an image.

`y` are the true classes, `target` the classes an attack aims at; a loss uses one of them or both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import tensorflow as tf

Loss = Literal["ce", "ce-targeted", "dlr", "dlr-targeted", "difference"]


def cross_entropy(logits: Any, y: Any, _target: Any) -> Any:
    """Of the true class, in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)


def targeted_cross_entropy(logits: Any, _y: Any, target: Any) -> Any:
    """Minus that of the target."""
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)


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
    hidden = tf.one_hot(y, tf.shape(logits)[1], on_value=-tf.float32.max, off_value=0.0)
    return tf.reduce_max(logits + hidden, axis=1)


LOSSES: dict[Loss, Callable[[Any, Any, Any], Any]] = {
    "ce": cross_entropy,
    "ce-targeted": targeted_cross_entropy,
    "dlr": dlr,
    "dlr-targeted": targeted_dlr,
    "difference": difference,
}
LEAST_CLASSES: dict[Loss, int] = {"dlr": 3, "dlr-targeted": 4}
"""Classes that a loss needs where two are not enough."""
