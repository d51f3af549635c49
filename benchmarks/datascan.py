"""What the scan of a training set finds of poisonings at several rates.

    python -m benchmarks.datascan --dataset mnist --data-dir DIR --n 5000 --rate 0.01 --rate 0.05
    python -m benchmarks.datascan --inspection labels --only label-flips --cleanlab /path/to/other/python

Prints a Markdown table: which inspections alarm, and of each that names images its recall with a 95 % Wilson interval
and its precision, both in percent: `100 [95, 100] / 92`. Empty where it named none.
With `--cleanlab` there are two more columns: the labels that cleanlab doubts, from the same neighbours' votes and from
a logistic regression. The other Python has cleanlab, which is in `benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.other_python import answered
from gauntlet.backdoor.inspections import EVERY, INSPECTIONS, Seen, inspect, inspection
from gauntlet.data.datascan import Check, DataScan, neighbour_votes
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.errors import SettingError
from gauntlet.poisoning import Poisoned, poisoning
from gauntlet.quiet import load_tensorflow
from gauntlet.roc import rate
from gauntlet.training.fit import Training

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
POISONINGS = {
    "label-flips": "label flips",
    "corner-trigger": "white 4 × 4, relabelled",
    "patch": "grey 4 × 4, relabelled",
    "corner-trigger:victims=target": "white 4 × 4, clean label",
    "patch:row=12,column=12": "grey 4 × 4 in the centre, relabelled",
    "patch:value=0.1": "nearly black 4 × 4, relabelled",
    "patch:relabel=false": "grey 4 × 4, any class, clean label",
    "one-pixel": "one pixel, relabelled",
    "blended": "blended pattern, relabelled",
    "sinusoidal": "stripes, clean label",
    "warped": "warp, relabelled",
    "clean-label": "PGD and a square, clean label",
    "all-to-all": "square, next class",
    "source-specific": "square on one class, with cover",
}
BOTH = ("cleanlab, the same votes", "cleanlab, logistic regression")
"""Columns of another library."""
SILENT = ("class balance", "duplicates")
"""Checks that name no image, or none that was poisoned."""


def cases(
    dataset: Dataset, seed: int, only: Sequence[str], rates: Sequence[float]
) -> Iterator[tuple[str, float, Poisoned]]:
    """The poisonings of those names at every rate, a clean set first."""
    nothing = np.zeros(0, np.int64)
    yield "clean", 0.0, Poisoned(dataset.x_train, dataset.y_train, nothing)
    for text in only:
        for share in rates:
            wanted = poisoning(f"{text}{',' if ':' in text else ':'}rate={share}")
            with suppress(SettingError):  # the class has not so many images
                yield POISONINGS[text], share, wanted.poison(dataset.x_train, dataset.y_train, seed)


def row(words: str, share: float, poisoned: Poisoned, checks: list[Check]) -> str:
    """One line of the table."""
    alarms = ", ".join(check.name for check in checks if check.alarm) or "none"
    cells = [words, f"{100 * share:g} %", f"{len(poisoned.index):,}", alarms]
    return f"| {' | '.join([*cells, *(cell(poisoned, check) for check in checks if check.name not in SILENT)])} |"


def cell(poisoned: Poisoned, check: Check) -> str:
    """Recall with its interval, and precision; of a clean set how many images are named."""
    named, hits = len(check.suspects), int(np.isin(poisoned.index, check.suspects).sum())
    if not len(poisoned.index):
        return f"{named:,} named" if named else ""
    return f"{percent(hits, len(poisoned.index))} / {100 * hits / named:.0f}" if named else ""


def percent(hits: int, n: int) -> str:
    """A share in percent with its interval."""
    share = rate(hits, n)
    return f"{100 * share.value:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def cleanlab(python: Path, dataset: Dataset, seed: int) -> list[Check]:
    """What cleanlab names, which runs in another Python."""
    x, y = dataset.x_train, dataset.y_train
    votes, _ = neighbour_votes(x, y, dataset.x_test, DataScan(), seed)
    found = answered(python, "cleanlab_labels.py", {"x": x.reshape(len(x), -1), "y": y, "votes": votes})
    return [Check(name, False, rows, {}, "") for name, rows in found.items()]


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--n", type=int, help="training images; else all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=POISONINGS, action="append", help="one poisoning, repeatable; else all")
    parser.add_argument("--rate", type=float, action="append", help="poisoned share, repeatable; else five")
    parser.add_argument("--inspection", type=inspection, action="append", help=", ".join(INSPECTIONS))
    parser.add_argument("--cleanlab", type=Path, help="Python that has cleanlab: its findings beside ours")
    parser.add_argument("--epochs", type=int, help="of the network that is looked at; else the usual number")
    options = parser.parse_args()
    ways, training = options.inspection or EVERY, Training(epochs=options.epochs, seed=options.seed)
    load_tensorflow()
    dataset = read_dataset(options.dataset, options.data_dir)
    kept = np.sort(np.random.default_rng(options.seed).permutation(len(dataset.x_train))[: options.n])
    dataset = replace(dataset, x_train=dataset.x_train[kept], y_train=dataset.y_train[kept])
    print(f"{dataset.name}, {len(kept):,} training images, seed {options.seed}\n")
    names = [*("poison", "rate", "images", "alarms"), *(one.name for one in ways if one.name != "duplicates")]
    names = [name for name in names if name != "class-balance"] + [*BOTH] * bool(options.cleanlab)
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}", flush=True)
    for words, share, poisoned in cases(dataset, options.seed, options.only or [*POISONINGS], options.rate or RATES):
        changed = replace(dataset, x_train=poisoned.x, y_train=poisoned.y)
        checks = inspect(ways, Seen(changed, training=training))
        checks += cleanlab(options.cleanlab, changed, options.seed) if options.cleanlab else []
        print(row(words, share, poisoned, checks), flush=True)


if __name__ == "__main__":
    main()
