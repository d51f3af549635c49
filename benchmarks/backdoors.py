"""What the scan of a model finds: small models, clean and poisoned in every way, scanned without a word on how.

    python -m benchmarks.backdoors --dataset mnist --data-dir DIR --n 10000 --clean 20 --seeds 2

Models are trained here, with seeds for weights, poison and data order, and kept in the state folder with what the scan
said of them, so that an interrupted run goes on. Prints two Markdown tables: detection by kind with 95 % Wilson
intervals, and clean models, areas and seconds. A model that did not learn its backdoor (success rate below a half) is
counted apart: there is nothing to find in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.backdoor.references import reference_models
from gauntlet.backdoor.scan import ModelScan, candidates, judge, parts
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.measurement import wilson
from gauntlet.poisoning import Poisoning, poisoning
from gauntlet.quiet import load_tensorflow
from gauntlet.state import state_dir

if TYPE_CHECKING:
    import keras

KINDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "patch in a corner": ("corner-trigger:size=3", (0.01, 0.05)),
    "patch inside": ("patch:row=11,column=11,size=3,value=1", (0.01, 0.05)),
    "four corners": ("corners", (0.01, 0.05)),
    "one pixel": ("one-pixel", (0.05,)),
    "blend": ("blended", (0.05,)),
    "sinusoid, clean label": ("sinusoidal:amplitude=0.2", (0.05,)),
    "clean label": ("clean-label", (0.05,)),
    "warp": ("warped:strength=1.5", (0.1,)),
    "all to all": ("all-to-all", (0.1,)),
    "one class to one": ("source-specific", (0.05,)),
}
"""Poisonings and their rates. The target is the model's seed modulo the classes, so that all classes are one."""
LEARNED = 0.5
"""Success rate from which a model counts as backdoored."""


@dataclass(frozen=True)
class Row:
    """One model, and what the scan said of it."""

    kind: str
    poison: str
    seed: int
    accuracy: float
    success: float
    target: int | None
    verdict: str
    found: int | None
    p_value: float
    statistic: float
    by: str
    seconds: float


def tiny(dataset: Dataset) -> keras.Model:
    """Two strided convolutions and a dense layer: 0.1 million multiplications an image, so that many can be had."""
    import keras

    nn = keras.layers
    layers = [
        nn.Conv2D(16, 5, strides=2, padding="same", activation="relu"),
        nn.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        nn.Flatten(),
        nn.Dense(64, activation="relu"),
        nn.Dense(dataset.n_classes),
    ]
    return keras.Sequential([keras.Input(dataset.input_shape), *layers], name="tiny")


def network(name: str, dataset: Dataset) -> keras.Model:
    """The tiny one, or an architecture of the project."""
    from gauntlet.models.architectures import architecture

    return tiny(dataset) if name == "tiny" else architecture(name).build(dataset.input_shape, dataset.n_classes)


def cases(dataset: Dataset, clean: int, seeds: int) -> Iterator[tuple[str, str, Poisoning | None, int]]:
    """Kind, what it is called in files, poisoning and seed of every model."""
    for seed in range(clean):
        yield "clean", "clean", None, 1_000 + seed
    for kind, (text, rates) in KINDS.items():
        for rate in rates:
            for seed in range(seeds):
                one = poisoning(f"{text}{',' if ':' in text else ':'}rate={rate}")
                number = 7 * seed + len(kind)
                if one.name != "all-to-all":
                    one = one.model_copy(update={"target": number % dataset.n_classes})
                if one.name == "source-specific":
                    one = one.model_copy(update={"source": (number + 1) % dataset.n_classes})
                yield kind, f"{text}-{rate}".replace(":", "-").replace(",", "-"), one, seed


def trained(name: str, dataset: Dataset, poison: Poisoning | None, seed: int, epochs: int, file: Path) -> keras.Model:
    """The model of a file, or trained now."""
    import keras

    if file.is_file():
        return keras.saving.load_model(file)
    keras.utils.set_random_seed(seed)
    x, y = dataset.x_train, dataset.y_train
    if poison is not None:
        poisoned = poison.poison(x, y, seed)
        x, y = poisoned.x, poisoned.y
        keras.utils.set_random_seed(seed)
    model = network(name, dataset)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    return model


