"""Whatever holds images and labels in Python is one array, or one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gauntlet.data.given import array, classes_of, numbered
from gauntlet.errors import DataError


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


@pytest.mark.parametrize(
    ("labels", "mapped"),
    [
        ([3, 8, 3], [0, 1, 0]),
        ([[3], [8], [3]], [0, 1, 0]),
        (["dog", "cat", "dog"], [1, 0, 1]),
        (["10", "9", "10"], [1, 0, 1]),
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]]),
    ],
)
def test_labels_are_mapped_in_the_order_of_their_values(labels: Any, mapped: Any) -> None:
    """Numbers as text are in the order of the numbers; one-hot rows stay."""
    assert numbered(array(labels, "y"), "map").tolist() == mapped


def test_objects_become_what_they_hold() -> None:
    assert array(np.array([1, 2], dtype=object), "y").dtype.kind == "i"
    assert array(np.array(["a", "b"], dtype=object), "y").dtype.kind == "U"


def test_classes_are_counted_by_columns_or_by_the_highest_label() -> None:
    assert classes_of(np.eye(5)[[0, 1]], np.array([0, 1])) == 5
    assert classes_of(np.array([7]), np.array([7])) == 8
