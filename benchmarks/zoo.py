"""Honest models that must be VALID and broken ones that must not be, each with how robust it truly is, as a table.

python -m benchmarks.zoo [--data-dir path/to/mnist] [--n 200] [--model NAME]

Trains every model on up to 10,000 images of MNIST, without a folder on the digits; attacks it by the usual battery,
with all probes and planted images, and once more with the attacks that the verdict asks for; then finds the truth from
both sides: a far stronger attack, also through the same model with gradients that lead somewhere, and proofs (`crown`).
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
from gauntlet.evaluation.outcome import worst_case  # noqa: E402
from gauntlet.models.loaded import Expected, graph  # noqa: E402
from gauntlet.threat import Images, Labels  # noqa: E402

TRAINED_ON = 10_000
BATTERY = ("noise-uniform", "fgsm", "pgd", "apgd-ce:max_iter=50")
STRONG: tuple[Attack, ...] = Pgd(max_iter=100, num_random_init=2), ApgdCe(num_random_init=3), ApgdDlr(max_iter=50)
BLIND = (Square(max_iter=1_000),)
"""For models whose own gradients lead nowhere."""
HEADER = "| model | L∞ | must be | verdict | why | attacked % | with what it asks for | truth % | seconds |"


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
    again: str = "-"
    """What was said and left with the attacks that the verdict asked for."""


def judged(entry: Entry, data: Dataset, n: int) -> Judged:
    """Train, attack, judge, and find the truth."""
    home = Home(entry.home(data) if entry.home else data)
    model, (x, y), k = entry.make(home), _images(home.dataset, n), home.dataset.n_classes
    started, settings = time.perf_counter(), {"planted": True, "n_classes": k, **entry.stated}
    try:
        report = gauntlet.evaluate(model, x, y, entry.eps, attacks=BATTERY, **settings)
    except InputError as error:
        return Judged("refused", (str(error),), np.nan, (np.nan, np.nan), time.perf_counter() - started)
    seconds, last, again = time.perf_counter() - started, report, "-"
    if asked := list(dict.fromkeys(doubt.advice.title for doubt in report.doubts if doubt.advice)):
        last = gauntlet.evaluate(model, x, y, entry.eps, attacks=(*BATTERY, *asked), **settings)
        why = f" ({'; '.join(last.reasons)})" if last.reasons else ""
        again = f"{', '.join(asked)}: {last.verdict}{why}, {100 * last.robust_accuracy:.1f}"
    bare = Expected(accept_chance=True).opened(graph(entry.bare(home)), x, y, k).classifier if entry.bare else None
    truth = true_share(last, bare, x, y, entry.eps)
    return Judged(report.verdict, report.reasons, report.robust_accuracy, truth, seconds, again)


def _images(data: Dataset, n: int) -> tuple[Images, Labels]:
    index = data.test_subset(min(n, len(data.x_test)), 0)
    return data.x_test[index], data.y_test[index]


def true_share(report: gauntlet.Report, bare: Any, x: Images, y: Labels, eps: float) -> tuple[float, float]:
    """What is proven, and what withstands the battery and every strong attack on the model and through the bare one."""
    model, (case,) = report.loaded.classifier, worst_case(report.results)
    proven = _proven(model, x, y, eps)
    left = np.setdiff1d(case.index[case.robust], np.flatnonzero(proven))
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
            why = "; ".join(got.reasons) or "none"
            said = f"{got.verdict} | {why} | {100 * got.attacked:.1f} | {got.again}"
            yield f"| {name} | {entry.eps:g} | {must} | {said} | {truth} | {got.seconds:.0f} |"


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
