"""Labels become numbers of classes by one rule, whatever they are spelt as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gauntlet.data.labels import numbered
from gauntlet.errors import DataError

FRUIT = ("plum", "apple", "pear")


@pytest.mark.parametrize(
    ("labels", "how", "mapped"),
    [
        ([3, 8, 3], "as-is", [3, 8, 3]),
        ([3, 8, 3], "map", [0, 1, 0]),
        ([[3], [8], [3]], "map", [0, 1, 0]),
        (["dog", "cat", "dog"], "as-is", [1, 0, 1]),
        (["dog", "cat", "dog"], "map", [1, 0, 1]),
        ([b"dog", b"cat", b"dog"], "as-is", [1, 0, 1]),
        (["10", "9", "10"], "as-is", [10, 9, 10]),
        (["10", "9", "10"], "map", [1, 0, 1]),
        ([[0, 1], [1, 0]], "map", [[0, 1], [1, 0]]),
    ],
)
def test_labels_are_numbered_in_the_order_of_their_values(labels: Any, how: Any, mapped: Any) -> None:
    """Numbers as text are in the order of the numbers; one-hot rows stay."""
    assert numbered({"": np.array(labels)}, "y", how).labels[""].tolist() == mapped


def test_names_that_are_known_decide() -> None:
    found = numbered({"train": np.array(["pear", "plum"]), "test": np.array(["apple"])}, "y", "map", FRUIT)
    assert {part: y.tolist() for part, y in found.labels.items()} == {"train": [2, 0], "test": [1]}
    assert (found.names, found.notes) == (FRUIT, ())
    with pytest.raises(DataError, match="'kiwi' is none of the 3 class names"):
        numbered({"": np.array(["kiwi"])}, "y", "as-is", FRUIT)


@pytest.mark.parametrize(
    ("names", "kept"), [(None, ("1", "2", "3")), (FRUIT, FRUIT), (("nothing", *FRUIT), ("1", "2", "3"))]
)
def test_renumbered_classes_keep_their_names(names: tuple[str, ...] | None, kept: tuple[str, ...]) -> None:
    """As long as there is one for each value."""
    found = numbered({"train": np.array([1, 2]), "test": np.array([3, 1])}, "y", "map", names)
    assert found.names == kept
    assert {part: y.tolist() for part, y in found.labels.items()} == {"train": [0, 1], "test": [2, 0]}


def test_the_order_of_names_is_told() -> None:
    (note,) = numbered({"": np.array(list("gabcdef"))}, "y", "as-is").notes
    assert note == "classes numbered in the order of their names: a, b, c, d, e, …"
