"""MATLAB files of images, like SVHN's: `X` (h, w, c, n) and `y`.

SciPy reads them, but only arrays of numbers: this is checked by a list
of names, shapes and kinds that is made without reading the content. Files of version 7.3 are HDF5 and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.files import Files
from gauntlet.data.parts import Parts, grouped, of_arrays
from gauntlet.data.readers import reading
from gauntlet.data.spelling import PAIRS, spelt
from gauntlet.errors import DataError, one_line
from gauntlet.limits import MAX_NPZ_BYTES, SUSPICIOUS_BYTES, SUSPICIOUS_RATIO

KINDS = {"logical": 1, "single": 4, "double": 8} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}
"""Kinds of variables that are read, and the bytes of a number."""
TENTH = 10
"""SVHN's label of the digit 0."""
DIGITS = tuple("0123456789")


def read_mat(files: Files, names: Sequence[str]) -> Parts:
    """Images and labels of MATLAB files; SVHN's label 10 is the digit 0, as its authors say."""
    parts, svhn = {}, []
    for part, members in grouped(names, files.where).items():
        if len(members) > 1:
            raise DataError(f"has {len(members)} files of one part", where=files.where, fix="join them")
        where = files.called(members[0])
        x, y = _pair(files, members[0], where)
        svhn.append(_is_svhn(x, y))
        parts[part] = of_arrays(x, y % TENTH if svhn[-1] else y, where, where)
    if not all(svhn):
        return Parts(parts, "mat")
    return Parts(parts, "mat", DIGITS, ("SVHN's label 10 is the digit 0",))


def _is_svhn(x: NDArray[Any], y: NDArray[Any]) -> bool:
    return x.shape[1:] == (32, 32, 3) and x.dtype == np.uint8 and set(np.unique(y).tolist()) == set(range(1, TENTH + 1))


def _pair(files: Files, name: str, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (n, h, w, c) or (n, h, w), and labels (n,) or one-hot (n, k)."""
    from scipy.io import loadmat, whosmat

    with files.open(name) as stream, reading(where, "a MATLAB file"):
        if b"MATLAB 7.3" in stream.read(128):
            fix = "save it with -v7"
            raise DataError("is of version 7.3, which is HDF5", where=where, fix=fix)
        stream.seek(0)
        listed = whosmat(stream, appendmat=False)
        chosen = spelt([name for name, _, _ in listed], PAIRS)
        if chosen is None:
            what = f"has no X and y, it has {', '.join(name for name, _, _ in listed) or 'nothing'}"
            raise DataError(one_line(what, 300), where=where, fix="save images as X and labels as y")
        _check(listed, chosen, files.weight, where)
        stream.seek(0)
        arrays = loadmat(stream, appendmat=False, variable_names=list(chosen))
    x, y = (np.asarray(arrays[key]) for key in chosen)
    return _first(x, y), y.reshape(-1) if 1 in y.shape else y


def _check(listed: Sequence[tuple[str, tuple[int, ...], str]], chosen: Sequence[str], weight: int, where: str) -> None:
    """Refuse variables that are no numbers, or more of them than the file can honestly hold."""
    wanted = [one for one in listed if one[0] in chosen]
    for name, _, kind in wanted:
        if kind not in KINDS:
            what = f"{name} is of kind {one_line(kind, 40)}, expected an array of numbers"
            raise DataError(what, where=where, fix="save plain arrays")
    total = sum(math.prod(shape) * KINDS[kind] for _, shape, kind in wanted)
    bomb = total > max(SUSPICIOUS_BYTES, SUSPICIOUS_RATIO * weight)
    if len(wanted) > len(chosen) or total > MAX_NPZ_BYTES or bomb:
        what = f"declares {total} bytes in a file of {weight}, or a variable twice: a decompression bomb?"
        raise DataError(what, where=where, fix="save fewer images")


def _first(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Images with their number first: MATLAB's own habit is last, which the labels tell."""
    n = max(y.shape)
    return np.moveaxis(x, -1, 0) if x.ndim in (3, 4) and x.shape[-1] == n else x
