"""The user's own data in every format: its files, its parts, and which of its images are read.

See docs/data.md. Every file is untrusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.data import readers
from gauntlet.data.arrays import class_names_of, whole
from gauntlet.data.files import Files, files_of
from gauntlet.data.folders import pictures, read_pictures
from gauntlet.data.labels import numbered
from gauntlet.data.matlab import read_mat
from gauntlet.data.parts import Part, Parts, Rows, of_arrays
from gauntlet.data.pictures import Form
from gauntlet.data.sources import KEYS, Found
from gauntlet.data.spelling import PAIRS, QUADS, spelt
from gauntlet.data.splits import spread, stratified_split
from gauntlet.data.stated import SUFFIXES, Stated
from gauntlet.data.tables import read_csv, read_table
from gauntlet.errors import DataError, SettingError, one_line

TEST_SHARE = 0.2
"""Of images that come without a test set."""
_STEM = re.compile(r"\w[\w .+()-]{0,99}")
TABLES: dict[str, Callable[[Files, Sequence[str]], Parts]] = {
    ".parquet": read_table,
    ".arrow": read_table,
    ".csv": read_csv,
    ".mat": read_mat,
}


class Read(NamedTuple):
    """The four arrays, the classes' names where the files say, and what was done to the images."""

    found: Found
    names: tuple[str, ...] | None
    prepared: tuple[str, ...]
    trains: bool
    """False where there are test images alone, which then stand for the training images as well."""


def is_own(name: str) -> bool:
    """Whether a data set's name is that of a file or folder."""
    return name.lower().endswith(SUFFIXES) or os.path.isdir(name)


def title(name: str) -> str:
    """What a data set is called: a file without its suffix, a folder as it is."""
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES and not os.path.isdir(name) else path.absolute().name


def check_title(name: str) -> None:
    """Raise `DataError` for a name that no experiment can have."""
    if not _STEM.fullmatch(title(name)):
        fix = "rename it: letters, digits, space and . + - _ ( ) only, 100 characters at most"
        raise DataError("the data set's name becomes an experiment's, and cannot", where=one_line(name, 300), fix=fix)


def check_path(name: str) -> Path:
    """The file or folder, which exists, is no pipe or device, and has a name that an experiment can have."""
    path = Path(name)
    check_title(name)
    if path.is_file() or (path.is_dir() and path.suffix.lower() not in SUFFIXES):
        return path
    raise DataError("not a file" if path.exists() else "no such file", where=one_line(path), fix="check the path")


def read_own(path: Path, stated: Stated) -> Read:
    """The images and labels behind a path, as `stated`; see docs/data.md for what it may hold."""
    if path.suffix.lower() == ".npz":
        parts = _npz(path).settled(one_line(path))
        return _read(parts, stated, path.stat().st_size)
    with files_of(path) as files:
        return _read(_parts(files).settled(files.where), stated, files.weight)


def prepared(data: Found, names: tuple[str, ...], stated: Stated) -> Read:
    """The four arrays of a built-in data set, its images resized, in other channels or fewer, as `stated`."""
    sides = {side: (data.arrays[f"x_{side}"], data.arrays[f"y_{side}"]) for side in ("train", "test")}
    parts = {side: of_arrays(x, y, data.where[f"x_{side}"], data.where[f"y_{side}"]) for side, (x, y) in sides.items()}
    read = _read(Parts(parts, "", names), stated, sum(x.nbytes for x, _ in sides.values()))
    return read._replace(found=replace(read.found, source=data.source))


def _parts(files: Files) -> Parts:
    """By the files that are there: images first, then tables."""
    if files.names == ("",):
        return TABLES[Path(files.where).suffix.lower()](files, files.names)
    folders = pictures(files)
    if folders:
        return read_pictures(files, folders)
    for suffix, read in TABLES.items():
        if names := [name for name in files.names if name.lower().endswith(suffix)]:
            return read(files, names)
    kinds = {PurePosixPath(name).suffix or name for name in files.names}
    what = f"holds no images; it holds {', '.join(sorted(kinds)[:5]) or 'nothing'}"
    inner = next((name for name in files.names if not files.archive and name.lower().endswith(SUFFIXES)), "")
    fix = f"give {files.top / inner} itself" if inner else f"expected PNG, JPEG, or {', '.join(TABLES)}"
    raise DataError(one_line(what, 300), where=files.where, fix=one_line(fix, 300))


