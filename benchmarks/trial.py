"""What the process costs in which a stranger's model is tried: seconds, processor and memory, first time and later.

    python -m benchmarks.trial [--rounds 3]

Each row is a fresh process that checks a model's file, imports TensorFlow as every command does, and loads the model:
without a trial, with one, and once the file is remembered. `waited` is what is left of the trial after the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess  # nosec B404: the command is this file's own
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gauntlet.quiet import load_tensorflow
from gauntlet.state import PROJECT_ROOT

LOADED = """
import json, resource, sys, time
from pathlib import Path
from gauntlet.models import files, trial
from gauntlet.quiet import load_tensorflow
path, known, started = Path(sys.argv[1]), sys.argv[2] == "without", time.perf_counter()
if not known:
    files.check_file(path)
load_tensorflow()
waited, passed = [], trial.passed
def timed(*words):
    before = time.perf_counter()
    passed(*words)
    waited.append(time.perf_counter() - before)
trial.passed = timed
files.load_file(path, known=known)
taken, child = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
own = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": taken, "waited": sum(waited), "cpu": child.ru_utime + child.ru_stime,
                  "mib": child.ru_maxrss / 1024, "own_mib": own.ru_maxrss / 1024}))
"""
HOW = ("without", "first time", "remembered")


def prepare(folder: Path) -> Path:
    """A convolutional network of 28 × 28 images."""
    load_tensorflow()
    import keras

    layers = [keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Dense(10)]).save(folder / "model.keras")
    return folder / "model.keras"


def measured(model: Path, how: str, state: Path) -> dict[str, Any]:
    """One process."""
    environment = os.environ | {"GAUNTLET_STATE": str(state), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", LOADED, str(model), how]
    done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True, capture_output=True, text=True)  # nosec B603
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table: medians of the rounds."""
    parser = argparse.ArgumentParser("python -m benchmarks.trial", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    costs: dict[str, list[dict[str, Any]]] = {how: [] for how in HOW}
    with tempfile.TemporaryDirectory() as name:
        model = prepare(Path(name))
        for number in range(rounds):
            for how in HOW:
                costs[how].append(measured(model, how, Path(name) / f"state-{number}"))
    table = Table("", "s", "of it waited", "the child's CPU s", "its MiB", "own MiB")
    for how, each in costs.items():
        cells = [np.median([one[key] for one in each]) for key in ("seconds", "waited", "cpu", "mib", "own_mib")]
        table.add_row(how, *(f"{cell:.2f}" for cell in cells[:3]), *(f"{cell:.0f}" for cell in cells[3:]))
    Console().print(table)


if __name__ == "__main__":
    main()
