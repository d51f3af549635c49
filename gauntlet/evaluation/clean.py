"""How a model does on unattacked images, and how a share of images is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.measurement import Measurement, wilson
from gauntlet.models.access import Target
from gauntlet.threat import Images, Labels


@dataclass(frozen=True)
class Clean:
    """How a classifier does on unattacked images."""

    labels: Labels
    predictions: Labels
    loss: float
    confusion: NDArray[np.int64]
    """(n_classes, n_classes): rows true, columns predicted."""
    report: dict[str, Any]
    """scikit-learn's classification report by class name."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are classified correctly, (n,)."""
        return self.predictions == self.labels


def evaluate(classifier: Target, x: Images, y: Labels, class_names: Sequence[str]) -> Clean:
    """Loss (mean cross-entropy), confusion matrix and classification report of `x` (n, h, w, c), `y` (n,)."""
    predictions, loss = predict(classifier, x, y)
    return Clean(y, predictions, loss, *tables(y, predictions, class_names))


def predict(classifier: Target, x: Images, y: Labels) -> tuple[Labels, float]:
    """Predicted classes (n,) of images (n, h, w, c), and their mean cross-entropy with `y` in nats."""
    logits = classifier.predict(x)
    return logits.argmax(axis=1).astype(np.int64), float(cross_entropies(logits, y).mean())


def cross_entropies(logits: Images, y: Labels) -> NDArray[np.float64]:
    """Of each image's true class, in nats, (n,)."""
    from scipy.special import log_softmax

    return -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(y)), y]


def tables(y: Labels, predictions: Labels, class_names: Sequence[str]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Confusion matrix (rows true, columns predicted) and classification report of any predictions."""
    from sklearn.metrics import classification_report, confusion_matrix

    classes = list(range(len(class_names)))
    report = classification_report(
        y, predictions, labels=classes, target_names=list(class_names), output_dict=True, zero_division=0
    )
    return confusion_matrix(y, predictions, labels=classes), report


def share(hits: NDArray[np.bool_], **facts: Any) -> Measurement:
    """The share of `hits` (n,) with its 95 % Wilson interval, as a measurement described by `facts`."""
    successes, n = int(hits.sum()), len(hits)
    low, high = wilson(successes, n) if n else (0.0, 1.0)
    return Measurement(value=successes / n if n else 0.0, low=low, high=high, n=n, **facts)


def inference_ms(predict: Callable[[Images], Any], x: Images, passes: int = 5) -> float:
    """Milliseconds an image: the median of `passes` timed passes over at most 2,000 images, after a warm-up."""
    x = x[:2_000]
    predict(x)
    seconds = []
    for _ in range(passes):
        started = time.perf_counter()
        predict(x)
        seconds.append(time.perf_counter() - started)
    return float(1_000 * np.median(seconds) / len(x))
