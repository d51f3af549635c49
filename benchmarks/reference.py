"""Our attacks against the authors' own: the same weights, images and settings, in TensorFlow here, in PyTorch there.

    python -m benchmarks.reference --dataset mnist --data-dir DIR --model FILE.keras --torch /path/to/other/python

The reference is AutoAttack's own code (Croce & Hein 2020, version `standard`), run by another Python that has what
benchmarks/requirements.txt lists. Printed are, for each attack alone and for the whole cascade, the robust accuracy of
both sides, how many images only one side broke, and the seconds of both; ratios are ours to the reference's, of the
time elapsed and of the processor's time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.quiet import load_tensorflow

load_tensorflow()

import tensorflow as tf  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.other_python import answered  # noqa: E402
from gauntlet.attacks import ApgdCe, ApgdDlr, Attack, Fab, Square  # noqa: E402
from gauntlet.data.datasets import read_dataset  # noqa: E402
from gauntlet.errors import ModelError  # noqa: E402
from gauntlet.models.classifier import CompiledClassifier  # noqa: E402
from gauntlet.models.digest import digest  # noqa: E402
from gauntlet.models.files import load_file  # noqa: E402

STEPS, TARGETS = 100, 9
REFERENCE = {"apgd-ce": "apgd-ce", "apgd-dlr": "apgd-t", "fab": "fab-t", "square": "square"}
"""Our names to the reference's, in the order of the cascade."""
WHOLE = "autoattack"
CLOSE = 1e-3
"""Largest difference of logits at which both networks count as the same."""
WIDTH = 100
"""Columns that the table needs."""

Mask = NDArray[np.bool_]
Row = dict[str, Any]


def port(model: Any) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Layers and weights as PyTorch wants them: channels first, outputs before inputs."""
    layers: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    flat: tuple[int, ...] | None = None
    for layer in model.layers:
        kind, config = type(layer).__name__, layer.get_config()
        if kind in ("Dropout", "InputLayer"):
            continue
        if kind == "Flatten":
            flat = layer.input.shape[1:]
        layers.append(_described(kind, config))
        for name, values in zip(layers[-1].get("weights", ()), layer.get_weights(), strict=True):
            arrays[f"{len(layers) - 1}.{name}"] = np.ascontiguousarray(_turned(values, flat))
        flat = flat if kind == "Flatten" else None
    return layers, arrays


def _described(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """One layer; `ModelError` for what the other half cannot build."""
    weights, activation = ["kernel", "bias"], config.get("activation")
    if kind == "Flatten":
        return {"kind": "flatten"}
    if kind == "MaxPooling2D" and config["padding"] == "valid":
        return {"kind": "pool", "size": config["pool_size"], "strides": config["strides"]}
    if kind == "Dense" and activation in ("relu", "linear") and config["use_bias"]:
        return {"kind": "dense", "activation": activation, "weights": weights}
    plain = config.get("dilation_rate") == (1, 1) and config.get("groups") == 1 and config.get("use_bias")
    if kind == "Conv2D" and plain and activation in ("relu", "linear"):
        sizes = {"strides": config["strides"], "padding": config["padding"]}
        return {"kind": "conv", "activation": activation, "weights": weights} | sizes
    raise ModelError(f"cannot port a {kind} layer of these settings", where="model", fix="see gauntlet/models/files.py")


def _turned(values: NDArray[Any], flat: tuple[int, ...] | None) -> NDArray[Any]:
    """Weights in PyTorch's order; `flat` is the shape (h, w, c) that was flattened right before this layer."""
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    if values.ndim == 2 and flat:
        values = values.reshape(*flat, -1).transpose(2, 0, 1, 3).reshape(len(values), -1)
    return values.T


def cascade(
    model: CompiledClassifier, attacks: Sequence[Attack], x: Any, y: Any, eps: float, seed: int
) -> tuple[Mask, NDArray[np.float64]]:
    """Which images stay correct under every attack, each run on those left by the ones before; seconds as `_clocks`."""
    started = _clocks()
    robust: Mask = model.labels(x) == y
    for attack in attacks:
        left = np.flatnonzero(robust)
        if len(left):
            made = attack.run(model, x[left], y[left], eps, seed, left)
            robust[left] = model.labels(made.images) == y[left]
    return robust, _clocks() - started


