"""Per-image correctness, and every share that is counted from it: accuracy, success rates, worst case.

ART's `compute_success_array` and `adversarial_accuracy` use other denominators; ours stand here, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack, measured
from gauntlet.measurement import Measurement, wilson
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    import pandas as pd

    from gauntlet.classifier import CompiledClassifier

Knowledge = Literal["white-box", "black-box", "transfer"]
SHARD = 1_024
"""Images an attack gets at once: bounds the memory, and progress is told between shards."""


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


def evaluate(classifier: CompiledClassifier, x: Images, y: Labels, class_names: Sequence[str]) -> Clean:
    """Loss (mean cross-entropy), confusion matrix and classification report of `x` (n, h, w, c), `y` (n,)."""
    predictions, loss = predict(classifier, x, y)
    return Clean(y, predictions, loss, *tables(y, predictions, class_names))


def predict(classifier: CompiledClassifier, x: Images, y: Labels) -> tuple[Labels, float]:
    """Predicted classes (n,) of images (n, h, w, c), and their mean cross-entropy with `y` in nats."""
    from scipy.special import log_softmax

    logits = classifier.predict(x)
    loss = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(y)), y].mean()
    return logits.argmax(axis=1).astype(np.int64), float(loss)


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


@dataclass(frozen=True)
class Attacked:
    """What one attack at one budget did to every image it was given."""

    attack: Attack
    eps: float
    knowledge: Knowledge
    index: NDArray[np.int64]
    """Positions in the test set, (n,): results of several attacks are paired by it."""
    labels: Labels
    clean_predictions: Labels
    predictions: Labels
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    seconds: float
    """Spent on making the images; 0 when they were made before."""
    images: Images = field(repr=False)
    loss: float = np.nan
    """Mean cross-entropy of the attacked images with the true labels, in nats."""

    @cached_property
    def robust(self) -> NDArray[np.bool_]:
        """Correct clean **and** attacked, (n,)."""
        return (self.clean_predictions == self.labels) & (self.predictions == self.labels)

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Of the initially correct images, which were made wrong: (number of initially correct,)."""
        return ~self.robust[self.clean_predictions == self.labels]

    def facts(self, model: str) -> dict[str, Any]:
        """What describes this result in a measurement."""
        knowledge = self.knowledge if self.attack.adversary else "none"
        return {"model": model, "condition": self.attack.name, "knowledge": knowledge} | {
            "eps": self.eps,
            "norm": self.attack.norm,
        }

    def accuracy(self, model: str) -> Measurement:
        """Robust accuracy: over all images."""
        return share(self.robust, **self.facts(model))

    def success_rate(self, model: str) -> Measurement | None:
        """Attack success rate: over the initially correct images; None when there are none."""
        return None if not len(self.fooled) else share(self.fooled, metric="attack_success_rate", **self.facts(model))

    def frame(self) -> pd.DataFrame:
        """One row an image: the outcomes that every later statistic comes from."""
        import pandas as pd

        facts = {
            "attack": self.attack.name,
            "eps": self.eps,
            "norm": self.attack.norm,
            "knowledge": self.knowledge,
        }
        columns: dict[str, Any] = {
            "index": self.index,
            "label": self.labels,
            "clean_prediction": self.clean_predictions,
        }
        columns |= {"prediction": self.predictions, "correct": self.robust, "linf": self.linf, "l2": self.l2}
        return pd.DataFrame(columns | facts)


def attack_all(
    target: CompiledClassifier,
    attack: Attack,
    x: Images,
    y: Labels,
    index: NDArray[np.int64],
    eps: float,
    seed: int,
    *,
    clean: Labels | None = None,
    source: CompiledClassifier | None = None,
    progress: Progress = silent,
) -> Attacked:
    """Attack test images `x[index]` and score `target`; made against `source` instead, the result is a transfer.

    `clean` are the predictions on all of `x`, (len(x),), where they are known already.
    """
    started = time.perf_counter()
    images = craft(source or target, attack, x[index], y[index], eps, seed, progress)
    seconds = time.perf_counter() - started
    knowledge: Knowledge = "transfer" if source else "white-box"
    return score(target, attack, x, y, index, eps, images, knowledge, seconds, clean=clean)


