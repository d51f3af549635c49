"""Find the files of a data set in folders, archives and single files, and read its four arrays.

Each function gives None when `path` holds nothing of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.readers import (
    CIFAR_RECORD,
    idx_size,
    open_zip,
    parse_cifar,
    parse_idx,
    read_file,
    read_member,
    read_npz,
    read_tar,
    zip_members,
)
from gauntlet.errors import DataError, one_line

CIFAR_BATCH = 10_000
CIFAR_TAR = "cifar-10-binary.tar.gz"

Shapes = Mapping[str, tuple[int, ...]]

KEYS = ("x_train", "y_train", "x_test", "y_test")
ZIPS = ("archive.zip", "mnist.zip", "mnist-dataset.zip", "fashion-mnist.zip", "fashionmnist.zip")
_IDX_STEMS = dict(zip(KEYS, ("train-images", "train-labels", "t10k-images", "t10k-labels"), strict=True))
_CIFAR_PARTS = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_CIFAR_NAMES = _CIFAR_PARTS["train"] + _CIFAR_PARTS["test"]
_CIFAR_FOLDERS = (".", "cifar-10-batches-bin")
_CIFAR_PICKLES = ("data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz")


@dataclass(frozen=True)
class Found:
    """The four arrays (by `KEYS`) as found, what to call each in an error, and their source in words."""

    arrays: Mapping[str, NDArray[Any]]
    where: Mapping[str, str]
    source: str


def _spellings(key: str) -> tuple[str, str]:
    """The names an IDX file goes by: the original one, and Kaggle's."""
    kind = f"idx{3 if key.startswith('x') else 1}-ubyte"
    return f"{_IDX_STEMS[key]}-{kind}", f"{_IDX_STEMS[key]}.{kind}"


def _idx_names(key: str) -> list[str]:
    """Where an IDX file may be in a folder: flat, or in a folder of its own name as Kaggle's are."""
    names = _spellings(key)
    places = [*names, *(f"{folder}/{name}" for folder in names for name in names)]
    return [place + suffix for place in places for suffix in ("", ".gz")]


def known_files() -> list[str]:
    """Every path, relative to the folder of a data set, that the functions below may read."""
    idx = [name for key in KEYS for name in _idx_names(key)]
    cifar = [f"{folder}/{name}" for folder in _CIFAR_FOLDERS for name in _CIFAR_NAMES]
    return [*idx, *ZIPS, *cifar, CIFAR_TAR]


def pick(path: Path, suffix: str, names: Iterable[str]) -> Path | None:
    """`path` itself when it is a file with this suffix, else the first of `names` that is a file in it."""
    if path.is_file():
        return path if path.name.lower().endswith(suffix) else None
    return next((path / name for name in names if (path / name).is_file()), None)


def idx_files(path: Path, shapes: Shapes) -> Found | None:
    """Four IDX files, plain or gzipped, in a folder; `shapes` bound what is read."""
    files = {} if path.is_file() else {key: pick(path, "", _idx_names(key)) for key in KEYS}
    there = {key: file for key, file in files.items() if file}
    if not there:
        return None
    if missing := [_spellings(key)[0] for key in KEYS if key not in there]:
        fix = f"put {', '.join(missing)} (or .gz) beside the others"
        raise DataError("the IDX files are not complete", where=one_line(path), fix=fix)
    where = {key: one_line(file) for key, file in there.items()}
    data = {key: read_file(there[key], idx_size(shapes[key])) for key in KEYS}
    # Any number of items will do here: it is compared with the labels' and the data set's later.
    arrays = {key: parse_idx(data[key], where[key], (None, *shapes[key][1:])) for key in KEYS}
    return Found(arrays, where, "IDX files")


def idx_zip(path: Path, shapes: Shapes) -> Found | None:
    """Four IDX files anywhere in a zip such as Kaggle's, known by their base names."""
    file = pick(path, ".zip", ZIPS)
    if file is None:
        return None
    arrays, where = {}, {}
    with open_zip(file) as archive:
        members = zip_members(archive)
        for key in KEYS:
            info = next((members[name] for name in _spellings(key) if name in members), None)
            if info is None:
                what = f"holds neither {' nor '.join(_spellings(key))}"
                raise DataError(what, where=one_line(file), fix="download the archive again")
            where[key] = one_line(f"{file}: {info.filename}")
            data = read_member(archive, info, idx_size(shapes[key]), where[key])
            arrays[key] = parse_idx(data, where[key], (None, *shapes[key][1:]))
    return Found(arrays, where, one_line(file.name))


def npz_file(path: Path, shapes: Shapes, name: str) -> Found | None:
    """Keras' form of a data set: one .npz, `path` itself or `name` in it."""
    file = pick(path, ".npz", (name,))
    if file is None:
        return None
    # A byte per pixel, at most eight per label, and the headers.
    limit = sum(math.prod(shape) * (8 if len(shape) == 1 else 1) for shape in shapes.values()) + 2**16
    where = {key: f"{one_line(file)}: {key}" for key in KEYS}
    return Found(read_npz(file, KEYS, limit=limit), where, one_line(file.name))


def cifar_files(path: Path, _shapes: Shapes) -> Found | None:
    """The six batches of CIFAR-10's binary version in a folder."""
    for folder in (path / name for name in _CIFAR_FOLDERS):
        files = [folder / name for name in _CIFAR_NAMES if (folder / name).is_file()]
        if files:
            batches = {file.name: read_file(file, CIFAR_BATCH * CIFAR_RECORD) for file in files}
            return _cifar(batches, one_line(folder), "CIFAR-10 binary files")
    return None


def cifar_tar(path: Path, _shapes: Shapes) -> Found | None:
    """CIFAR-10's binary version as it is served: a tar.gz, read in memory."""
    file = pick(path, ".tar.gz", (CIFAR_TAR,))
    if file is None or file.name in _CIFAR_PICKLES:
        return None
    # Six batches, and room for the tar's headers and its few texts.
    data = read_file(file, len(_CIFAR_NAMES) * CIFAR_BATCH * CIFAR_RECORD + 2**20)
    batches = read_tar(data, _CIFAR_NAMES, CIFAR_BATCH * CIFAR_RECORD, one_line(file))
    return _cifar(batches, one_line(file), one_line(file.name))


def cifar_pickles(path: Path, _shapes: Shapes) -> Found | None:
    """Refuse the Python version of CIFAR-10, the only one some folders hold."""
    if path.name in _CIFAR_PICKLES or any((path / name).exists() for name in _CIFAR_PICKLES):
        what = "the Python version of CIFAR-10 is pickles, which can run code when read: refused"
        raise DataError(what, where=one_line(path), fix=f"fetch the binary version, {CIFAR_TAR}")
    return None


def _cifar(batches: Mapping[str, bytes], where: str, source: str) -> Found:
    if missing := [name for name in _CIFAR_NAMES if name not in batches]:
        raise DataError(f"lacks {', '.join(missing)}", where=where, fix=f"fetch {CIFAR_TAR} again")
    arrays = {}
    for split, names in _CIFAR_PARTS.items():
        pairs = [parse_cifar(batches[name], f"{where}: {name}", CIFAR_BATCH) for name in names]
        arrays[f"x_{split}"] = np.concatenate([images for images, _ in pairs])
        arrays[f"y_{split}"] = np.concatenate([labels for _, labels in pairs])
    return Found(arrays, {key: f"{where}: {key}" for key in KEYS}, source)
