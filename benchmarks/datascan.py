"""What the scan of a training set finds: our own poisonings and plain label flips, at five rates.

    python -m benchmarks.datascan --dataset mnist --data-dir DIR --n 10000

Prints a Markdown table: which checks alarm, and how much of the poison the two that name images find, with 95 %
Wilson intervals, and how many clean images they name beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from gauntlet.data.datascan import Check, DataScan, scan
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.errors import SettingError
from gauntlet.poisoning import Poisoned, poisoning
from gauntlet.roc import rate

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
POISONINGS = {
    "corner-trigger": "white 4 × 4, relabelled",
    "patch": "grey 4 × 4, relabelled",
    "corner-trigger:victims=target": "white 4 × 4, clean label",
    "patch:row=12,column=12": "grey 4 × 4 in the centre, relabelled",
    "patch:value=0.1": "nearly black 4 × 4, relabelled",
    "patch:relabel=false": "grey 4 × 4, any class, clean label",
}
FLIPS = "label flips"


def flipped(dataset: Dataset, share: float, seed: int) -> Poisoned:
    """Labels moved to another class at random; the images stay."""
    rng, y = np.random.default_rng(seed), dataset.y_train.copy()
    index = np.sort(rng.choice(len(y), max(1, round(share * len(y))), replace=False))
    y[index] = (y[index] + rng.integers(1, dataset.n_classes, len(index))) % dataset.n_classes
    return Poisoned(dataset.x_train, y, index)


def cases(dataset: Dataset, seed: int, only: str | None) -> Iterator[tuple[str, float, Poisoned]]:
    """Every poisoning at every rate, or the one of that name, a clean set first."""
    nothing = np.zeros(0, np.int64)
    yield "clean", 0.0, Poisoned(dataset.x_train, dataset.y_train, nothing)
    for share in RATES if only in (None, FLIPS) else ():
        yield FLIPS, share, flipped(dataset, share, seed)
    for text, words in ((text, words) for text, words in POISONINGS.items() if only in (None, text)):
        for share in RATES:
            wanted = poisoning(f"{text}{',' if ':' in text else ':'}rate={share}")
            with suppress(SettingError):  # the class has not so many images
                yield words, share, wanted.poison(dataset.x_train, dataset.y_train, seed)


def row(words: str, share: float, poisoned: Poisoned, checks: list[Check]) -> str:
    """One line of the table."""
    found = {check.name: check for check in checks}
    alarms = ", ".join(check.name for check in checks if check.alarm) or "none"
    cells = [words, f"{100 * share:g} %", f"{len(poisoned.index):,}", alarms]
    score = found["patches"].facts["patch_score"]
    for name in ("patches", "labels"):
        hits = int(np.isin(poisoned.index, found[name].suspects).sum())
        recall = percent(hits, len(poisoned.index)) if len(poisoned.index) else ""
        cells += [recall, f"{len(found[name].suspects) - hits:,}"]
    return f"| {' | '.join([*cells, f'{score:.2f}'])} |"


def percent(hits: int, n: int) -> str:
    """A share in percent with its interval."""
    found = rate(hits, n)
    return f"{100 * found.value:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--n", type=int, help="training images; else all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[FLIPS, *POISONINGS], help="one poisoning; else all")
    options = parser.parse_args()
    dataset = read_dataset(options.dataset, options.data_dir)
    kept = np.sort(np.random.default_rng(options.seed).permutation(len(dataset.x_train))[: options.n])
    dataset = replace(dataset, x_train=dataset.x_train[kept], y_train=dataset.y_train[kept])
    print(f"{dataset.name}, {len(kept):,} training images, seed {options.seed}\n")
    print("| poison | rate | images | alarms | patches: found % | clean | labels: found % | clean | patch score |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for words, share, poisoned in cases(dataset, options.seed, options.only):
        changed = replace(dataset, x_train=poisoned.x, y_train=poisoned.y)
        print(row(words, share, poisoned, scan(changed, DataScan(), options.seed)), flush=True)


if __name__ == "__main__":
    main()
