"""Whatever holds images and labels in Python is one array, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gauntlet.data.given import array, checked, classes_of
from gauntlet.data.stated import Stated
from gauntlet.errors import DataError
from tests.gauntlet.data.reading import read

pytestmark = pytest.mark.usefixtures("no_cache")
X = np.linspace(0, 255, 9 * 25).reshape(9, 5, 5).astype(np.uint8)
Y = np.arange(9) % 3


def test_a_tensor_that_records_gradients_is_read() -> None:
    torch = pytest.importorskip("torch")
    assert array(torch.ones(2, 3, requires_grad=True) * 2, "x").tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("kind", ["DataLoader", "TensorDataset"])
def test_streams_of_torch_are_one_line(kind: str) -> None:
    data = pytest.importorskip("torch.utils.data")
    import torch

    pairs = data.TensorDataset(torch.zeros(4, 1, 5, 5), torch.arange(4))
    given = pairs if kind == "TensorDataset" else data.DataLoader(pairs)
    with pytest.raises(DataError, match=f"x: a {kind} is no array .collect it"):
        array(given, "x")


NAMES = np.array(["pear", "apple", "plum"])
FORMS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "grey": (X, Y, {}),
    "grey alpha": (np.stack([X, np.full_like(X, 255)], 3), Y, {}),
    "red, green, blue, alpha": (np.concatenate([np.stack([X] * 3, 3), np.full((9, 5, 5, 1), 255, np.uint8)], 3), Y, {}),
    "transparent": (np.stack([X, X], 3), Y, {"background": "white"}),
    "channels first": (np.stack([X] * 3, 1), Y, {}),
    "rows of pixels": (X.reshape(9, -1), Y, {}),
    "sixteenths": (X // 16, Y, {"pixel_max": 16}),
    "names": (X, NAMES[Y], {}),
    "names of bytes": (X, NAMES[Y].astype("S"), {}),
    "names in a column": (X, NAMES[Y][:, None], {"labels": "map"}),
    "numbers as text": (X, Y.astype(str), {}),
    "from 7 on": (X, Y + 7, {"labels": "map"}),
    "one-hot": (X, np.eye(5)[Y], {"labels": "map"}),
    "stated classes": (X, Y, {"classes": 7}),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_are_read_as_from_a_file(form: str, tmp_path: Path) -> None:
    x, y, more = FORMS[form]
    np.savez(tmp_path / "own.npz", x_test=x, y_test=y)
    file, ours = read(tmp_path / "own.npz", **more), checked(x, y, Stated(**more))
    np.testing.assert_array_equal(ours.x, file.x_test)
    assert (ours.y.tolist(), ours.n_classes) == (file.y_test.tolist(), file.n_classes)
    assert (*ours.prepared, "test images alone") == file.prepared


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "five channels": (np.stack([X] * 5, 3), Y, "channels last, 1 or 3"),
    "two channels, transparent": (np.stack([X, X], 3), Y, "transparent pixels.*--background"),
    "rows of no square": (X.reshape(9, -1)[:, :24], Y, "reshape each row"),
    "labels from 2 on": (X, Y - 1, "labels from -1 to 1 are out of range"),
    "names that are no text": (X, np.array([b"\xff", b"a", b"b"])[Y], "not UTF-8"),
    "dark": (X // 16, Y, "--pixel-max"),
    "from -1 to 1": (X / 127.5 - 1, Y, "these look like -1..1"),
    "floats up to 255, with alpha": (np.stack([X, np.full_like(X, 255)], 3).astype(float), Y, "alpha up to 255.*--pix"),
    "one image": (X[0], Y[0], "give one label per image"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_a_file_may_not_hold_is_refused_alike(form: str, tmp_path: Path) -> None:
    x, y, says = REFUSED[form]
    np.savez(tmp_path / "own.npz", x_test=x, y_test=y)
    for reading in (lambda: checked(x, y, Stated()), lambda: read(tmp_path / "own.npz")):
        with pytest.raises(DataError, match=says) as caught:
            reading()
        assert str(caught.value).isprintable()


def test_objects_become_what_they_hold() -> None:
    assert array(np.array([1, 2], dtype=object), "y").dtype.kind == "i"
    assert array(np.array(["a", "b"], dtype=object), "y").dtype.kind == "U"


def test_classes_are_counted_by_columns_or_by_the_highest_label() -> None:
    assert classes_of(np.eye(5)[[0, 1]], np.array([0, 1])) == 5
    assert classes_of(np.array([7]), np.array([7])) == 8
