"""Training images that a file names to be left out: read for this data set only, and one line says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gauntlet.data.datasets import Dataset
from gauntlet.data.dropping import as_arrays, read_suspects
from gauntlet.errors import DataError

FAR = 10**6


def written(path: Path, small: Dataset, **arrays: Any) -> Path:
    np.savez(path / "suspects.npz", allow_pickle=False, **(as_arrays(small, {}) | arrays))
    return path / "suspects.npz"


def test_what_checks_suspect_is_left_out_once(small: Dataset, tmp_path: Path) -> None:
    arrays = as_arrays(small, {"patches": np.array([4, 9]), "labels": np.array([9, 2]), "clusters": np.zeros(0, int)})
    assert set(arrays) == {"patches", "labels", "dataset_digest"}
    dropped = read_suspects(written(tmp_path, small, **arrays), small)
    assert dropped.rows.tolist() == [2, 4, 9]
    x, y = dropped.kept(small)
    np.testing.assert_array_equal(x, np.delete(small.x_train, [2, 4, 9], axis=0))
    np.testing.assert_array_equal(y, np.delete(small.y_train, [2, 4, 9]))


def test_a_scan_that_suspected_nothing_drops_nothing(small: Dataset, tmp_path: Path) -> None:
    assert len(read_suspects(written(tmp_path, small), small).kept(small)[1]) == len(small.y_train)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"patches": np.array([0, FAR])}, f"names image {FAR} of 600"),
        ({"patches": np.array([-1, 5])}, "names image -1 of 600"),
        ({"patches": np.array([0.5])}, "holds float64 of shape"),
        ({"patches": np.array([[1], [2]])}, r"of shape \(2, 1\)"),
        ({"dataset_digest": np.zeros(32, np.uint8)}, "another data set"),
    ],
)
def test_what_cannot_be_meant_is_refused(arrays: dict[str, Any], says: str, small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_suspects(written(tmp_path, small, **arrays), small)
    assert "\n" not in str(caught.value)


def test_a_class_is_not_lost(small: Dataset, tmp_path: Path) -> None:
    file = written(tmp_path, small, patches=np.flatnonzero(small.y_train == 3))
    with pytest.raises(DataError, match="every training image of class 3"):
        read_suspects(file, small)


def test_what_is_no_file_of_suspects_is_refused(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_suspects(tmp_path / "absent.npz", small)
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    with pytest.raises(DataError, match=r"text\.npz"):
        read_suspects(text, small)
    np.savez(tmp_path / "other.npz", allow_pickle=False, x_train=np.zeros(3))
    with pytest.raises(DataError, match="has no dataset_digest"):
        read_suspects(tmp_path / "other.npz", small)
