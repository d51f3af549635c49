"""PGD through our classifier, ART's own and Foolbox: the same model, images and steps, alternated in one run.

    python -m benchmarks.attacks --dataset mnist --data-dir DIR

Every contender starts at the clean image, so that all walk the same path and the results can be compared.
Printed are the median seconds of each, the ratio to the bare compiled loop, and how far the images differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gauntlet.quiet import load_tensorflow

load_tensorflow()

import foolbox  # noqa: E402
import tensorflow as tf  # noqa: E402
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_tensorflow_v2 import (  # noqa: E402
    ProjectedGradientDescentTensorFlowV2,
)
from art.estimators.classification import TensorFlowV2Classifier  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from gauntlet.attacks import Pgd, one_hot  # noqa: E402
from gauntlet.classifier import CHUNK, CompiledClassifier  # noqa: E402
from gauntlet.datasets import read_dataset  # noqa: E402
from gauntlet.training import Training, train  # noqa: E402

EPS, STEP, STEPS = 0.3, 0.01, 40
Contender = Callable[[np.ndarray, np.ndarray], np.ndarray]


def contenders(model: Any, n_classes: int) -> dict[str, Contender]:
    """Name to a function from images and labels to adversarial images."""
    ours = CompiledClassifier(model)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    plain = TensorFlowV2Classifier(model, n_classes, ours.input_shape, loss_object=loss, clip_values=(0.0, 1.0))
    settings = Pgd(eps_step=STEP, max_iter=STEPS, num_random_init=0)
    return {
        "bare compiled loop": bare_loop(model),
        "ART on our classifier": lambda x, y: settings.run(ours, x, y, EPS, seed=0),
        "ART on its own classifier": lambda x, y: art_pgd(plain, x, one_hot(y, n_classes)),
        "Foolbox": foolbox_pgd(model),
    }


def bare_loop(model: Any) -> Contender:
    """The least that PGD can cost here: one compiled function a step."""

    @tf.function(reduce_retracing=True)
    def step(x: Any, clean: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
        x = tf.clip_by_value(x + STEP * tf.sign(tape.gradient(loss, x)), 0.0, 1.0)
        return clean + tf.clip_by_value(x - clean, -EPS, EPS)

    def attack(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        made = []
        for start in range(0, len(x), CHUNK):
            clean, labels = tf.constant(x[start : start + CHUNK]), tf.constant(y[start : start + CHUNK])
            images = clean
            for _ in range(STEPS):
                images = step(images, clean, labels)
            made.append(images.numpy())
        return np.concatenate(made)

    return attack


def art_pgd(classifier: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """ART's PGD, as its documentation uses it, at our batch size."""
    attack = ProjectedGradientDescentTensorFlowV2(
        classifier, eps=EPS, eps_step=STEP, max_iter=STEPS, num_random_init=0, batch_size=CHUNK, verbose=False
    )
    return np.asarray(attack.generate(x, y=y))


def foolbox_pgd(model: Any) -> Contender:
    """Foolbox's L∞ PGD in batches of the same size."""
    attacker = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        made = []
        for start in range(0, len(x), CHUNK):
            batch, labels = tf.constant(x[start : start + CHUNK]), tf.constant(y[start : start + CHUNK])
            made.append(attack(attacker, batch, labels, epsilons=EPS)[1].numpy())
        return np.concatenate(made)

    return run


def measure(functions: dict[str, Contender], x: np.ndarray, y: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender, one after the other in each round, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function(x, y)
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function(x, y)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Train a model, let the contenders run, print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.attacks", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    dataset = read_dataset(options.dataset, options.data_dir)
    model = train(dataset, Training(epochs=1)).model
    index = dataset.test_subset(min(options.n, len(dataset.x_test)), 0)
    x, y = dataset.x_test[index], dataset.y_test[index]
    functions = contenders(model, dataset.n_classes)
    images = {name: function(x, y) for name, function in functions.items()}
    seconds = measure(functions, x, y, options.rounds)
    Console().print(table(images, seconds, y, CompiledClassifier(model), len(x)))


def table(
    images: dict[str, np.ndarray],
    seconds: dict[str, list[float]],
    y: np.ndarray,
    judge: CompiledClassifier,
    n: int,
) -> Table:
    """Seconds, ratio, accuracy and the difference to the bare loop's images."""
    grid = Table(title=f"PGD-{STEPS}, eps {EPS}, step {STEP}, batch {CHUNK}, {n} images")
    for heading in ("contender", "median s", "ratio", "accuracy %", "pixels that differ by > 1e-6"):
        grid.add_column(heading, justify="left" if heading == "contender" else "right")
    base = float(np.median(seconds["bare compiled loop"]))
    for name, taken in seconds.items():
        median, differ = float(np.median(taken)), np.abs(images[name] - images["bare compiled loop"]) > 1e-6
        accuracy = 100 * (judge.labels(images[name]) == y).mean()
        grid.add_row(name, f"{median:.2f}", f"{median / base:.2f}", f"{accuracy:.2f}", f"{100 * differ.mean():.4f} %")
    return grid


if __name__ == "__main__":
    main()
