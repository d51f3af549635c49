"""Small files of the built-in data sets and of one's own, and what is expected when a file is refused."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from gauntlet.data.datasets import read_dataset
from gauntlet.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
MNIST_DIR = Path(os.environ.get("GAUNTLET_MNIST_DIR", ROOT.parent / "shared" / "mnist"))
STEMS = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}
Arrays = dict[str, NDArray[Any]]
quick = settings(max_examples=60, deadline=None, database=None)


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def small(n_train: int = 40, n_test: int = 20, side: int = 4) -> Arrays:
    """A well-formed data set of four classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n_train, side, side), dtype=np.uint8),
        "y_train": np.arange(n_train) % 4,
        "x_test": rng.integers(0, 256, (n_test, side, side), dtype=np.uint8),
        "y_test": np.arange(n_test) % 4,
    }


def own(folder: Path, **changes: Any) -> Path:
    """An .npz of `small()` with some arrays replaced, or left out where None."""
    arrays = {key: value for key, value in (small() | changes).items() if value is not None}
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def refused(name: str | Path, data_dir: Path | None = None, *, names: str, says: str) -> str:
    """Load, expect a DataError of one line that names the file and says what is wrong."""
    with pytest.raises(DataError) as caught:
        read_dataset(str(name), data_dir)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert names in message
    assert says in message
    return message


def plain(folder: Path, data: dict[str, bytes]) -> Path:
    for key, stem in STEMS.items():
        (folder / f"{stem}-idx{3 if key[0] == 'x' else 1}-ubyte").write_bytes(data[key])
    return folder


def npz_with(path: Path, x_train: bytes, **lies: Any) -> Path:
    """An .npz whose first member is the given bytes, its directory entry changed after the fact."""
    own(path.parent)
    with zipfile.ZipFile(path.parent / "own.npz") as good, zipfile.ZipFile(path, "w") as bad:
        bad.writestr("x_train.npy", x_train)
        for key in ("y_train", "x_test", "y_test"):
            bad.writestr(f"{key}.npy", good.read(f"{key}.npy"))
        for name, value in lies.items():
            setattr(bad.filelist[0], name, value)
    return path


def npy(header: str, body: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + body
