"""Convert stored arrays to images in [0, 1] and labels 0 .. K-1, and check them.

The integer type says little about the value of white: the values decide, and if they cannot, one line
asks for the value of white (`pixel_max`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.sources import Found
from gauntlet.errors import DataError, one_line
from gauntlet.limits import MAX_CLASS_NAME, MAX_CLASSES, MAX_IMAGES, MAX_SIDE

DARK = 0.5
"""An integer type's largest value counts as white where some pixel reaches this share of it."""
FAINT = 1 / 16
"""Floats below this share of [0, 1] are asked about: whole numbers divided by what is not their white."""


def images(data: Found, key: str, pixel_max: float | None = None) -> NDArray[np.float32]:
    """Images as float32 (N, H, W, C) within [0, 1]; `pixel_max` is the value that becomes 1, else see `white_of`."""
    x, where = data.arrays[key], data.where[key]
    x = x[..., np.newaxis] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        what = f"has shape {data.arrays[key].shape}, expected (N, H, W) or (N, H, W, C), none empty"
        fix = "reshape each row into an image" if x.ndim == 2 else "put channels last, 1 or 3 of them"
        raise DataError(what, where=where, fix=fix)
    if len(x) > MAX_IMAGES or max(x.shape[1:3]) > MAX_SIDE:
        what = f"has shape {x.shape}: at most {MAX_IMAGES:,} images of {MAX_SIDE} x {MAX_SIDE} pixels are read"
        raise DataError(what, where=where, fix="give fewer or smaller images")
    white = white_of(data, key, pixel_max)
    if white is None:
        return np.ascontiguousarray(x, dtype=np.float32)
    return np.ascontiguousarray(np.divide(x, np.float32(white), dtype=np.float32))


def white_of(data: Found, key: str, pixel_max: float | None) -> float | None:
    """The value that becomes 1 in the images `key`; None for floats that are within [0, 1] already.

    Training and test images of one type are looked at together. Raises `DataError`, which asks for `--pixel-max`,
    where the values do not tell.
    """
    x, where = data.arrays[key], data.where[key]
    _check_finite(x, where)
    alike = [data.arrays[each] for each in ("x_train", "x_test") if data.arrays[each].dtype == x.dtype]
    low, high = min(float(each.min()) for each in alike), max(float(each.max()) for each in alike)
    if pixel_max is not None:
        if low < 0 or high > pixel_max:
            what = f"has pixels from {low:.9g} to {high:.9g}, outside [0, {pixel_max:g}]"
            fix = "scale to [0, 1]" if low < 0 else "--pixel-max is the value of white"
            raise DataError(what, where=where, fix=fix)
        return None if pixel_max == 1 and x.dtype.kind == "f" else pixel_max
    if x.dtype.kind == "f":
        _check_floats(low, high, where)
        return None
    return 1.0 if x.dtype.kind == "b" else _white_of_integers(low, high, x.dtype, where)


def _check_floats(low: float, high: float, where: str) -> None:
    """Floats must be within [0, 1], and look as if they filled it."""
    if low < 0 or high > 1:
        bytes_like = low >= 0 and high <= 255
        fix = "these look like 0..255: --pixel-max 255" if bytes_like else "scale to [0, 1], or --pixel-max"
        if low < 0:  # which no value of white puts right
            fix = "these look like -1..1: x / 2 + 0.5 is in [0, 1]" if low >= -1 and high <= 1 else "scale to [0, 1]"
        raise DataError(f"has pixels from {low:.9g} to {high:.9g}, outside [0, 1]", where=where, fix=fix)
    if 0 < high < FAINT:
        what = f"has pixels up to {high:.3g} only: is white 1 or {high:.3g}?"
        raise DataError(what, where=where, fix=f"--pixel-max 1 or --pixel-max {high:.9g}")


def _white_of_integers(low: float, high: float, dtype: np.dtype[Any], where: str) -> float:
    most = float(np.iinfo(dtype).max) if dtype in (np.uint8, np.uint16) else None
    if low < 0:
        raise DataError(f"has pixels from {low:g} to {high:g}", where=where, fix="scale to [0, 1], or save as uint8")
    if most and high >= DARK * most:
        return most
    known = f"far below the {most:g} of {dtype}" if most else f"of dtype {one_line(dtype, 60)}"
    likely = most or next((white for white in (1, 16, 255, 4095) if white >= high), 65_535)
    choices = dict.fromkeys(f"--pixel-max {white:g}" for white in (high, likely) if white)
    raise DataError(f"has pixels up to {high:g}, {known}: which value is white?", where=where, fix=" or ".join(choices))


