"""What is white, and which labels are classes: told by the values, asked for where they do not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gauntlet.data.datasets import Dataset, Stated, read_dataset
from gauntlet.errors import DataError


def saved(folder: Path, images: np.ndarray, labels: Any = None) -> str:
    """A file of these images (N, H, W), which are its training and its test images."""
    y = np.arange(len(images)) % 2 if labels is None else labels
    np.savez(folder / "own.npz", x_train=images, y_train=y, x_test=images, y_test=y)
    return str(folder / "own.npz")


def ramp(most: float, dtype: str) -> np.ndarray:
    """Twelve images whose pixels go from 0 to `most`."""
    return np.linspace(0, most, 12 * 16).reshape(12, 4, 4).round(3 if dtype.startswith("f") else 0).astype(dtype)


WHITE = [("uint8", 255, 255), ("uint8", 130, 255), ("uint16", 65_535, 65_535), ("float32", 1, 1), ("bool", 1, 1)]


@pytest.mark.parametrize(("dtype", "most", "white"), WHITE)
def test_white_is_told_by_the_values(dtype: str, most: float, white: float, tmp_path: Path) -> None:
    x = read_dataset(saved(tmp_path, ramp(most, dtype))).x_train
    assert x.dtype == np.float32
    assert x.max() == pytest.approx(most / white)


ASKED = [
    ("uint8", 1, "up to 1, far below the 255 of uint8", "--pixel-max 1 or --pixel-max 255"),
    ("uint8", 16, "up to 16, far below the 255 of uint8", "--pixel-max 16 or --pixel-max 255"),
    ("uint16", 255, "far below the 65535 of uint16", "--pixel-max 255 or --pixel-max 65535"),
    ("int64", 255, "of dtype int64", "--pixel-max 255"),
    ("int32", 13, "of dtype int32", "--pixel-max 13 or --pixel-max 16"),
    ("float64", 255, "from 0 to 255, outside [0, 1]", "--pixel-max 255"),
    ("float32", 0.0039, "up to 0.004 only", "--pixel-max 1 or"),
]


@pytest.mark.parametrize(("dtype", "most", "seen", "fix"), ASKED)
def test_white_that_the_values_do_not_tell_is_asked_for(
    dtype: str, most: float, seen: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(saved(tmp_path, ramp(most, dtype)))
    assert seen in str(caught.value)
    assert fix in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("dtype", "most", "white"), [("uint8", 1, 1), ("uint8", 16, 16), ("float32", 200, 255)])
def test_white_can_be_stated(dtype: str, most: float, white: float, tmp_path: Path) -> None:
    x = read_dataset(saved(tmp_path, ramp(most, dtype)), stated=Stated(pixel_max=white)).x_train
    assert x.max() == pytest.approx(most / white)
    with pytest.raises(DataError, match="outside"):
        read_dataset(saved(tmp_path, ramp(most, dtype)), stated=Stated(pixel_max=white / 2))


def test_the_same_digits_at_any_scale_are_the_same_data(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 17, (12, 4, 4))
    made: list[Dataset] = []
    for images, white in ((counts.astype(np.uint8), 16.0), ((counts / 16).astype(np.float32), None)):
        made.append(read_dataset(saved(tmp_path, images), stated=Stated(pixel_max=white)))
    assert made[0].digest == made[1].digest


@pytest.mark.parametrize(
    ("labels", "unseen", "said"),
    [
        (np.arange(12) % 3 + 1, (0,), "do labels start at 1?"),
        (np.where(np.arange(12) % 2, 8, 3), (0, 1, 2, 4, 5, 6, 7), ""),
    ],
)
def test_missing_classes_are_remarked_and_mapped_when_asked(
    labels: np.ndarray, unseen: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    file = saved(tmp_path, ramp(255, "uint8"), labels)
    dataset = read_dataset(file)
    assert dataset.unseen == unseen
    assert said in dataset.remark()
    mapped = read_dataset(file, stated=Stated(labels="map"))
    assert (mapped.remark(), mapped.n_classes) == ("", len(set(labels.tolist())))
    assert mapped.class_names == tuple(str(value) for value in sorted(set(labels.tolist())))
    np.testing.assert_array_equal(np.array(mapped.class_names, int)[mapped.y_train], labels)
