"""Clean models to compare with: the same network trained afresh on the same data, kept with what was found in them.

A network of Keras or PyTorch is built again without its weights. Of others only the answers can be had: a network of
ours stands in for them, which tells what is usual for each class but not for the model (`References.basis`). How a
stranger's model was trained is not known; the references are trained by the settings below.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.backdoor.fresh import Fresh, KerasFresh
from gauntlet.backdoor.scan import Basis, ModelScan, Parts, References, candidates
from gauntlet.checkpoint import Checkpoint
from gauntlet.progress import Progress, part, silent
from gauntlet.state import state_dir
from gauntlet.training.fit import usual_epochs

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from gauntlet.models.access import Target
    from gauntlet.models.classifier import WhiteBox

STAND_IN = "cnn3x3"
BATCH, RATE = 128, 0.001
"""Images a step and the learning rate of Adam, by which every reference is trained."""
SEARCH = ("inversion.py", "probes.py", "triggers.py")
"""The code that decides what is found."""
LOST = 0.03
"""A network whose references are so much less accurate than itself was trained otherwise: they only stand in."""


@dataclass(frozen=True)
class Recipe:
    """A network that can be trained afresh, and what its references depend on."""

    fresh: Callable[[int], Fresh]
    """By a seed."""
    graph: Any
    basis: Basis

    def digest(self, dataset: Dataset) -> str:
        """SHA-256 (hex) over network, data and training."""
        facts = [self.graph, dataset.digest, usual_epochs(len(dataset.x_train)), BATCH, RATE]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def recipe(model: Target, dataset: Dataset) -> Recipe:
    """Of a network of Keras or PyTorch its own, where it can be built again; else a stand-in's."""
    from gauntlet.models.classifier import CompiledClassifier, WhiteBox

    if not isinstance(model, WhiteBox):
        return _stand_in(dataset)
    try:
        return _of_keras(model.model, dataset) if isinstance(model, CompiledClassifier) else _of_torch(model)
    except Exception:  # a stranger's layers may not be built twice
        return _stand_in(dataset)


def _of_keras(model: keras.Model, dataset: Dataset) -> Recipe:
    import keras

    from gauntlet.models.digest import graph

    network = _unscaled(model)
    keras.models.clone_model(network)

    def fresh(seed: int) -> Fresh:
        return KerasFresh(lambda: keras.models.clone_model(network), seed, dataset.bounds)

    return Recipe(fresh, graph(network), "same architecture")


def _of_torch(model: Any) -> Recipe:
    from gauntlet.models.pytorch.fresh import Fresh as TorchFresh

    network = model.logits.network.copied()
    shapes = {name: list(one.shape) for name, one in network.state.items()}
    return Recipe(lambda seed: TorchFresh(model, seed), [network.text, shapes], "same architecture")


def _stand_in(dataset: Dataset) -> Recipe:
    from gauntlet.models.architectures import architecture

    def build() -> keras.Model:
        return architecture(STAND_IN).build(dataset.input_shape, dataset.n_classes)

    return Recipe(lambda seed: KerasFresh(build, seed, dataset.bounds), STAND_IN, "another architecture")


def _unscaled(network: keras.Model) -> keras.Model:
    """The graph without a last scaling of the logits, which is each model's own: their references are the same."""
    import keras

    last = network.layers[-1]
    scores = last.input if isinstance(last, keras.layers.Rescaling) else network.outputs[0]
    return keras.Model(network.inputs[0], scores)


def reference_models(
    model: Target, dataset: Dataset, images: Parts, settings: ModelScan, seed: int = 0, progress: Progress = silent
) -> References:
    """What clean models have; each is trained and scanned once, then read from the state folder."""
    if not settings.references:
        return References("none")
    how, rows, n = recipe(model, dataset), [], settings.references
    kept, longest = Checkpoint(state_dir() / "references" / how.digest(dataset)), 0.0
    for number in range(n):
        started = time.perf_counter()
        mine = _named(part(progress, number / n, (number + 1) / n), number, n, longest)
        rows.append(_one(how, dataset, images, settings, kept, (number, seed), mine))
        longest = max(longest, time.perf_counter() - started)
    accuracy = tuple(float(row["accuracy"]) for row in rows)
    own = float((model.labels(dataset.x_test) == dataset.y_test).mean())
    basis = how.basis if np.median(accuracy) > own - LOST else "another architecture"
    kinds = [kind for kind in rows[0] if kind != "accuracy"]
    return References(basis, {kind: np.stack([row[kind] for row in rows]) for kind in kinds}, accuracy)


def _named(progress: Progress, number: int, n: int, longest: float) -> Progress:
    """Says which reference it is, and how long all that are left may take, each as long (s) as the longest so far."""
    left = f", up to {math.ceil(longest * (n - number) / 60)} min left" if number else ", kept for later scans"
    return lambda what, share: progress(f"reference {number + 1} of {n}{left}: {what}", share)


def _one(
    how: Recipe,
    dataset: Dataset,
    images: Parts,
    settings: ModelScan,
    kept: Checkpoint,
    numbers: tuple[int, int],
    progress: Progress,
) -> dict[str, Any]:
    """Values by kind, and the accuracy, of one reference; as kept, else computed."""
    number, seed = numbers
    key = f"scan {number} {_scan_digest(settings, seed)}"
    if known := kept.load(key):
        return known
    classifier = _trained(how, dataset, kept, number, part(progress, 0.0, 0.6))
    triggers = candidates(classifier, images, settings, seed, part(progress, 0.6, 1.0))
    accuracy = (classifier.labels(dataset.x_test) == dataset.y_test).mean()
    values = {one.kind: one.values for one in triggers} | {"accuracy": np.asarray(accuracy)}
    kept.save(key, values)
    return values


def _scan_digest(settings: ModelScan, seed: int) -> str:
    """All that decides what a scan finds in a reference."""
    decides = settings.model_dump(mode="json", include={"inversion", "probes", "pair", "pairs", "images"})
    digest = hashlib.sha256(json.dumps([decides, seed], sort_keys=True).encode())
    for source in SEARCH:
        digest.update(Path(__file__).with_name(source).read_bytes())
    return digest.hexdigest()


def _trained(how: Recipe, dataset: Dataset, kept: Checkpoint, number: int, progress: Progress) -> WhiteBox:
    """The reference of that number: its weights as they are kept, or trained with the number for a seed."""
    network, epochs = how.fresh(number), usual_epochs(len(dataset.x_train))
    if weights := kept.load(key := f"weights {number}"):
        network.set_weights([weights[str(place)] for place in range(len(weights))])
    else:

        def begin(epoch: int) -> None:
            progress(f"training, epoch {epoch + 1} of {epochs}", epoch / epochs)

        network.fit(dataset.x_train, dataset.y_train, epochs, BATCH, RATE, begin)
        kept.save(key, {str(place): one for place, one in enumerate(network.weights())})
    return network.classifier(dataset.x_test[:256])
