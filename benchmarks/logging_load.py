"""Many processes log at once: is anything lost, is a run left RUNNING, how long does a run take?

    python -m benchmarks.logging_load --tracking-uri http://127.0.0.1:5000 --workers 8 --runs 50

Each run is what a stage logs: params, 20 metrics, a table, a record, its entries in the audit log. Afterwards all of it
is read again. Exit status 1 when something is missing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from typing import Any

from gauntlet.quiet import hush

METRICS = 20


def work(uri: str, worker: int, runs: int) -> list[tuple[str, float]]:
    """Log runs one after the other: ids, and seconds each."""
    hush()
    import pandas as pd

    from tasks.context import Context
    from tasks.store import tracking

    where, done = Context(dataset="digits", tracking_uri=uri), []
    for number in range(runs):
        began = time.perf_counter()
        with tracking.run("scan", where, None, name=f"{worker}-{number}", params={"worker": worker}) as run:
            run.metrics({f"load/metric_{i}": worker + number / 1_000 for i in range(METRICS)})
            run.table("outcomes.parquet", pd.DataFrame({"value": [worker, number]}))
            run.json("metrics.json", {"metrics": {}, "measurements": [], "worker": worker, "number": number})
        done.append((run.id, time.perf_counter() - began))
    return done


def lost(uri: str, ids: Sequence[str]) -> list[str]:
    """What is not as it was logged, a line each."""
    from tasks.store import connection, tracking

    connection.connect(uri)
    return [line for run_id in ids if (line := _wrong(tracking, run_id))]


def _wrong(tracking: Any, run_id: str) -> str:
    run = tracking.read(run_id)
    worker, _, number = run.info.run_name.partition("-")
    expected = int(worker) + int(number) / 1_000
    metrics = [run.data.metrics.get(f"load/metric_{i}") for i in range(METRICS)]
    table = tracking.frame(run_id, "outcomes.parquet")["value"].tolist()
    if run.info.status != "FINISHED":
        return f"{run_id}: {run.info.status}"
    if metrics != [expected] * METRICS or table != [int(worker), int(number)]:
        return f"{run_id}: metrics or table are not what was logged"
    return "" if tracking.records(run_id).get("number") == int(number) else f"{run_id}: no metrics.json"


def measure(uri: str, workers: int, runs: int) -> dict[str, Any]:
    """Log with processes that are spawned, then read everything again."""
    from tasks.store import connection

    connection.experiment(connection.connect(uri), "digits")
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        done = pool.starmap(work, [(uri, worker, runs) for worker in range(workers)])
    wall = time.perf_counter() - began
    calls = [one for each in done for one in each]
    seconds = sorted(took for _, took in calls)
    missing = lost(uri, [run_id for run_id, _ in calls])
    facts = {"workers": workers, "runs": len(calls), "wall_seconds": wall, "lost": missing}
    return facts | {"median_seconds": seconds[len(seconds) // 2], "longest_seconds": seconds[-1]}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 1 when something was lost."""
    parse = argparse.ArgumentParser("python -m benchmarks.logging_load", description=__doc__)
    parse.add_argument("--tracking-uri", required=True)
    parse.add_argument("--workers", type=int, default=8)
    parse.add_argument("--runs", type=int, default=50, help="of each worker")
    options = parse.parse_args(words)
    hush()
    measured = measure(options.tracking_uri, options.workers, options.runs)
    print(json.dumps(measured, indent=1))
    return 1 if measured["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
