"""Training images that are left out: read from the `suspects.npz` that a scan of the training set wrote.

One array of positions for each check, and the digest of the data set that they count in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.readers import npz_keys, read_npz
from gauntlet.errors import DataError, one_line
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset

DIGEST = "dataset_digest"
MOST = 1_000
"""Arrays that such a file may have."""


@dataclass(frozen=True)
class Dropped:
    """Positions in a training set, each once and ascending, and the SHA-256 (hex) of the file that names them."""

    rows: NDArray[np.int64] = field(repr=False)
    digest: str

    def kept(self, dataset: Dataset) -> tuple[Images, Labels]:
        """The training images and labels that stay."""
        stay = np.setdiff1d(np.arange(len(dataset.y_train)), self.rows)
        return dataset.x_train[stay], dataset.y_train[stay]


def as_arrays(dataset: Dataset, suspects: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """What `suspects.npz` holds: positions by check, without the checks that suspect nothing."""
    named = {name: rows for name, rows in suspects.items() if len(rows)}
    return named | {DIGEST: np.frombuffer(bytes.fromhex(dataset.digest), np.uint8)}


def read_suspects(path: Path, dataset: Dataset) -> Dropped:
    """The positions that a file names for this data set.

    Raises DataError: no such file, no `.npz`, positions that are no whole numbers or not in the training set, another
    data set's, or a class that would lose all its images.
    """
    where = one_line(path)
    if not path.is_file():
        raise DataError("no such file", where=where, fix="give the suspects.npz of a scan: gauntlet datascan")
    keys = npz_keys(path)
    if DIGEST not in keys or len(keys) > MOST:
        raise DataError(f"has no {DIGEST}", where=where, fix="give the suspects.npz of a scan: gauntlet datascan")
    arrays = read_npz(path, keys)
    if arrays.pop(DIGEST).tobytes().hex() != dataset.digest:
        raise DataError(f"names images of another data set than {dataset.name}", where=where, fix="scan this one")
    rows = [_positions(index, len(dataset.y_train), f"{where}: {one_line(name, 60)}") for name, index in arrays.items()]
    dropped = np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))
    _check_classes(dropped, dataset, where)
    return Dropped(dropped, hashlib.sha256(path.read_bytes()).hexdigest())


def _positions(index: NDArray[Any], n: int, where: str) -> NDArray[np.int64]:
    if index.ndim != 1 or index.dtype.kind not in "iu":
        what = f"holds {index.dtype} of shape {index.shape}"
        raise DataError(what, where=where, fix="whole numbers in one row are wanted")
    if index.min() < 0 or index.max() >= n:
        raise DataError(f"names image {index.max() if index.max() >= n else index.min()} of {n}", where=where)
    return index.astype(np.int64)


def _check_classes(dropped: NDArray[np.int64], dataset: Dataset, where: str) -> None:
    counts, before = np.bincount(np.delete(dataset.y_train, dropped), minlength=dataset.n_classes), dataset.unseen
    if lost := [k for k in np.flatnonzero(counts == 0).tolist() if k not in before]:
        what = f"names every training image of class {lost[0]}"
        raise DataError(what, where=where, fix="a class cannot be learned without images")
