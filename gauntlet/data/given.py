"""Images and labels as Python callers hold them: arrays, lists, tensors, frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.arrays import check_labels, images, labels_of
from gauntlet.data.labels import numbered
from gauntlet.data.parts import of_arrays
from gauntlet.data.pictures import Form
from gauntlet.data.sources import Found
from gauntlet.data.stated import Stated
from gauntlet.errors import DataError, one_line

TOGETHER = "collect it into one array of images and one of labels first"


class Given(NamedTuple):
    """Images (n, h, w, c) in [0, 1], classes (n,), the number of classes, and what was done to get there."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    n_classes: int
    prepared: tuple[str, ...]


def checked(x: Any, y: Any, stated: Stated) -> Given:
    """Images and labels as the same arrays in an `.npz` file would be read; `DataError` otherwise."""
    given, form = {"x": array(x, "x"), "y": array(y, "y")}, Form(stated, 0)
    part = of_arrays(given["x"], given["y"], "x", "y")
    rows = np.arange(len(part.labels))
    labels, _, notes = numbered({"y": part.labels}, "y", stated.labels)
    arrays = {"x": part.take(rows, form), "y": labels["y"]}
    keys = [f"{kind}_{side}" for kind in "xy" for side in ("train", "test")]
    data = Found({key: arrays[key[0]] for key in keys}, {key: key[0] for key in keys}, "arrays")
    pixels = images(data, "x_test", stated.pixel_max)
    classes = labels_of(data, "y_test", len(pixels))
    k = stated.classes or classes_of(labels["y"], classes)
    check_labels(classes, k, data, "y_test")
    return Given(pixels, classes.astype(np.int64), k, (*part.notes, *notes, *sorted(form.done)))


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


def classes_of(y: NDArray[Any], labels: NDArray[Any]) -> int:
    """K: the columns of one-hot rows `y`, else one more than the highest of the `labels`, (n,)."""
    return y.shape[1] if y.ndim == 2 and y.shape[1] > 1 else int(labels.max()) + 1
