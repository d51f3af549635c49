"""The user's own .npz: every form is read, every bad file is refused in one clear line."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gauntlet.data.datasets import read_dataset
from tests.gauntlet.data.files import Arrays, npy, npz_with, own, refused, small

pytestmark = pytest.mark.usefixtures("no_cache")


@pytest.mark.parametrize(
    ("changes", "classes"),
    [
        ({}, 4),
        ({"y_train": (np.arange(40) % 4).astype(float), "y_test": (np.arange(20) % 4).astype(np.uint8)}, 4),
        ({"y_train": np.eye(4)[np.arange(40) % 4], "y_test": np.eye(4)[np.arange(20) % 4]}, 4),
        ({"y_train": np.eye(6)[np.arange(40) % 4]}, 6),
        ({"y_train": (np.arange(40) % 4)[:, None]}, 4),
        ({"y_train": np.asfortranarray(np.eye(4)[np.arange(40) % 4].astype(">f8"))}, 4),
        ({key: small()[key][..., None] for key in ("x_train", "x_test")}, 4),
        ({key: small()[key] / 255 for key in ("x_train", "x_test")}, 4),
        ({key: np.asfortranarray((small()[key] / 255).astype(">f4")) for key in ("x_train", "x_test")}, 4),
        ({"class_names": np.array(["a", "b", "c", "d"])}, 4),
    ],
)
def test_own_npz_in_all_its_forms(tmp_path: Path, changes: Arrays, classes: int) -> None:
    data = read_dataset(str(own(tmp_path, **changes)))
    assert (data.name, data.source, data.official) == ("own", "user npz", False)
    assert (data.n_classes, data.input_shape) == (classes, (4, 4, 1))
    assert data.class_names[:4] in (tuple("0123"), tuple("abcd"))
    np.testing.assert_array_equal(data.x_train[..., 0], (small()["x_train"] / 255).astype(np.float32))
    assert data.digest == read_dataset(str(own(tmp_path))).digest


def test_colour_and_compression(tmp_path: Path) -> None:
    x = np.full((40, 4, 5, 3), 200, np.uint8)
    np.savez_compressed(tmp_path / "c.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x, y_test=np.arange(40) % 2)
    assert read_dataset(str(tmp_path / "c.npz")).input_shape == (4, 5, 3)


def pixels(value: float) -> NDArray[np.float64]:
    x = np.full((40, 4, 4), 0.5)
    x[3, 2, 1] = value
    return x


class Mischief:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


OBJECTS = np.array([Mischief()] * 40, dtype=object)


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"y_test": None, "x_test": None}, "lacks", "lacks x_test, y_test; it has x_train, y_train"),
        ({"x_train": OBJECTS}, "x_train", "pickle"),
        ({"y_train": OBJECTS}, "y_train", "pickle"),
        ({"class_names": OBJECTS}, "class_names", "pickle"),
        ({"x_train": pixels(np.nan)}, "x_train", "NaN or infinite"),
        ({"x_train": pixels(-np.inf)}, "x_train", "NaN or infinite"),
        ({"x_train": pixels(-0.25)}, "x_train", "from -0.25 to 0.5, outside [0, 1]"),
        ({"x_train": pixels(1.0001)}, "x_train", "1.0001, outside [0, 1]"),
        ({"x_train": pixels(254)}, "x_train", "look like 0..255"),
        ({"x_train": np.zeros((40, 4, 4), complex)}, "x_train", "dtype complex128"),
        ({"x_train": np.zeros((40, 4, 4), int)}, "x_train", "dtype int64"),
        ({"x_train": np.zeros((40, 4, 4), "U3")}, "x_train", "dtype <U3"),
        ({"x_train": np.zeros((40, 4, 4), "i4,f4")}, "x_train", "expected uint8"),
        ({"x_train": np.zeros((40, 4, 4), "M8[s]")}, "x_train", "expected uint8"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8)}, "x_train", "is empty"),
        ({"x_train": np.zeros((40, 0, 4), np.uint8)}, "x_train", "is empty"),
        ({"x_train": np.zeros((40, 15), np.uint8)}, "x_train", "has shape (40, 15)"),
        ({"x_train": np.uint8(3)}, "x_train", "has shape ()"),
        ({"x_train": np.zeros((40, 3, 4, 4), np.uint8)}, "x_train", "channels last"),
        ({"x_test": np.zeros((20, 5, 4), np.uint8)}, "x_test", "images are (5, 4, 1)"),
        ({"y_train": np.arange(39) % 4}, "y_train", "39 labels for 40 images"),
        ({"y_train": np.arange(40) % 4 - 1}, "y_train", "labels from -1 to 2 are out of range"),
        ({"y_test": np.arange(20) % 5}, "y_test", "labels from 0 to 4 are out of range"),
        ({"y_train": np.full(40, 2**63, np.uint64)}, "y_train", "out of range"),
        ({"y_train": np.full(40, 1e300)}, "y_train", "out of range"),
        ({"y_train": np.full(40, -5)}, "y_train", "out of range"),
        ({"y_train": np.full(40, 0.5)}, "y_train", "not whole numbers"),
        ({"y_train": np.full(40, np.nan)}, "y_train", "not whole numbers"),
        ({"y_train": np.array(["a"] * 40)}, "y_train", "dtype <U1"),
        ({"y_train": np.ones((40, 4))}, "y_train", "not one-hot"),
        (
            {"y_train": np.eye(4)[np.arange(40) % 4], "y_test": np.eye(5)[np.arange(20) % 4]},
            "y_test",
            "columns",
        ),
        ({"y_train": np.zeros((40, 2, 2))}, "y_train", "shape (40, 2, 2)"),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(20, int)}, "y_train", "only one class"),
        ({"class_names": np.array(["a", "b", "c"])}, "y_train", "out of range"),
        ({"class_names": np.array(["a", "b", "c", "c"])}, "class_names", "double"),
        ({"class_names": np.array(["a", "b", "c", "d\n"])}, "class_names", "unprintable"),
        ({"class_names": np.array(["a", "b", "c", ""])}, "class_names", "empty"),
        ({"class_names": np.arange(4)}, "class_names", "unicode"),
    ],
)
def test_bad_own_npz(tmp_path: Path, changes: dict[str, Any], key: str, says: str) -> None:
    path = own(tmp_path, **changes)
    assert key in refused(path, names="own.npz", says=says)


@pytest.mark.parametrize(
    ("member", "lies", "says"),
    [
        (b"", {}, "as a NumPy array"),
        (b"\x93NUMPY\x01\x00", {}, "as a NumPy array"),
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (40, 4, 4)}\n", b"\0" * 639),
            {},
            "truncated",
        ),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (40, 4, 4)}\n", b"\0" * 641), {}, "trailing"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4)}\n"), {}, "is empty"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (10**9, 4)}\n"), {}, "as a NumPy array"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 4)}\n"), {}, "truncated"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (40,)}\n", pickle.dumps(1)), {}, "pickle"),
        (npy("(" * 9000, version=2), {}, "as a NumPy array"),
        (npy("x" * 200_000, version=2), {}, "as a NumPy array"),
        (npy("{}", version=9), {}, "as a NumPy array"),
        (b"x", {"flag_bits": 1}, "encrypted"),
        (b"x", {"compress_type": zipfile.ZIP_LZMA}, "method 14"),
        (b"x", {"file_size": 9 * 2**30}, "zip bomb"),
        (b"x", {"file_size": 2 * 2**30}, "zip bomb"),
        (b"x" * 50, {"header_offset": 10**6}, "cannot be read"),
    ],
)
def test_hostile_npz(tmp_path: Path, member: bytes, lies: dict[str, Any], says: str) -> None:
    refused(npz_with(tmp_path / "bad.npz", member, **lies), names="bad.npz", says=says)


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps(OBJECTS), npy("{}"), np.random.default_rng(0).bytes(300)])
def test_npz_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(data)
    refused(tmp_path / "bad.npz", names="bad.npz", says="as an .npz file")


def test_a_named_npz_may_not_be_larger_than_the_data_set(tmp_path: Path) -> None:
    x = np.zeros((60_001, 28, 28), np.uint8)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=x[:, 0, 0], x_test=x[:9999], y_test=x[:9999, 0, 0])
    refused("mnist", tmp_path, names="mnist.npz", says="mnist has (60000, 28, 28)")
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=x, x_test=x[:1], y_test=x[:1])
    refused("mnist", tmp_path, names="mnist.npz", says="zip bomb")


def test_a_named_npz_must_be_uint8(tmp_path: Path) -> None:
    own(tmp_path, x_train=pixels(0.1)).rename(tmp_path / "mnist.npz")
    refused("mnist", tmp_path, names="mnist.npz: x_train", says="has dtype float64, mnist has uint8")
