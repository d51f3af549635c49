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
from gauntlet.models.outputs import cross_entropies
from gauntlet.threat import Images, Labels

Z = 1.959964
"""Standard deviations on either side of a 95 % interval."""


@dataclass(frozen=True)
class Clean:
    """How a classifier does on unattacked images."""

    labels: Labels
    predictions: Labels
    losses: NDArray[np.float64]
    """Cross-entropy of each image, in nats, (n,)."""
    confusion: NDArray[np.int64]
    """(n_classes, n_classes): rows true, columns predicted."""
    report: dict[str, Any]
    """scikit-learn's classification report by class name."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are classified correctly, (n,)."""
        return self.predictions == self.labels


def evaluate(classifier: Target, x: Images, y: Labels, class_names: Sequence[str]) -> Clean:
    """Cross-entropies, confusion matrix and classification report of `x` (n, h, w, c), `y` (n,)."""
    predictions, losses = predict(classifier, x, y)
    return Clean(y, predictions, losses, *tables(y, predictions, class_names))


def predict(classifier: Target, x: Images, y: Labels) -> tuple[Labels, NDArray[np.float64]]:
    """Predicted classes (n,) of images (n, h, w, c), and their cross-entropies with `y` (n,) in nats."""
    logits = classifier.predict(x)
    return logits.argmax(axis=1).astype(np.int64), cross_entropies(logits, y)


def loss_metrics(name: str, losses: NDArray[np.float64]) -> dict[str, float]:
    """The mean of `losses` (n,), at least 0, as metric `name`, with its 95 % interval as `name_low` and `name_high`.

    The interval is of the logarithm of the mean (delta method: its standard error is that of the mean over the mean),
    so it is relative and its lower end is not negative. Raises ValueError when there are no losses.
    """
    if not len(losses):
        raise ValueError("expected at least one loss")
    mean = float(losses.mean())
    error = float(losses.std(ddof=1)) / mean / len(losses) ** 0.5 if mean > 0 and len(losses) > 1 else 0.0
    factor = float(np.exp(Z * min(error, 50.0)))
    return {name: mean, f"{name}_low": mean / factor, f"{name}_high": mean * factor}


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
