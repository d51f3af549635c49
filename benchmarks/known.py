"""Train the small networks of `gauntlet.validity.known` again and prove the status of their images.

    python -m benchmarks.known [dense deep maxima]

Writes `gauntlet/validity/networks/NAME.npz`. The budgets are those at which about a quarter, a half and three quarters
of the images are broken; images that stay open at one of them are left out.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.attacks import ApgdCe
from gauntlet.certify import Exact
from gauntlet.data.datasets import read_dataset
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.quiet import load_tensorflow
from gauntlet.validity.known import FOLDER, NAMES, network

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset

IMAGES = 100
SHARES = (0.25, 0.5, 0.75)
GRID = np.arange(1, 41) / 200


def trained(name: str, digits: Dataset) -> keras.Model:
    """The network, trained on digits, with weights of float16."""
    import keras

    keras.utils.set_random_seed(0)
    model = network(name)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.x_train, digits.y_train, epochs=40, batch_size=32, verbose=0)
    model.set_weights([w.astype(np.float16).astype(np.float32) for w in model.get_weights()])
    return model


def budgets(target: CompiledClassifier, x: Any, y: Any) -> list[float]:
    """Where attacks break about the shares."""
    left = [np.mean(target.labels(ApgdCe(max_iter=25).run(target, x, y, eps, 0).images) != y) for eps in GRID]
    return [float(GRID[np.argmin(np.abs(np.array(left) - share))]) for share in SHARES]


def main(names: list[str]) -> None:
    """Write the files of the networks `names`."""
    load_tensorflow()
    digits = read_dataset("digits")
    for name in names:
        started, target = time.perf_counter(), CompiledClassifier(trained(name, digits))
        images = np.round(255 * digits.x_test[: 2 * IMAGES]).astype(np.uint8)
        x, y = (images / np.float32(255)).astype(np.float32), digits.y_test[: 2 * IMAGES]
        right = np.flatnonzero(target.labels(x) == y)[:IMAGES]
        x, y = x[right], y[right]
        eps = budgets(target, x, y)
        decided = [Exact(seconds=600).decide(target, x, y, one, 0) for one in eps]
        print(name, eps, [(int(d.proven.sum()), int(d.broken.sum())) for d in decided], flush=True)
        sure = np.logical_and.reduce([one.proven | one.broken for one in decided])  # not nearer to a tie than rounding
        weights: dict[str, Any] = {
            f"weights_{i}": w.astype(np.float16) for i, w in enumerate(target.model.get_weights())
        }
        FOLDER.mkdir(exist_ok=True)
        certified = np.stack([one.proven for one in decided])[:, sure]
        facts: dict[str, Any] = {"images": images[right][sure], "labels": y[sure], "eps": np.array(eps)}
        facts |= {"certified": certified}
        np.savez_compressed(FOLDER / f"{name}.npz", **weights, **facts)
        print(f"{name}: {(FOLDER / f'{name}.npz').stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:] or list(NAMES))