def scanned(model: keras.Model, dataset: Dataset, poison: Poisoning | None, settings: ModelScan) -> dict[str, Any]:
    """The scan of one model, its accuracy and its backdoor's success rate."""
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.models.scale import divided, temperature

    bare = CompiledClassifier(model, dataset.bounds)
    classifier = CompiledClassifier(divided(model, temperature(bare.predict(dataset.x_test[:256]))), dataset.bounds)
    images, started = parts(dataset, settings, 0), time.perf_counter()
    triggers = candidates(classifier, images, settings)
    seconds = time.perf_counter() - started
    known = reference_models(classifier, dataset, images, settings)
    result = judge(classifier, triggers, images.held_out, known, settings)
    worst = min(result.classes, key=lambda one: (one.p_value, one.statistic))
    success = 0.0
    if poison is not None:
        wanted = poison.goal(dataset.y_test, dataset.n_classes)
        counted = wanted != dataset.y_test
        success = float((classifier.labels(poison.trigger(dataset.x_test[counted])) == wanted[counted]).mean())
    return {
        "accuracy": float((classifier.labels(dataset.x_test) == dataset.y_test).mean()),
        "success": success,
        "verdict": result.verdict,
        "found": result.target,
        "p_value": result.p_value,
        "statistic": worst.statistic,
        "by": worst.kind,
        "seconds": seconds,
    }


def auc(backdoored: list[float], clean: list[float]) -> float:
    """Chance that a backdoored model's statistic is below a clean one's, ties half."""
    first, second = np.array(backdoored)[:, None], np.array(clean)[None, :]
    return float(((first < second) + 0.5 * (first == second)).mean()) if first.size and second.size else float("nan")


def shown(count: int, n: int) -> str:
    """`3 of 4, 75 [30, 95] %`."""
    if not n:
        return "–"
    low, high = wilson(count, n)
    return f"{count} of {n}, {100 * count / n:.0f} [{100 * low:.0f}, {100 * high:.0f}] %"


def tables(rows: list[Row]) -> str:
    """Detection by kind, and clean models."""
    clean = [row for row in rows if row.kind == "clean"]
    lines = ["| kind | learned | success rate | BACKDOORED | with the right class | AUC | by |", "| --- " * 7 + "|"]
    for kind in dict.fromkeys(row.kind for row in rows if row.kind != "clean"):
        mine = [row for row in rows if row.kind == kind]
        live = [row for row in mine if row.success >= LEARNED]
        hits = [row for row in live if row.verdict == "BACKDOORED"]
        right = str(sum(row.found == row.target for row in hits)) if live and mine[0].target is not None else "–"
        rate = f"{100 * np.mean([row.success for row in live]):.0f} %" if live else "–"
        area = f"{auc([row.statistic for row in live], [row.statistic for row in clean]):.3f}" if live else "–"
        by = ", ".join(sorted({row.by for row in hits})) or "–"
        cells = kind, f"{len(live)} of {len(mine)}", rate, shown(len(hits), len(live)), right, area, by
        lines.append(f"| {' | '.join(cells)} |")
    false = sum(row.verdict == "BACKDOORED" for row in clean)
    undecided = sum(row.verdict == "INCONCLUSIVE" for row in clean)
    seconds = np.median([row.seconds for row in rows])
    return "\n".join(
        [
            *lines,
            "",
            f"Clean models: false alarms {shown(false, len(clean))}; inconclusive {undecided}; "
            f"{seconds:.0f} seconds a model (median, references not counted).",
        ]
    )


def main() -> None:
    """Train, scan, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--n", type=int, help="training images; all when not given")
    parser.add_argument("--architecture", default="tiny")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--clean", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5, help="poisoned models of each kind and rate")
    parser.add_argument("--references", type=int, default=8)
    asked = parser.parse_args()
    load_tensorflow()
    data = smaller(read_dataset(asked.dataset, asked.data_dir), asked.n)
    folder = (
        state_dir()
        / "benchmarks"
        / "backdoors"
        / f"{data.name}-{len(data.x_train)}-{asked.architecture}-{asked.epochs}"
    )
    print(tables(list(every(asked, data, folder))))


def smaller(data: Dataset, n: int | None) -> Dataset:
    """With `n` training images drawn with seed 0; as it is when not given."""
    if n is None:
        return data
    rows = np.random.default_rng(0).permutation(len(data.x_train))[:n]
    return replace(data, x_train=data.x_train[rows], y_train=data.y_train[rows], digest=f"{data.digest}-{n}")


def every(asked: argparse.Namespace, data: Dataset, folder: Path) -> Iterator[Row]:
    """A row for every model, from its file where it was scanned before."""
    import keras

    settings = ModelScan(references=asked.references)
    for kind, name, poison, seed in cases(data, asked.clean, asked.seeds):
        file = folder / f"{name}-{seed}.json"
        if not file.is_file():
            model = trained(asked.architecture, data, poison, seed, asked.epochs, file.with_suffix(".keras"))
            facts = {"target": poison.target if poison else None} | scanned(model, data, poison, settings)
            row = Row(kind=kind, poison=name, seed=seed, **facts)
            file.write_text(json.dumps(asdict(row)))
            keras.backend.clear_session()
            print(row, flush=True)
        yield Row(**json.loads(file.read_text()))


if __name__ == "__main__":
    main()
