"""Honest models that must be VALID and broken ones that must not be, each with how robust it truly is, as a table.

python -m benchmarks.zoo [--data-dir path/to/mnist] [--n 200] [--model NAME]

Trains every model on up to 10,000 images of MNIST, without a folder on the digits; attacks it by the usual battery,
with all probes and planted images; then finds the truth from both sides: a far stronger attack, also through the same
model with gradients that lead somewhere, and proofs (`crown`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gauntlet.quiet import load_tensorflow

load_tensorflow()

import gauntlet  # noqa: E402
from benchmarks.zoo_models import BROKEN, HONEST, Entry, Home  # noqa: E402
from gauntlet.attacks import ApgdCe, ApgdDlr, Attack, Pgd, Square  # noqa: E402
from gauntlet.certify import Crown  # noqa: E402
from gauntlet.data.datasets import Dataset, read_dataset  # noqa: E402
from gauntlet.errors import InputError  # noqa: E402
from gauntlet.models.loaded import Expected, graph  # noqa: E402
from gauntlet.threat import Images, Labels  # noqa: E402

TRAINED_ON = 10_000
BATTERY = ("noise-uniform", "fgsm", "pgd", "apgd-ce:max_iter=50")
STRONG: tuple[Attack, ...] = Pgd(max_iter=100, num_random_init=2), ApgdCe(num_random_init=3), ApgdDlr(max_iter=50)
BLIND = (Square(max_iter=1_000),)
"""For models whose own gradients lead nowhere."""
HEADER = "| model | L∞ | must be | verdict | reasons | attacked % | truth % | seconds |"


@dataclass(frozen=True)
class Judged:
    """What the evaluation said of a model, and what is true."""

    verdict: str
    reasons: tuple[str, ...]
    attacked: float
    """Robust accuracy by the battery, in [0, 1]."""
    truth: tuple[float, float]
    """The proven share, and the share that the far stronger attack leaves."""
    seconds: float


def judged(entry: Entry, data: Dataset, n: int) -> Judged:
    """Train, attack, judge, and find the truth."""
    home = Home(entry.home(data) if entry.home else data)
    model, (x, y), k = entry.make(home), _images(home.dataset, n), home.dataset.n_classes
    started = time.perf_counter()
    try:
        report = gauntlet.evaluate(model, x, y, entry.eps, attacks=BATTERY, planted=True, n_classes=k, **entry.stated)
    except InputError as error:
        return Judged("refused", (str(error),), np.nan, (np.nan, np.nan), time.perf_counter() - started)
    seconds = time.perf_counter() - started
    bare = Expected(accept_chance=True).opened(graph(entry.bare(home)), x, y, k).classifier if entry.bare else None
    truth = true_share(report.loaded.classifier, bare, x, y, entry.eps)
    return Judged(report.verdict, report.reasons, report.robust_accuracy, truth, seconds)


def _images(data: Dataset, n: int) -> tuple[Images, Labels]:
    index = data.test_subset(min(n, len(data.x_test)), 0)
    return data.x_test[index], data.y_test[index]


def true_share(model: Any, bare: Any, x: Images, y: Labels, eps: float) -> tuple[float, float]:
    """What is proven, and what withstands every strong attack on the model and through the bare one."""
    proven = _proven(model, x, y, eps)
    left = np.flatnonzero((model.labels(x) == y) & ~proven)
    for target, attacks in ((bare, STRONG), (model, BLIND)) if bare else ((model, STRONG),):
        for attack in filter(None, (attack.fitted(model.nb_classes) for attack in attacks)):
            if len(left):
                one = attack if target is model else attack.without_early_stop()
                images = one.run(target, x[left], y[left], eps, 0, left).images
                left = left[model.labels(images) == y[left]]
    return float(proven.mean()), float((proven.sum() + len(left)) / len(x))


def _proven(model: Any, x: Images, y: Labels, eps: float) -> Any:
    try:
        Crown().check(model)
        return Crown().prove(model, x, y, eps, 0)
    except InputError:
        return np.zeros(len(x), bool)


def rows(data: Dataset, n: int, names: list[str] | None) -> Iterator[str]:
    """A line of the table for each model."""
    yield HEADER
    yield "| --- " * HEADER.count(" |") + "|"
    for name, entry in (HONEST | BROKEN).items():
        if names is None or name in names:
            got = judged(entry, data, n)
            must = "VALID" if entry.honest else "not VALID"
            low, high = (100 * share for share in got.truth)
            truth = f"{low:.1f} to {high:.1f}" if entry.honest else f"at most {high:.1f}"
            said = "; ".join(got.reasons) or "none"
            cells = f"{must} | {got.verdict} | {said} | {100 * got.attacked:.1f} | {truth} | {got.seconds:.0f}"
            yield f"| {name} | {entry.eps:g} | {cells} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of MNIST; the embedded digits when not given")
    parser.add_argument("--n", type=int, default=200, help="test images")
    parser.add_argument("--model", action="append", help="by name; all when not given")
    options = parser.parse_args()
    data = read_dataset("mnist" if options.data_dir else "digits", options.data_dir)
    data = replace(data, x_train=data.x_train[:TRAINED_ON], y_train=data.y_train[:TRAINED_ON])
    for line in rows(data, options.n, options.model):
        print(line, flush=True)


if __name__ == "__main__":
    main()
