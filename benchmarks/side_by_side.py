"""Time contenders against each other: alternated in one run, on the same model and images, as ratios to the first."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.models.files import load_file
from gauntlet.threat import Images, Labels, lengths
from gauntlet.training.fit import Training, train

Contender = Callable[[Images, Labels], Images]


def parser(module: str, description: str, n: int) -> argparse.ArgumentParser:
    """The flags that all benchmarks of attacks have."""
    made = argparse.ArgumentParser(f"python -m benchmarks.{module}", description=description.splitlines()[0])
    made.add_argument("--dataset", default="mnist")
    made.add_argument("--data-dir", type=Path)
    made.add_argument("--model", type=Path, help="a Keras file of logits; else one epoch is trained")
    made.add_argument("--n", type=int, default=n, help="test images")
    made.add_argument("--rounds", type=int, default=3)
    return made


def prepare(options: argparse.Namespace) -> tuple[Dataset, Any, Images, Labels]:
    """Data set, model, and the test images that are attacked."""
    dataset = read_dataset(options.dataset, options.data_dir)
    model = load_file(options.model) if options.model else train(dataset, Training(epochs=1)).model
    index = dataset.test_subset(min(options.n, len(dataset.x_test)), 0)
    return dataset, model, dataset.x_test[index], dataset.y_test[index]


def measure(
    contenders: Mapping[str, Contender], x: Images, y: Labels, rounds: int
) -> tuple[dict[str, Images], dict[str, list[float]]]:
    """What each makes, and its seconds in every round, after a warm-up."""
    images, seconds = {}, {name: list[float]() for name in contenders}
    for function in contenders.values():
        function(x[:4], y[:4])
    for _ in range(rounds):
        for name, function in contenders.items():
            started = time.perf_counter()
            images[name] = function(x, y)
            seconds[name].append(time.perf_counter() - started)
    return images, seconds


def show(
    title: str,
    judge: CompiledClassifier,
    x: Images,
    y: Labels,
    measured: tuple[dict[str, Images], dict[str, list[float]]],
) -> None:
    """Seconds, ratio to the first contender, accuracy left and the median L2 of the images that are fooled."""
    images, seconds = measured
    grid = Table(title=f"{title}, {len(x):,} images")
    for heading in ("contender", "median s", "ratio", "s per image", "accuracy %", "median L2 of the fooled"):
        grid.add_column(heading, justify="left" if heading == "contender" else "right")
    base = float(np.median(next(iter(seconds.values()))))
    correct = judge.labels(x) == y
    for name, taken in seconds.items():
        median, right = float(np.median(taken)), judge.labels(images[name]) == y
        fooled = lengths(images[name] - x, "2")[correct & ~right]
        away = f"{np.median(fooled):.3f}" if len(fooled) else "-"
        cells = f"{median:.2f}", f"{median / base:.2f}", f"{median / len(x):.4f}", f"{100 * right.mean():.2f}", away
        grid.add_row(name, *cells)
    Console().print(grid)
