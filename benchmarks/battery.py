"""What a battery costs: AutoAttack against one PGD-40, and how time and memory grow with the number of images.

python -m benchmarks.battery --dataset mnist --data-dir DIR --model FILE.keras --eps 0.3
"""

from __future__ import annotations

import resource
import time

import numpy as np

from gauntlet.quiet import load_tensorflow

load_tensorflow()

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.side_by_side import parser, prepare  # noqa: E402
from gauntlet.evaluation.battery import Battery, Job, run  # noqa: E402
from gauntlet.evaluation.outcome import Attacked, worst_case  # noqa: E402
from gauntlet.models.classifier import CompiledClassifier  # noqa: E402
from gauntlet.threat import Images, Labels  # noqa: E402

PGD = "pgd:early_stop=False"


def attacked(classifier: CompiledClassifier, x: Images, y: Labels, eps: float, attack: str) -> list[Attacked]:
    """A battery on all of the images."""
    battery = Battery(attack=attack, eps=(eps,), n=len(x))
    job = Job(classifier, x, y, classifier.labels(x), seed=0)
    return run(battery, job, lambda _: np.arange(len(x)))


def preset(classifier: CompiledClassifier, x: Images, y: Labels, eps: float) -> Table:
    """The standard AutoAttack, attack by attack, against PGD-40 on all images without an early stop."""
    attacked(classifier, x[:128], y[:128], eps, PGD)
    once = attacked(classifier, x, y, eps, PGD)[0]
    results = attacked(classifier, x, y, eps, "autoattack")
    grid = Table(
        title=f"autoattack at L∞ {eps:g}, {len(x):,} images; PGD-40 without an early stop takes {once.seconds:.1f} s"
    )
    for heading in ("attack", "tried", "broken", "left correct %", "seconds", "ratio to PGD-40"):
        grid.add_column(heading, justify="left" if heading == "attack" else "right")
    for r in results:
        counts = f"{r.tried.sum():,}", f"{r.broken.sum():,}", f"{100 * r.robust.mean():.2f}"
        grid.add_row(r.attack.name, *counts, f"{r.seconds:.1f}", f"{r.seconds / once.seconds:.2f}")
    total, left = sum(r.seconds for r in results), worst_case(results)[0].robust.mean()
    grid.add_row("all four", f"{len(x):,}", "", f"{100 * left:.2f}", f"{total:.1f}", f"{total / once.seconds:.2f}")
    return grid


def growth(classifier: CompiledClassifier, x: Images, y: Labels, eps: float, sizes: list[int]) -> Table:
    """Seconds per 1,000 images and the process's largest resident memory so far, for rising numbers of images."""
    grid = Table(title=f"pgd:max_iter=10,early_stop=False at L∞ {eps:g}")
    for heading in ("images", "seconds", "seconds per 1,000", "peak resident MiB"):
        grid.add_column(heading, justify="right")
    for size in sizes:
        many = np.resize(np.arange(len(x)), size)
        started = time.perf_counter()
        attacked(classifier, x[many], y[many], eps, "pgd:max_iter=10,early_stop=False")
        taken, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
        grid.add_row(f"{size:,}", f"{taken:.1f}", f"{1_000 * taken / size:.2f}", f"{peak:,.0f}")
    return grid


def main() -> None:
    """Print both tables."""
    flags = parser("battery", __doc__ or "", 1_000)
    flags.add_argument("--eps", type=float, default=0.3)
    flags.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 60_000])
    options = flags.parse_args()
    _, model, x, y = prepare(options)
    classifier, console = CompiledClassifier(model), Console(width=130)
    console.print(preset(classifier, x, y, options.eps))
    if options.sizes:
        console.print(growth(classifier, x, y, options.eps, options.sizes))


if __name__ == "__main__":
    main()