def craft(
    classifier: CompiledClassifier,
    attack: Attack,
    x: Images,
    y: Labels,
    eps: float,
    seed: int,
    progress: Progress = silent,
) -> Images:
    """Adversarial images for all of `x`, shard by shard; each shard has a seed of its own."""
    attack.check_budget(eps)
    starts = range(0, len(x), SHARD)
    seeds = np.random.SeedSequence(seed).generate_state(len(starts))
    made = []
    for number, start in enumerate(starts):
        rows = slice(start, start + SHARD)
        made.append(attack.run(classifier, x[rows], y[rows], eps, int(seeds[number])))
        progress(f"{attack.name} at {eps:.4g}", min(1.0, (start + SHARD) / len(x)))
    return np.concatenate(made)


def score(
    target: CompiledClassifier,
    attack: Attack,
    x: Images,
    y: Labels,
    index: NDArray[np.int64],
    eps: float,
    images: Images,
    knowledge: Knowledge,
    seconds: float = 0.0,
    *,
    clean: Labels | None = None,
) -> Attacked:
    """What `target` makes of adversarial `images` of `x[index]`; the perturbation is measured here, not believed."""
    sizes = measured(images, x[index])
    before = target.labels(x[index]) if clean is None else clean[index]
    after, loss = predict(target, images, y[index])
    predictions = (index, y[index], before, after)
    return Attacked(attack, eps, knowledge, *predictions, sizes["linf"], sizes["l2"], seconds, images, loss)


@dataclass(frozen=True)
class WorstCase:
    """Per image the worst over attacks of one norm at one budget; over the images that all of them saw."""

    norm: str
    eps: float
    attacks: tuple[str, ...]
    index: NDArray[np.int64]
    robust: NDArray[np.bool_]

    def accuracy(self, model: str) -> Measurement:
        """Mean over images of the minimum over attacks: never the minimum of means."""
        return share(
            self.robust,
            model=model,
            condition="worst case",
            knowledge="white-box",
            eps=self.eps,
            norm=self.norm,
        )


def worst_case(results: Sequence[Attacked]) -> list[WorstCase]:
    """The worst case of every norm and budget that a white-box attack was tried at, in order of the budgets."""
    groups: dict[tuple[str, float], list[Attacked]] = {}
    for result in results:
        if result.attack.adversary and result.knowledge == "white-box":
            groups.setdefault((result.attack.norm, result.eps), []).append(result)
    cases = [_worst(norm, eps, group) for (norm, eps), group in sorted(groups.items(), key=lambda item: item[0])]
    return [case for case in cases if len(case.index)]


def _worst(norm: str, eps: float, group: list[Attacked]) -> WorstCase:
    common = np.unique(group[0].index)
    for other in group[1:]:
        common = np.intersect1d(common, other.index, assume_unique=True)
    robust = np.ones(len(common), bool)
    for result in group:
        robust &= result.robust[np.intersect1d(common, result.index, return_indices=True)[2]]
    return WorstCase(norm, eps, tuple(result.attack.name for result in group), common, robust)


def battery(
    target: CompiledClassifier,
    attacks: Sequence[Attack],
    x: Images,
    y: Labels,
    subset: Callable[[Attack], NDArray[np.int64]],
    eps: Sequence[float],
    seed: int,
    *,
    clean: Labels | None = None,
    source: CompiledClassifier | None = None,
    progress: Progress = silent,
) -> list[Attacked]:
    """Every attack at every budget, each on the test images that `subset` gives it."""
    jobs = [(attack, budget) for attack in attacks for budget in attack.budgets(eps, x.shape[-1])]
    results = []
    for number, (attack, budget) in enumerate(jobs):
        step = part(progress, number / len(jobs), (number + 1) / len(jobs))
        made = attack_all(target, attack, x, y, subset(attack), budget, seed, clean=clean, source=source, progress=step)
        results.append(made)
    return results


def zero_gradients(classifier: CompiledClassifier, x: Images, y: Labels, most: int = 1_000) -> float:
    """Share of (at most `most`) images whose loss gradient is zero or not finite everywhere."""
    gradient = classifier.loss_gradient(x[:most], y[:most])
    return float((~np.isfinite(gradient).all(axis=(1, 2, 3)) | (gradient == 0).all(axis=(1, 2, 3))).mean())
