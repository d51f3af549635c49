"""The names that arrays of images and labels go by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

QUADS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
    ("train_x", "train_y", "test_x", "test_y"),
    ("train_data", "train_labels", "test_data", "test_labels"),
    ("images_train", "labels_train", "images_test", "labels_test"),
)
PAIRS = (
    ("x", "y"),
    ("images", "labels"),
    ("image", "label"),
    ("x", "labels"),
    ("data", "labels"),
    ("data", "target"),
    ("data", "y"),
)


def spelt(names: Iterable[str], known: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The names themselves of the first known spelling that is there, whatever their case; None without any."""
    there = {name.lower(): name for name in names}
    return next((tuple(there[name] for name in each) for each in known if all(name in there for name in each)), None)