def _check_finite(x: NDArray[Any], where: str) -> None:
    """Images must be numbers, and finite."""
    if x.dtype.kind not in "fiub":
        what = f"has dtype {one_line(x.dtype, 60)}, expected uint8, or float within [0, 1]"
        raise DataError(what, where=where, fix="convert it with astype")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError("holds NaN or infinite pixels", where=where, fix="repair or leave out those images")


def labels_of(data: Found, key: str, n_images: int) -> NDArray[Any]:
    """Labels as whole numbers, (N,); whether they are in range is checked once the classes are known."""
    return whole(data.arrays[key], n_images, data.where[key])


def whole(y: NDArray[Any], n_images: int, where: str) -> NDArray[Any]:
    """Labels (N,), (N, 1) or one-hot (N, K) as whole numbers, (N,); `DataError` where they are none."""
    fix = "give integers 0..K-1 of shape (N,), or one-hot rows (N, K)"
    y = y.astype(np.int64) if y.dtype.kind == "b" else y
    if y.dtype.kind not in "iuf" or y.ndim not in (1, 2) or 0 in y.shape:
        raise DataError(f"has dtype {one_line(y.dtype, 60)} and shape {y.shape}", where=where, fix=fix)
    if len(y) != n_images:
        raise DataError(f"{len(y)} labels for {n_images} images", where=where, fix="give one label per image")
    if y.ndim == 2 and y.shape[1] > 1:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DataError(f"has shape {y.shape} but is not one-hot", where=where, fix=fix)
        y = y.argmax(axis=1)
    y = y.reshape(-1)
    if not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise DataError("holds labels that are not whole numbers", where=where, fix=fix)
    return y


def count_classes(data: Found, y_train: NDArray[Any]) -> int:
    """K: the columns of one-hot labels, else one more than the highest label, as far as that is a class."""
    one_hot = data.arrays["y_train"]
    if one_hot.ndim == 2 and one_hot.shape[1] > 1:
        return int(one_hot.shape[1])
    return min(int(y_train.max()) + 1, MAX_CLASSES)


def check_labels(labels: NDArray[Any], n_classes: int, data: Found, key: str) -> None:
    """Labels must be 0..K-1, with K at least 2."""
    raw, where = data.arrays[key], data.where[key]
    if raw.ndim == 2 and raw.shape[1] not in (1, n_classes):
        raise DataError(f"has {raw.shape[1]} one-hot columns for {n_classes} classes", where=where)
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < n_classes:
        what = f"labels from {one_line(low, 40)} to {one_line(high, 40)} are out of range"
        expected = f"expected 0..{n_classes - 1}" if n_classes > 0 else "count classes from 0"
        fix = f"{expected}: renumber them, --labels map"
        raise DataError(what, where=where, fix=fix)
    if n_classes > MAX_CLASSES:
        raise DataError(f"has {n_classes:,} classes, at most {MAX_CLASSES:,} allowed", where=where)
    if n_classes < 2:
        raise DataError("all labels are 0: only one class", where=where, fix="a classifier needs two or more")


def class_names_of(data: Found) -> tuple[str, ...]:
    """The user's class names: distinct, printable, short."""
    array, where = data.arrays["class_names"], data.where["class_names"]
    if array.dtype.kind != "U" or array.ndim != 1:
        what = f"has dtype {one_line(array.dtype, 60)} and shape {array.shape}"
        raise DataError(what, where=where, fix="give a one-dimensional array of unicode strings")
    return checked_names(array.tolist(), where)


def checked_names(given: Iterable[str], where: str) -> tuple[str, ...]:
    """Names of classes, once they are found to be distinct, printable and short; `DataError` otherwise."""
    names = tuple(given)
    fine = [name.isprintable() and 0 < len(name) <= MAX_CLASS_NAME for name in names]
    if len(set(names)) < len(names) or not all(fine):
        fix = f"give printable, distinct names of 1 to {MAX_CLASS_NAME} characters"
        raise DataError("has names that are empty, double, too long or unprintable", where=where, fix=fix)
    return names