def _npz(path: Path) -> Parts:
    """Arrays under one of the usual names; the headers alone are read before they are known to be fine."""
    where, keys = one_line(path), readers.npz_keys(path)
    quad, pair, tests = spelt(keys, QUADS), spelt(keys, PAIRS), spelt(keys, [each[2:] for each in QUADS])
    chosen = quad or pair or tests or KEYS  # the last is not there, which the reader tells
    arrays = readers.read_npz(path, chosen, ("class_names",))
    named = Found(arrays, {key: f"{where}: {key}" for key in arrays}, "")
    names = class_names_of(named) if "class_names" in arrays else None
    called = ("",) if chosen is pair else ("test",) if chosen is tests else ("train", "test")
    sides = zip(called, chosen[::2], chosen[1::2], strict=True)
    parts = {part: _named(arrays, x, y, where) for part, x, y in sides}
    return Parts(parts, "npz", names)


def _named(arrays: Mapping[str, NDArray[Any]], x: str, y: str, where: str) -> Part:
    """Two arrays of a file as images and labels."""
    return of_arrays(arrays[x], arrays[y], f"{where}: {x}", f"{where}: {y}")


# --- which images, and their labels -------------------------------------------------------------------------


def _read(given: Parts, stated: Stated, weight: int) -> Read:
    first, found = next(iter(given.parts.values())), {name: part.labels for name, part in given.parts.items()}
    labels, names, said = numbered(found, first.where, stated.labels, given.names)
    chosen, notes = _chosen(given, labels, stated)
    form = Form(stated, weight)
    arrays: dict[str, NDArray[Any]] = {}
    places: dict[str, str] = {}
    trains = set(given.parts) != {"test"}
    for side in ("train", "test"):
        source = side if side in given.parts else "" if trains else "test"
        part, rows = given.parts[source], chosen[side if trains else "test"]
        arrays[f"x_{side}"] = part.take(rows, form)
        arrays[f"y_{side}"] = labels[source][rows]
        places |= {f"x_{side}": part.images, f"y_{side}": part.where}
    done = {note for part in given.parts.values() for note in part.notes} | form.done
    prepared = *given.notes, *said, *notes, *sorted(done)
    return Read(Found(arrays, places, f"user {given.kind}"), names, prepared, trains)


def _chosen(given: Parts, labels: dict[str, NDArray[Any]], stated: Stated) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """Sorted rows of the training and of the test images, and what was left out."""
    if not (stated.limit or "" in given.parts):
        return {side: np.arange(len(labels[side])) for side in labels}, ()
    classes = {name: whole(y, len(y), given.parts[name].where) for name, y in labels.items()}
    rows, notes = _split(classes, given, stated)
    if stated.limit is None:
        return rows, notes
    few = {}
    for side, chosen in rows.items():
        among = classes[side if side in classes else ""][chosen]
        few[side] = chosen[spread(among, stated.limit, stated.split_seed)]
        notes = (*notes, f"{len(few[side]):,} of {len(chosen):,} {side} images")
    return few, notes


def _split(labels: dict[str, NDArray[Any]], given: Parts, stated: Stated) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """All rows of both parts, or those of one, split by class."""
    if "" not in labels:
        return {side: np.arange(len(y)) for side, y in labels.items()}, ()
    try:
        train, test = stratified_split(labels[""], TEST_SHARE, stated.split_seed)
    except SettingError as error:
        what = f"has no test images, and its {len(labels['']):,} images cannot be split by class"
        raise DataError(what, where=given.parts[""].where, fix="give every class at least two images") from error
    note = f"{len(test):,} of {len(labels['']):,} images split off by class as test images, seed {stated.split_seed}"
    return {"train": train, "test": test}, (note,)
