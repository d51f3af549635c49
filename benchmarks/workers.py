"""Workers against one process on the same attack, and a scheduler that is given very many shards that only sleep.

    python -m benchmarks.workers --data-dir DIR [--model FILE.keras] [--n 2000] [--workers 2] [--rounds 3]
    python -m benchmarks.workers --simulate 100000 [--workers 2] [--sleep 0.01]

The first prints seconds of the wall clock and of all processors, and the ratio of each to one process: the second ratio
is that of the throughput per core. It says how busy the machine was with other work before: on a busy one the ratios
mean nothing. The second prints what the scheduler of a cluster and the process that feeds it hold.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gauntlet.quiet import load_tensorflow

load_tensorflow()

import psutil  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.side_by_side import parser, prepare  # noqa: E402
from gauntlet.attacks import Fgsm  # noqa: E402
from gauntlet.evaluation import cluster  # noqa: E402
from gauntlet.evaluation.battery import Battery, Job, run  # noqa: E402
from gauntlet.evaluation.parcel import Parcel  # noqa: E402
from gauntlet.evaluation.shards import Hands, OneByOne, Piece, Shard  # noqa: E402
from gauntlet.models.architectures import ARCHITECTURES  # noqa: E402
from gauntlet.models.classifier import CompiledClassifier  # noqa: E402

PGD = "pgd:max_iter=40,early_stop=False"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def processor_seconds() -> float:
    """Of this process and all below it."""
    this = psutil.Process()
    used = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(one.user + one.system for one in used))


def timed(hands: Hands, job: Job, eps: float) -> tuple[float, float, float]:
    """Seconds of the wall clock, of the processors, and the accuracy that PGD-40 leaves."""
    fresh = Job(job.target, job.x, job.y, job.clean, job.seed, hands=hands)
    battery = Battery(attack=PGD, eps=(eps,), n=len(job.x))
    started, used = time.perf_counter(), processor_seconds()
    (results,) = run(battery, fresh, lambda _: np.arange(len(job.x)))
    return time.perf_counter() - started, processor_seconds() - used, float(results.robust.mean())


def compared(job: Job, workers: int, eps: float, rounds: int) -> Table:
    """In turn, after a warm-up of both; medians."""
    many = cluster.hands(workers)
    contenders: dict[str, Hands] = {"one process": OneByOne(), f"{workers} workers": many}
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, hands in contenders.items():
            measured = timed(hands, job, eps)
            times[name] += [measured] if turn else []
    medians = {name: np.median(rows, axis=0) for name, rows in times.items()}
    wall, used, _ = next(iter(medians.values()))
    grid = Table(title=f"PGD-40 at L∞ {eps:g}, {len(job.x):,} images, {cores()} cores, median of {rounds}")
    for heading in ("", "seconds", "processor s", "ratio", "ratio per core", "accuracy %"):
        grid.add_column(heading, justify="right" if heading else "left")
    for name, (mine, processor, left) in medians.items():
        ratios = f"{wall / mine:.2f}", f"{used / processor:.2f}"
        grid.add_row(name, f"{mine:.1f}", f"{processor:.1f}", *ratios, f"{100 * left:.2f}")
    return grid


# --- very many shards that only sleep -----------------------------------------------------------------------


def sleeping(seconds: float) -> cluster.Maker:
    """A shard that takes so many seconds and no computation."""

    def make(_: Parcel, shard: Shard, __: str) -> list[Piece]:
        time.sleep(seconds)
        return [{"images": shard.x, "seconds": np.float64(seconds)}]

    return make


class Watch:
    """The largest number of tasks on a scheduler, and of bytes in this process, while a block runs."""

    def __init__(self, tasks: Callable[[], int]) -> None:
        self._tasks, self._over = tasks, threading.Event()
        self.tasks, self.bytes = 0, 0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.1):
            self.tasks, self.bytes = max(self.tasks, self._tasks()), max(self.bytes, process.memory_info().rss)


def simulated(shards: int, workers: int, seconds: float) -> Table:
    """So many shards of one image on the scheduler that `--workers` starts."""
    started = cluster._started(workers)
    hands, scheduler = cluster.Cluster(*started, sleeping(seconds)), started[0].cluster.scheduler
    model = ARCHITECTURES["cnn3x3"].build((28, 28, 1), 10)
    job = Job(CompiledClassifier(model), np.zeros((1, 28, 28, 1), np.float32), np.zeros(1, int), np.zeros(1, int), 0)
    row, mask, before = np.zeros(1, int), {0.1: np.ones(1, bool)}, psutil.Process().memory_info().rss
    asked = [Shard(Fgsm(), row, (job.x, job.y), row, mask, seconds=1e9) for _ in range(shards)]
    begun = time.perf_counter()
    with Watch(lambda: len(scheduler.tasks)) as seen:
        done = sum(1 for _ in hands.make(job.bench, asked))
    taken = time.perf_counter() - begun
    hands.close()
    grid = Table(title=f"{shards:,} shards that sleep {seconds:g} s, {workers} workers, {cores()} cores")
    headings = "done", "seconds", "shards a second", "ms a shard beside its sleep", "most tasks at once", "MiB more"
    for heading in headings:
        grid.add_column(heading, justify="right")
    beside = 1_000 * (taken / shards - seconds / workers)
    cells = f"{done:,}", f"{taken:.0f}", f"{done / taken:.0f}", f"{beside:.2f}"
    grid.add_row(*cells, f"{seen.tasks:,}", f"{(seen.bytes - before) / 2**20:.0f}")
    return grid


def main() -> None:
    """Print one of the tables."""
    flags = parser("workers", __doc__ or "", 2_000)
    flags.add_argument("--eps", type=float, default=0.1)
    flags.add_argument("--workers", type=int, default=2)
    flags.add_argument("--simulate", type=int, metavar="SHARDS", help="shards that only sleep, instead")
    flags.add_argument("--sleep", type=float, default=0.01, metavar="SECONDS")
    options = flags.parse_args()
    console = Console(width=130)
    console.print(f"load of the machine before (1 and 5 minutes): {os.getloadavg()[0]:.1f}, {os.getloadavg()[1]:.1f}")
    if options.simulate:
        console.print(simulated(options.simulate, options.workers, options.sleep))
        return
    console.print(compared(_job(options), options.workers, options.eps, options.rounds))


def _job(options: argparse.Namespace) -> Job:
    _, model, x, y = prepare(options)
    classifier: Any = CompiledClassifier(model)
    return Job(classifier, x, y, classifier.labels(x), 0)


if __name__ == "__main__":
    main()
