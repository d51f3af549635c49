"""Models broken on purpose, which an evaluation must doubt for the right reason, and honest ones, which must be VALID.

Each canary represents a mistake that was published as robustness. An evaluation that calls one VALID, or that
doubts an honest model, cannot be trusted on any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.attacks import ApgdCe, Fgsm, Pgd, Square, UniformNoise
from gauntlet.data.splits import spread
from gauntlet.errors import ModelError
from gauntlet.evaluation.battery import Battery, Job
from gauntlet.evaluation.battery import run as run_battery
from gauntlet.models.adapter import adapt
from gauntlet.models.scale import divided
from gauntlet.progress import Progress, part, silent
from gauntlet.threat import Labels, default_budgets
from gauntlet.training.fit import Training, train
from gauntlet.validity import known, reference
from gauntlet.validity.evidence import Evaluation, Validity
from gauntlet.validity.probes import probe
from gauntlet.validity.verdicts import doubts, verdict

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

Break = Callable[["keras.Model"], "keras.Model"]
"""From an honest trained model to a broken one."""
Make = Callable[["Dataset", Training, "keras.Model", Progress], "keras.Model"]
"""From the data set, how to train, and a trained 3×3 network to an honest model."""

Answer = Callable[["Dataset", int, Progress], list[str]]
"""From the data set and a seed to what is wrong; nothing when all is right."""

IMAGES = 48
"""Test images of each evaluation."""
LOOKED_AT = 1_000
"""Clean images by which a model is loaded."""
LARGEST = 10_000, 2_000
"""Training and test images of a larger data set that are used: what is to be honest need not be good."""


def battery(channels: int = 1) -> Battery:
    """The attacks that every canary meets, at usual budgets: noise, one step, many steps, and none of the gradient."""
    several = (UniformNoise(), Fgsm(), Pgd(max_iter=20), ApgdCe(max_iter=25), Square(max_iter=60))
    return Battery(attack=several, eps=default_budgets("inf", channels)[:2], n=IMAGES)


# --- broken ---------------------------------------------------------------------------------------------------


def double_softmax(model: keras.Model) -> keras.Model:
    """Probabilities where logits are expected: the loss takes a second softmax."""
    import keras

    return behind(model, keras.ops.softmax)


def quantised_inputs(model: keras.Model) -> keras.Model:
    """Every pixel black or white: a gradient of zero (thermometer's kin, Athalye et al. 2018, section 4.1)."""
    import keras

    return before(model, lambda x: keras.ops.round(x) + 0.0 * x)


def sign_activation(model: keras.Model) -> keras.Model:
    """Only the signs of the last hidden layer reach the outputs: steps, whose gradient is zero."""
    import keras

    return keras.Model(model.inputs[0], model.layers[-1](keras.ops.sign(model.layers[-1].input)))


def random_noise(model: keras.Model) -> keras.Model:
    """Fresh noise on every image it is shown (as random resizing, Athalye et al. 2018, section 5.3.2)."""
    import tensorflow as tf

    return before(model, lambda x: x + tf.random.normal(tf.shape(x), stddev=0.2))


def constant(model: keras.Model) -> keras.Model:
    """The same class whatever it sees: nothing is ever lost to an attack."""
    first = np.eye(1, model.output_shape[-1], dtype=np.float32)
    return behind(model, lambda logits: 0.0 * logits + first)


def stopped_gradient(model: keras.Model) -> keras.Model:
    """Right in every answer, and no gradient comes through."""
    import keras

    return before(model, lambda x: keras.ops.stop_gradient(x) + 0.0 * x)


def other_range(model: keras.Model) -> keras.Model:
    """Trained on pixels from 0 to 255, fed 0 to 1: a budget of 0.1 is 25 times the image."""
    return before(model, lambda x: x / 255.0)


def before(model: keras.Model, change: Callable[[Any], Any]) -> keras.Model:
    """`model` on changed images."""
    import keras

    images = keras.Input(model.input_shape[1:])
    return keras.Model(images, model(keras.layers.Lambda(change, output_shape=model.input_shape[1:])(images)))


def behind(model: keras.Model, change: Callable[[Any], Any]) -> keras.Model:
    """`model` with changed logits."""
    import keras

    images = keras.Input(model.input_shape[1:])
    return keras.Model(images, keras.layers.Lambda(change, output_shape=model.output_shape[1:])(model(images)))


@dataclass(frozen=True)
class Broken:
    """A canary: how to break a model, and what of it must be found."""

    build: Break
    reason: str
    """What a reason must hold."""
    verdicts: tuple[Validity, ...] = ("SUSPECT", "INVALID")


CANARIES: dict[str, Broken] = {
    "double-softmax": Broken(double_softmax, "probabilities passed as logits"),
    "quantised-inputs": Broken(quantised_inputs, "quantises or detaches its input"),
    "sign-activation": Broken(sign_activation, "of the images have no loss gradient"),
    "noise-layer": Broken(random_noise, "repeated predictions differ"),
    "constant": Broken(constant, "chance level", ("INVALID",)),
    "gradient-stopped": Broken(stopped_gradient, "quantises or detaches its input"),
    "range-0-255": Broken(other_range, "input looks like 0..255", ("INVALID",)),
}


# --- honest ---------------------------------------------------------------------------------------------------


def _plain(name: str) -> Make:
    def make(dataset: Dataset, training: Training, base: keras.Model, progress: Progress) -> keras.Model:
        if name == "cnn3x3":
            return base
        return train(dataset, training.model_copy(update={"architecture": name}), progress=progress).model

    return make


def _huge_logits(_dataset: Dataset, _training: Training, base: keras.Model, _progress: Progress) -> keras.Model:
    """A hundred times as large: the softmax is one-hot in float32, and no decision changes (Carlini & Wagner 2016)."""
    return behind(base, lambda logits: 100.0 * logits)


def _defended(name: str, share: float = 1.0) -> Make:
    """Trained with a defense at the smallest usual budget, for a share of the epochs."""

    def make(dataset: Dataset, training: Training, base: keras.Model, progress: Progress) -> keras.Model:
        from gauntlet.defenses.training import defense
        from gauntlet.models.classifier import CompiledClassifier

        eps = default_budgets("inf", dataset.input_shape[-1])[0]
        shorter = training.model_copy(update={"epochs": max(1, round(share * (training.epochs or 1)))})
        return defense({"name": name, "eps": eps}).apply(dataset, shorter, CompiledClassifier(base), progress).model

    return make


HONEST: dict[str, Make] = {
    "cnn3x3": _plain("cnn3x3"),
    "cnn5x5": _plain("cnn5x5"),
    "cnn3x3-deep": _plain("cnn3x3-deep"),
    "huge-logits": _huge_logits,
    "fgsm-trained": _defended("on-the-fly"),
    "pgd-trained": _defended("pgd-training", share=0.5),  # it goes on from the trained network
}


# --- the evaluation -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canary:
    """How an evaluation of one such model ended."""

    name: str
    expected: str
    """A part of the reason it must give, or `VALID`."""
    verdict: Validity
    reasons: tuple[str, ...]
    ok: bool
    seconds: float = field(compare=False)

    @property
    def reason(self) -> str:
        """The reason that was expected; where it was not given, all of them."""
        return next((r for r in self.reasons if self.expected in r), "; ".join(self.reasons))


def run(
    dataset: Dataset,
    training: Training | None = None,
    progress: Progress = silent,
    names: Sequence[str] | None = None,
    tried: Battery | None = None,
) -> Iterator[Canary]:
    """Evaluate every canary, every honest model and every frozen one, or those of `names`; a row as each is done."""
    dataset = _cut(dataset)
    training = training or usual_training(len(dataset.x_train), 0)
    epochs = training.resolved(len(dataset.x_train)).epochs
    training = training.model_copy(update={"architecture": "cnn3x3", "epochs": epochs})
    everyone = (*CANARIES, *HONEST, *FROZEN)
    chosen = [name for name in everyone if names is None or name in names]
    base = train(dataset, training, progress=part(progress, 0, 1 / (len(chosen) + 1))).model
    for number, name in enumerate(chosen, 1):
        step = part(progress, number / (len(chosen) + 1), (number + 1) / (len(chosen) + 1))
        alone = name in FROZEN
        yield frozen(name, dataset, training.seed, step) if alone else one(name, dataset, training, base, step, tried)


# --- known answers --------------------------------------------------------------------------------------------


def _reference(dataset: Dataset, seed: int, progress: Progress) -> list[str]:
    return reference.wrong(dataset, reference.measured(dataset, seed, progress))


def _wrong_sign(_dataset: Dataset, seed: int, _progress: Progress) -> list[str]:
    return known.wrong_sign(seed)


def _known(name: str) -> Answer:
    return lambda _dataset, seed, _progress: known.wrong(name, seed)


FROZEN: dict[str, Answer] = {reference.NAME: _reference, "wrong-sign": _wrong_sign}
FROZEN |= {f"known-{name}": _known(name) for name in known.NAMES}
"""Frozen models whose truth is known, and what is wrong with what is measured of them."""


def frozen(name: str, dataset: Dataset, seed: int, progress: Progress = silent) -> Canary:
    """A frozen model against its known truth."""
    started = time.perf_counter()
    lines = tuple(FROZEN[name](dataset, seed, progress))
    verdict: Validity = "INVALID" if lines else "VALID"
    return Canary(name, "VALID", verdict, lines, not lines, time.perf_counter() - started)


def usual_training(n_train: int, seed: int) -> Training:
    """Short, as what is to be honest need not be good."""
    return Training(batch_size=32, epochs=4 if n_train < LARGEST[0] / 2 else 1, seed=seed)


def _cut(dataset: Dataset) -> Dataset:
    few, fewer = (_some(labels, n) for labels, n in zip((dataset.y_train, dataset.y_test), LARGEST, strict=True))
    small = replace(dataset, x_train=dataset.x_train[few], y_train=dataset.y_train[few])
    return replace(small, x_test=dataset.x_test[fewer], y_test=dataset.y_test[fewer])


def _some(labels: Labels, n: int) -> Any:
    """The first `n` images; where those lack a class, as in data that is sorted by class, `n` of all classes."""
    first = slice(0, n)
    return first if len(np.unique(labels[first])) == len(np.unique(labels)) else spread(labels, n, 0)


def one(
    name: str,
    dataset: Dataset,
    training: Training,
    base: keras.Model,
    progress: Progress = silent,
    tried: Battery | None = None,
) -> Canary:
    """Make one model of `base`, a trained 3×3 network, and evaluate it; `training` states its epochs."""
    started, broken = time.perf_counter(), CANARIES.get(name)
    model = broken.build(base) if broken else HONEST[name](dataset, training, base, part(progress, 0, 0.5))
    verdict, reasons = evaluate(
        model, dataset, training.seed, tried or battery(dataset.input_shape[-1]), part(progress, 0.5, 1)
    )
    expected = broken.reason if broken else "VALID"
    caught = broken is not None and verdict in broken.verdicts and any(expected in reason for reason in reasons)
    return Canary(name, expected, verdict, reasons, caught or verdict == expected, time.perf_counter() - started)


def evaluate(
    model: keras.Model, dataset: Dataset, seed: int, tried: Battery, progress: Progress = silent
) -> tuple[Validity, tuple[str, ...]]:
    """Load, attack, probe and judge a model that is said to take [0, 1] and give logits; INVALID when refused."""
    from gauntlet.models.classifier import CompiledClassifier

    x, y = dataset.x_test, dataset.y_test
    try:
        seen = _some(y, LOOKED_AT)
        adapted = adapt(model, x[seen], y[seen], dataset.n_classes, "0..1", "logits")
    except ModelError as error:
        return "INVALID", (str(error),)
    classifier = CompiledClassifier(divided(adapted.model, adapted.temperature), dataset.bounds)
    clean = classifier.labels(x)
    job = Job(classifier, x, y, clean, seed)
    results = run_battery(tried, job, lambda n: dataset.test_subset(n, seed), part(progress, 0, 0.7))
    asked: dict[str, Any] = {"results": results, "better_range": adapted.better_range, "seed": seed}
    probes = probe(classifier, x, y, clean, **asked, progress=part(progress, 0.7, 1))
    return verdict(doubts(Evaluation(results, dataset.n_classes, probes)))
