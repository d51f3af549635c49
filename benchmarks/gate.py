"""How often the gate is wrong on real models: false alarms on equal weights, power on damaged ones.

    python -m benchmarks.gate --dataset mnist --data-dir DIR --model FILE.keras [--n 1000] [--seeds 20] [--attack pgd]

Equal weights meet themselves with another seed of attack. That is harder than a night, where both models are attacked
with the same seed, and equal weights are evaluated once. `benchmarks.nights` computes the gate's error rates.
Damage is noise on the weights, scaled until clean accuracy on the whole test set has fallen by `--drop`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from gauntlet.quiet import hush

hush()

from benchmarks.side_by_side import parser, prepare  # noqa: E402
from flows.night import NightlyConfig  # noqa: E402
from gauntlet.data.datasets import Dataset  # noqa: E402
from gauntlet.evaluation.battery import Battery, Job, run  # noqa: E402
from gauntlet.gate.statistics import Paired, decide, overall  # noqa: E402
from gauntlet.gate.verdict import outcomes, pairs  # noqa: E402
from gauntlet.models.classifier import CompiledClassifier  # noqa: E402

ALLOWED = NightlyConfig.model_fields["allowed"].default
EPS = (0.1, 0.2)
ATTACKS = ("noise-uniform", "fgsm", "pgd:max_iter=20")


def evaluated(model: Any, dataset: Dataset, battery: Battery, images: int, seed: int) -> dict[str, pd.Series]:
    """Correct or not per condition; the test images are drawn by `images`, the attacks start by `seed`."""
    classifier = CompiledClassifier(model, dataset.bounds)
    clean = classifier.labels(dataset.x_test)
    job = Job(classifier, dataset.x_test, dataset.y_test, clean, seed)
    results = run(battery, job, lambda size: dataset.test_subset(size, images))
    whole = pd.DataFrame({"index": np.arange(len(clean)), "correct": clean == dataset.y_test})
    return outcomes(whole, pd.concat([result.frame() for result in results], ignore_index=True))


def damaged(model: Any, dataset: Dataset, drop: float, seed: int) -> Any:
    """A copy with noise on its weights, by bisection as much as costs `drop` of clean accuracy (to 0.1 points)."""
    import keras

    copy, weights = keras.models.clone_model(model), model.get_weights()
    noise = [np.random.default_rng([seed, i]).normal(0, w.std(), w.shape) for i, w in enumerate(weights)]

    def accuracy(scale: float) -> float:
        copy.set_weights([w + scale * e for w, e in zip(weights, noise, strict=True)])
        said = copy.predict(dataset.x_test, batch_size=1_000, verbose=0).argmax(axis=1)
        return float((said == dataset.y_test).mean())

    low, high, wanted = 0.0, 2.0, accuracy(0.0) - drop
    for _ in range(20):
        middle = (low + high) / 2
        reached = accuracy(middle)
        if abs(reached - wanted) < 0.001:
            break
        low, high = (middle, high) if reached > wanted else (low, middle)
    return copy


def nights(options: Any, dataset: Dataset, model: Any) -> Iterator[tuple[str, str, dict[str, Paired]]]:
    """Kind of night, verdict and pairs, for every seed."""
    battery = Battery(attack=options.attack or ATTACKS, eps=EPS, n=options.n)
    for seed in range(options.seeds):
        worse = damaged(model, dataset, options.drop, seed)
        champion = evaluated(model, dataset, battery, seed, seed)
        candidates = {
            "equal weights, another seed": evaluated(model, dataset, battery, seed, seed + 1_000),
            f"{100 * options.drop:g} points worse": evaluated(worse, dataset, battery, seed, seed),
        }
        for kind, candidate in candidates.items():
            paired = pairs(champion, candidate)
            yield kind, overall(decide(paired, ALLOWED)), paired


def table(counts: dict[str, Counter[str]], flips: dict[str, list[float]]) -> Table:
    """Verdicts by kind of night, and the largest share of images that flipped in a condition."""
    grid = Table("nights", "PASS", "FAIL", "INCONCLUSIVE", "flips, largest")
    for kind, count in counts.items():
        cells = [str(count[verdict]) for verdict in ("PASS", "FAIL", "INCONCLUSIVE")]
        grid.add_row(kind, *cells, f"{100 * max(flips[kind]):.1f} %")
    return grid


def main() -> None:
    """Run the nights."""
    parse = parser("gate", str(__doc__), 1_000)
    parse.add_argument("--seeds", type=int, default=20)
    parse.add_argument("--attack", action="append", help=f"repeatable; else {', '.join(ATTACKS)}")
    parse.add_argument("--drop", type=float, default=0.03, help="clean accuracy lost by the damaged model")
    options = parse.parse_args()
    dataset, model, _, _ = prepare(options)
    counts: dict[str, Counter[str]] = {}
    flips: dict[str, list[float]] = {}
    console = Console()
    for kind, verdict, count in nights(options, dataset, model):
        console.print(f"{kind}: {verdict}")
        counts.setdefault(kind, Counter())[verdict] += 1
        flips.setdefault(kind, []).append(max(pair.discordant / pair.n for pair in count.values()))
    console.print(table(counts, flips))


if __name__ == "__main__":
    main()
