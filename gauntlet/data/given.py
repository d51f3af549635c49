"""Images and labels as Python callers hold them: arrays, lists, tensors, frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.folders import ordered
from gauntlet.data.stated import LabelsAs
from gauntlet.errors import DataError, one_line

TOGETHER = "collect it into one array of images and one of labels first"


def array(value: Any, where: str) -> NDArray[Any]:
    """One array of what was given; objects become numbers or text where all of them are.

    Raises `DataError`: nothing, a stream of batches, or parts of different shapes.
    """
    if value is None:
        raise DataError("nothing was given", where=where, fix=f"give the {'labels' if where == 'y' else 'images'}")
    if _is_stream(value):
        raise DataError(f"a {type(value).__name__} is no array", where=where, fix=TOGETHER)
    value = value.detach().cpu() if hasattr(value, "detach") else value  # a torch tensor that records gradients
    try:
        found = np.asarray(value)
        return np.array(found.tolist()) if found.dtype.kind == "O" else found
    except (ValueError, TypeError, RuntimeError) as error:
        what = f"a {type(value).__name__} cannot be read as one array: {one_line(error, 100)}"
        raise DataError(what, where=where, fix="give all images one shape, and each one label") from None


def _is_stream(value: Any) -> bool:
    """Whether it gives its parts one after the other: a DataLoader, a data set, a generator."""
    return not (hasattr(value, "__array__") or isinstance(value, list | tuple | np.ndarray)) and (
        hasattr(value, "__iter__") or hasattr(value, "__getitem__")
    )


def numbered(y: NDArray[Any], how: LabelsAs) -> NDArray[Any]:
    """Labels (n,) or (n, 1) of numbers or names, with `map` as 0..k-1 in the order of their distinct values.

    One-hot rows stay. Raises `DataError` for names that are not to be mapped.
    """
    if how == "map" and (y.ndim == 1 or y.shape[1:] == (1,)):
        return _mapped(y.reshape(-1))
    if y.dtype.kind == "U":
        fix = "--labels map numbers them in their order, which must be the model's"
        raise DataError("holds names of classes", where="y", fix=fix)
    return y


def _mapped(y: NDArray[Any]) -> NDArray[Any]:
    if y.dtype.kind != "U":
        return np.unique(y, return_inverse=True)[1].reshape(-1)
    places = {name: place for place, name in enumerate(ordered(y.tolist()))}
    return np.array([places[name] for name in y.tolist()], np.int64)


def classes_of(y: NDArray[Any], labels: NDArray[Any]) -> int:
    """K: the columns of one-hot rows `y`, else one more than the highest of the `labels`, (n,)."""
    return y.shape[1] if y.ndim == 2 and y.shape[1] > 1 else int(labels.max()) + 1
