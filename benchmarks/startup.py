"""Small jobs, whole commands: `flows.attack` beside a plain ART script, five lines of Python beside one import.

    python -m benchmarks.startup [--rounds 3] [--library]

FGSM on 50 images by the command and by the script; with `--library` the example of the README on 50 images, with the
usual attacks, and `import tensorflow` alone. All are started fresh and in turn; the first round, which makes the store
and remembers the model's file, stands by itself. Prints seconds of wall clock and CPU, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess  # nosec B404: the commands are this file's own
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from gauntlet.quiet import load_tensorflow
from gauntlet.state import PROJECT_ROOT

PLAIN = """
import sys, keras, numpy as np, tensorflow as tf
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import TensorFlowV2Classifier
data = np.load(sys.argv[2])
x, y = data["x_test"][:50], data["y_test"][:50]
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
network = keras.models.load_model(sys.argv[1])
model = TensorFlowV2Classifier(network, 10, x.shape[1:], loss_object=loss, clip_values=(0, 1))
images = FastGradientMethod(model, eps=0.1).generate(x, y)
print((model.predict(x).argmax(1) == y).mean(), (model.predict(images).argmax(1) == y).mean())
"""
IMPORT = "import tensorflow"
FIVE = """
import sys, numpy as np, gauntlet
data = np.load(sys.argv[2])
report = gauntlet.evaluate(sys.argv[1], data["x_test"][:50], data["y_test"][:50], eps=8 / 255)
print(report.robust_accuracy, report.verdict, report.reasons)
"""


def prepare(folder: Path) -> tuple[str, str]:
    """A dense network of 64-64-10 units, and its data: real 8 × 8 digits."""
    load_tensorflow()
    import keras
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.images / 16).astype(np.float32)[..., None], digits.target
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[:1_400], y[:1_400], epochs=20, verbose=0)
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", x_train=x[:1_400], y_train=y[:1_400], x_test=x[1_400:], y_test=y[1_400:])
    return str(folder / "model.keras"), str(folder / "data.npz")


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of the wall clock and of CPU of a command that must succeed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment, check=True, capture_output=True)  # nosec B603
    taken, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--library", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model, data = prepare(Path(name))
        environment = os.environ | {"GAUNTLET_STATE": f"{name}/state", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("PREFECT_API_URL", None)
        flags = ["--model", model, "--dataset", data, "--attack", "fgsm", "--eps", "0.1", "--n", "50", "--json"]
        commands = {
            "plain ART script": [sys.executable, "-c", PLAIN, model, data],
            "flows.attack": [sys.executable, "-m", "flows.attack", *flags],
        }
        if asked.library:
            scripts = {IMPORT: IMPORT, "import gauntlet": "import gauntlet", "five lines": FIVE}
            commands = {name: [sys.executable, "-c", script, model, data] for name, script in scripts.items()}
        taken = {one: [timed(command, environment) for _ in range(1)] for one, command in commands.items()}
        for _ in range(asked.rounds):
            for one, command in commands.items():
                taken[one].append(timed(command, environment))
    show(taken)


def show(taken: dict[str, list[tuple[float, float]]]) -> None:
    """Seconds and ratios to the first command, the first time and later."""
    table = Table("", "first: s", "ratio", "later: median s", "ratio", "later: CPU s", "ratio")
    rows = {name: (each[0][0], *np.median(each[1:], axis=0)) for name, each in taken.items()}
    base = next(iter(rows.values()))
    for name, row in rows.items():
        cells = [cell for value, of in zip(row, base, strict=True) for cell in (f"{value:.2f}", f"{value / of:.2f}")]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
