"""A test that the evaluation itself must pass: adversarial images are planted, and its own attacks must find them.

Zimmermann, Brendel, Tramèr, Carlini, Increasing Confidence in Adversarial Robustness Evaluations, NeurIPS 2022,
section 3: on top of the model's features a linear head of two classes is set so that all draws from the budget around
an image are of one class and one point at its edge is of the other. An adversarial image then exists by construction.
Attacks that miss it would miss others too. Here the draws include points at the edge, so that random search fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.attacks import Attack
from gauntlet.errors import SettingError
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.evaluation.outcome import Attacked
from gauntlet.models.access import Target
from gauntlet.models.scale import GAP
from gauntlet.threat import Images
from gauntlet.validity.samples import Sample
from gauntlet.validity.stakes import LEAST, at_stake, mine

if TYPE_CHECKING:
    import keras

IMAGES = 48
"""Images around which something is planted, for each norm."""
DRAWS = 256
"""Points of each budget that must not be adversarial, half of them at its edge."""
INNER = 0.95
"""Of the budget: how far the inner points go."""
RIDGE = 1e-3
"""Of the mean variance of the features, added to their covariance."""


FIRST = np.zeros(1, np.int64)
"""The only image, and the class that it is of."""


@dataclass(frozen=True)
class Planted:
    """How many of `n` planted images the attacks of a norm missed at a budget."""

    norm: str
    eps: float
    n: int
    missed: int

    @property
    def sample(self) -> Sample:
        """The share that was missed."""
        return Sample(self.missed, self.n)


class Head(NamedTuple):
    """A model of two logits on another model's features, of which the second layer's weights are set at will."""

    model: keras.Model
    features: keras.Model
    last: Any
    """The dense layer of the two logits."""


def head_on(network: keras.Model) -> Head:
    """On what the network's last dense layer takes; on the logits where that layer cannot be reached."""
    import keras

    tensor = _late(network)
    flat = keras.layers.Flatten(name="planted_features")(tensor)
    last = keras.layers.Dense(2, dtype="float32", name="planted_head")
    return Head(keras.Model(network.inputs, last(flat)), keras.Model(network.inputs, flat), last)


def _late(network: keras.Model) -> Any:
    """The tensor behind which only one dense layer and steps without weights follow."""
    import keras

    tensor = network.outputs[0]
    while True:
        layer, node, _ = tensor._keras_history
        given = layer._inbound_nodes[node].input_tensors
        if isinstance(layer, keras.layers.Dense):
            return given[0]
        if len(given) != 1 or getattr(layer, "weights", None):
            return network.outputs[0]
        tensor = given[0]


def planted(
    target: Target, x: Images, results: Sequence[Attacked], seed: int, *, blind: bool = False
) -> Iterator[Planted]:
    """One test for each norm in which images are left, by the battery's own gradient attacks at that budget.

    `x` (n, h, w, c) are images that the model classifies correctly. Nothing is planted in a model without Keras layers,
    or where fewer than 16 points can be separated from the draws. With `blind` the attacks without gradients help.
    """
    model: Any = getattr(target, "model", None)
    for case in at_stake(results) if hasattr(model, "layers") else ():
        attacks = [r.attack for r in mine(case, results) if blind or r.attack.access == "gradients"]
        battery = _fitted(attacks, case.eps)
        if battery and case.norm in ("inf", "2"):
            breaks = _tried(head_on(model), battery, x[:IMAGES], case.norm, case.eps, target.clip_values, seed)
            if breaks.n >= LEAST:
                yield breaks


def _fitted(attacks: Sequence[Attack], eps: float) -> Battery | None:
    """The attacks as a cascade on two classes; None where none is left."""
    try:
        return Battery(attack=tuple(attacks), eps=(eps,), cascade=True).fitted(2) if attacks else None
    except SettingError:
        return None


def _tried(
    head: Head, battery: Battery, x: Images, norm: str, eps: float, bounds: tuple[float, float], seed: int
) -> Planted:
    from gauntlet.models.classifier import CompiledClassifier

    classifier, n, missed = CompiledClassifier(head.model, bounds), 0, 0
    features = CompiledClassifier(head.features, bounds)
    for number, image in enumerate(x):
        rng = np.random.default_rng([seed, number])
        if (weights := _separating(features.predict(_draws(image, norm, eps, bounds, rng)))) is None:
            continue
        head.last.set_weights(list(weights))
        job = Job(classifier, image[None], FIRST, FIRST, seed)
        results = run(battery, job, lambda _: FIRST)
        n, missed = n + 1, missed + all(result.robust.all() for result in results)
    return Planted(norm, eps, n, missed)


def _draws(image: Images, norm: str, eps: float, bounds: tuple[float, float], rng: np.random.Generator) -> Images:
    """The point to be planted, the image, and draws of its budget: float32 (2 + DRAWS, h, w, c)."""
    edge, inner = DRAWS // 2 + 1, DRAWS // 2
    if norm == "inf":
        at_edge = rng.choice([-1.0, 1.0], (edge, *image.shape))
        within = rng.uniform(-INNER, INNER, (inner, *image.shape))
    else:
        moves = rng.normal(size=(edge + inner, *image.shape))
        moves /= np.sqrt((moves**2).sum(axis=(1, 2, 3), keepdims=True))
        at_edge, within = moves[:edge], moves[edge:] * rng.uniform(0, INNER, (inner, 1, 1, 1))
    points = np.concatenate([image[None] + eps * at_edge, image[None], image[None] + eps * within])
    return np.asarray(np.clip(points, *bounds), np.float32)


def _separating(features: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Weights (d, 2) and biases (2,) that give the first row to class 1 and all others (n, d) to class 0.

    Fisher's direction between them, the threshold halfway between the first row and the nearest other; None where
    another row is as far as the first.
    """
    wide = features.astype(np.float64)
    centred = wide[1:] - wide[1:].mean(axis=0)
    covariance = centred.T @ centred / len(centred)
    ridge = RIDGE * np.trace(covariance) / len(covariance) + 1e-12
    direction = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), wide[0] - wide[1:].mean(axis=0))
    scores = wide @ direction
    if not scores[0] > scores[1:].max() + 1e-6 * np.ptp(scores):
        return None
    threshold = (scores[0] + scores[1:].max()) / 2
    scale = GAP / (threshold - np.median(scores[1:]))
    weights = np.stack([np.zeros_like(direction), scale * direction], axis=1)
    return weights, np.array([0.0, -scale * threshold])
