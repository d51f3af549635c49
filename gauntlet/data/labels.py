"""Labels as numbers of classes, by one rule for files and for arrays: names are numbered in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.arrays import checked_names, whole
from gauntlet.data.stated import LabelsAs
from gauntlet.errors import DataError, one_line

SHOWN = 5
"""Names of classes that a note lists."""


class Numbered(NamedTuple):
    """Labels by part, names of the classes where something says them, and a note on what was numbered."""

    labels: dict[str, NDArray[Any]]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def numbered(
    given: Mapping[str, NDArray[Any]], where: str, how: LabelsAs, names: tuple[str, ...] | None = None
) -> Numbered:
    """Labels (n,) or (n, 1) of numbers or text, or one-hot rows (n, k), by part, as numbers of classes.

    Text is numbered as `names` say, else in its order; text that is whole numbers counts as those. With `map` numbers
    are renumbered from 0 in their order; one-hot rows stay. Raises `DataError`.
    """
    labels = {part: _text(y, where) for part, y in given.items()}
    if all(y.dtype.kind == "U" and (y.ndim == 1 or y.shape[1:] == (1,)) for y in labels.values()):
        labels = {part: y.reshape(-1) for part, y in labels.items()}
        texts = {text for y in labels.values() for text in y.tolist()}
        if not all(text.isdecimal() for text in texts):
            return _named(labels, texts, where, names)
        labels = {part: y.astype(np.int64) for part, y in labels.items()}
    names = checked_names(names, where) if names else None
    if how == "map" and all(y.ndim == 1 or y.shape[1:] == (1,) for y in labels.values()):
        return _mapped(labels, where, names)
    return Numbered(labels, names)


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in their order: that of numbers where all are whole numbers, else of the alphabet."""
    distinct = sorted(set(names))
    return tuple(sorted(distinct, key=int)) if all(name.isdecimal() for name in distinct) else tuple(distinct)


def _text(y: NDArray[Any], where: str) -> NDArray[Any]:
    """Bytes, as MATLAB and HDF5 hold names, as text; anything else as it is."""
    if y.dtype.kind != "S":
        return y
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError("holds names that are not UTF-8", where=where, fix="save them as text") from error


def _named(labels: Mapping[str, NDArray[Any]], texts: set[str], where: str, names: tuple[str, ...] | None) -> Numbered:
    known = checked_names(names or ordered(texts), where)
    if strange := sorted(texts - set(known)):
        what = f"the label {one_line(strange[0], 60)!r} is none of the {len(known)} class names"
        raise DataError(what, where=where, fix="name every class in class_names, or leave them out")
    place = {name: k for k, name in enumerate(known)}
    numbers = {part: np.array([place[text] for text in y.tolist()], np.int64) for part, y in labels.items()}
    few = ", ".join(known[:SHOWN]) + ", …" * (len(known) > SHOWN)
    return Numbered(numbers, known, () if names else (f"classes numbered in the order of their names: {few}",))


def _mapped(labels: Mapping[str, NDArray[Any]], where: str, names: tuple[str, ...] | None) -> Numbered:
    """The distinct values from 0 on; they become the classes' names, where there are no names for all of them."""
    numbers = {part: whole(y, len(y), where) for part, y in labels.items()}
    values = np.unique(np.concatenate(list(numbers.values())))
    mapped = {part: np.searchsorted(values, y) for part, y in numbers.items()}
    kept = names if names and len(names) == len(values) else tuple(f"{value:g}" for value in values)
    return Numbered(mapped, kept)