def _clocks() -> NDArray[np.float64]:
    """Seconds: elapsed, and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def ours(queries: int) -> dict[str, list[Attack]]:
    """Each attack alone, then all, with the settings of the standard version."""
    found: list[Attack] = [ApgdCe(max_iter=STEPS), ApgdDlr(max_iter=STEPS, targets=TARGETS)]
    found += [Fab(max_iter=STEPS, targets=TARGETS), Square(max_iter=queries)]
    return {attack.name: [attack] for attack in found} | {WHOLE: found}


def compare(model: CompiledClassifier, attacks: dict[str, list[Attack]], x: Any, y: Any, options: Any) -> list[Row]:
    """One row an attack and budget, without the reference's columns; compiles everything before the clock runs."""
    for attack in {attack for several in attacks.values() for attack in several}:
        attack.model_copy(update={"max_iter": 1}).run(model, x[:16], y[:16], options.eps[0], options.seed)
    rows = []
    for eps in options.eps:
        for name, several in attacks.items():
            robust, seconds = cascade(model, several, x, y, eps, options.seed)
            rows.append({"attack": name, "eps": eps, "robust": robust, "seconds": seconds})
            line = f"ours: {name} at {eps:g}: {100 * robust.mean():.2f} %, {seconds[0]:.1f} s"
            print(line, file=sys.stderr, flush=True)
    return rows


def joined(row: Row, found: dict[str, NDArray[Any]]) -> Row:
    """A row with both sides: robust accuracies in per cent, images broken by one side only, seconds."""
    key, mine = f"{row['attack']}@{row['eps']:g}", row["robust"]
    theirs, seconds = found[key], found[f"{key}.seconds"]
    shares = {"ours": 100 * float(mine.mean()), "reference": 100 * float(theirs.mean())}
    only = {"ours_only": int((~mine & theirs).sum()), "reference_only": int((mine & ~theirs).sum())}
    elapsed, processor = (row["seconds"] / seconds).tolist()
    times = {"ours_seconds": float(row["seconds"][0]), "reference_seconds": float(seconds[0])}
    times |= {"ratio": elapsed, "processor_ratio": processor}
    difference = {"difference": shares["ours"] - shares["reference"]}
    return {"attack": row["attack"], "eps": row["eps"]} | shares | difference | only | times


def table(rows: list[Row], title: str) -> Table:
    """One line an attack and budget; `only` counts the images that one side alone broke."""
    grid = Table(title=title)
    headings = ("attack", "eps", "ours %", "ref. %", "points", "only ours", "only ref.", "ours s", "ref. s")
    for heading in (*headings, "ratio", "CPU ratio"):
        grid.add_column(heading, justify="left" if heading == "attack" else "right")
    for row in rows:
        shares = (f"{row['ours']:.2f}", f"{row['reference']:.2f}", f"{row['difference']:+.2f}")
        only = (f"{row['ours_only']}", f"{row['reference_only']}")
        times = (f"{row['ours_seconds']:.1f}", f"{row['reference_seconds']:.1f}")
        ratios = (f"{row['ratio']:.2f}", f"{row['processor_ratio']:.2f}")
        grid.add_row(row["attack"], f"{row['eps']:g}", *shares, *only, *times, *ratios)
    return grid


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.reference", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--model", type=Path, required=True, help="a .keras file of layers as in gauntlet/models/files.py"
    )
    parser.add_argument("--torch", type=Path, required=True, help="Python with benchmarks/requirements.txt installed")
    parser.add_argument("--n", type=int, default=100, help="test images")
    parser.add_argument("--eps", type=float, action="append", help="L∞ budget, repeatable")
    parser.add_argument("--queries", type=int, default=5_000, help="of the square attack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each side")
    parser.add_argument("--attack", action="append", choices=[*REFERENCE, WHOLE], help="repeatable; all when not given")
    parser.add_argument("--rescale", action="store_true", help="reference's squares shrink by share of --queries")
    options = parser.parse_args()
    options.eps = options.eps or [0.1]
    options.attack = options.attack or [*REFERENCE, WHOLE]
    return options


def main() -> None:
    """Port the model, let both sides attack, print the table."""
    options = parsed()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    dataset, keras_model = read_dataset(options.dataset, options.data_dir), load_file(options.model)
    index = dataset.test_subset(options.n, options.seed)
    x, y = dataset.x_test[index], dataset.y_test[index]
    layers, arrays = port(keras_model)
    every, model = ours(options.queries), CompiledClassifier(keras_model)
    attacks = {name: every[name] for name in options.attack}
    asked = {name: [REFERENCE[attack.name] for attack in several] for name, several in attacks.items()}
    settings = {"eps": options.eps, "queries": options.queries, "seed": options.seed, "threads": options.threads}
    facts = settings | {"rescale": options.rescale, "close": CLOSE, "layers": layers, "attacks": asked}
    arrays |= {"json": np.array(json.dumps(facts)), "x": x, "y": y, "logits": model.predict(x)}
    found = answered(options.torch, "torch_reference.py", arrays)
    apart = float(found["logits_difference"])
    rows = [joined(row, found) for row in compare(model, attacks, x, y, options)]
    title = f"{options.n} images, threads: {options.threads}, queries: {options.queries}; logits differ by {apart:.1g}"
    Console(width=max(Console().width, WIDTH)).print(table(rows, title))
    if options.json:
        about = {"dataset": dataset.digest, "model": digest(keras_model), "n": options.n, "logits_difference": apart}
        options.json.write_text(json.dumps(about | settings | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
