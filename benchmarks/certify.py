"""What is certified, what is left by PGD-40, and the seconds that each takes, as a table.

python -m benchmarks.certify [--data-dir path/to/mnist] [--n 1000] [--epochs 6]

Trains `cnn3x3` as it is, by PGD training and by interval training, on MNIST; without a folder on the digits.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from gauntlet.attacks import Pgd
from gauntlet.certify import Certifier, certifier
from gauntlet.defenses.training import defense
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.progress import silent
from gauntlet.training.fit import Training, train
from tasks.context import Context

BUDGETS, TRAINED_AT = (0.05, 0.1, 0.3), 0.1


def models(dataset: Any, epochs: int | None) -> dict[str, CompiledClassifier]:
    """The baseline and two defended ones, with what training them took."""
    base = CompiledClassifier(train(dataset, Training()).model)
    networks = {"baseline": base}
    longer = f",epochs={epochs}" if epochs else ""
    for text in (f"pgd-training:eps={TRAINED_AT}", f"ibp-training:eps={TRAINED_AT}{longer}"):
        trained = defense(text).apply(dataset, Training(), base, silent)
        networks[text] = CompiledClassifier(trained.model)
        print(f"{text}: {trained.seconds:.0f} s of training", flush=True)
    return networks


def row(certifier: Certifier, target: CompiledClassifier, x: Any, y: Any, eps: float) -> tuple[float, float]:
    """The share that is certified, and the seconds an image; compiled before it is timed."""
    certifier.prove(target, x[:8], y[:8], eps, 0)
    started = time.perf_counter()
    share = float(certifier.prove(target, x, y, eps, 0).mean())
    return share, (time.perf_counter() - started) / len(x)


def attacked(target: CompiledClassifier, x: Any, y: Any, eps: float) -> tuple[float, float]:
    """The share that PGD-40 leaves, and the seconds an image; it stops with an image that is fooled."""
    attack = Pgd(max_iter=40)
    attack.run(target, x[:8], y[:8], eps, 0)
    started = time.perf_counter()
    images = attack.run(target, x, y, eps, 0).images
    left = (target.labels(images) == y) & (target.labels(x) == y)
    return float(left.mean()), (time.perf_counter() - started) / len(x)


def main() -> None:
    """Print a row a model, certificate and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of MNIST; the embedded digits when not given")
    parser.add_argument("--n", type=int, default=1_000, help="test images")
    parser.add_argument("--epochs", type=int, help="of interval training")
    options = parser.parse_args()
    dataset = Context(dataset="mnist" if options.data_dir else "digits", data_dir=options.data_dir).load()
    index = np.arange(min(options.n, len(dataset.x_test)))
    x, y = dataset.x_test[index], dataset.y_test[index]
    certifiers = [certifier(name) for name in ("interval", "crown")]
    trained = models(dataset, options.epochs)
    print(f"\n| model (n = {len(x):,}) | clean % | L∞ | certificate | certified % | ms each | PGD-40 % | ms each |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, target in trained.items():
        clean = 100 * float((target.labels(x) == y).mean())
        for eps in BUDGETS:
            left, slow = attacked(target, x, y, eps)
            for one in certifiers:
                share, each = row(one, target, x, y, eps)
                cells = f"{100 * share:.1f} | {1_000 * each:.1f} | {100 * left:.1f} | {1_000 * slow:.1f}"
                print(f"| {name} | {clean:.1f} | {eps:g} | {one.name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
