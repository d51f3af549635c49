"""The parts of the user's own data set, before its images are read: training and test images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data.pictures import Form
from gauntlet.errors import DataError

Rows = NDArray[np.int64]
_WORDS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "validation": ("val", "valid", "validation", "dev"),
    "left out": ("extra", "unsupervised", "unlabeled", "unlabelled"),
}


@dataclass(frozen=True)
class Part:
    """Labels (n,) or one-hot (n, k), numbers or text; and `take`, which reads the images of sorted rows."""

    where: str
    """What to call the labels in an error."""
    labels: NDArray[Any]
    take: Callable[[Rows, Form], NDArray[Any]]
    called: str = ""
    """What to call the images, where that is something else."""
    notes: tuple[str, ...] = ()
    """What was done to the images already."""

    @property
    def images(self) -> str:
        """What to call the images in an error."""
        return self.called or self.where


@dataclass(frozen=True)
class Parts:
    """Parts by name (`train`, `test`, or one without a name), what they came in, and the classes' names if it says."""

    parts: Mapping[str, Part]
    kind: str
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def settled(self, where: str) -> Parts:
        """`train` and `test`, `test` alone, or one part to be split; validation images test where nothing else does."""
        parts = {name: part for name, part in self.parts.items() if name != "left out"}
        notes = self.notes
        if "validation" in parts:
            validation = parts.pop("validation")
            if "test" not in parts:
                parts["test"], notes = validation, (*notes, "tested on the validation images")
            else:
                notes = (*notes, "validation images left out")
        if set(parts) == {"train"}:
            parts = {"": parts["train"]}
        if set(parts) not in ({""}, {"test"}, {"train", "test"}):
            what = f"has {', '.join(name or 'a part without a name' for name in parts) or 'no part'}"
            raise DataError(what, where=where, fix="call the parts train and test")
        return replace(self, parts={name: parts[name] for name in sorted(parts, reverse=True)}, notes=notes)


def part_of(name: str) -> str:
    """The part that a file's or folder's name speaks of, or nothing: `train-00000-of-00001.parquet` is `train`."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((part for part, known in _WORDS.items() if any(word in words for word in known)), "")


def grouped(names: Sequence[str], where: str) -> dict[str, list[str]]:
    """Files by the part that they, or else the folders above them, are named after; one without a name stands alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        part = next(filter(None, (part_of(piece) for piece in reversed(name.split("/")))), "")
        groups.setdefault(part, []).append(name)
    if "" in groups and len(names) > 1:
        what = f"{groups[''][0]} is neither called train nor test"
        raise DataError(what, where=where, fix="name the files train… and test…, or give one of them")
    return groups


def of_arrays(x: NDArray[Any], y: NDArray[Any], images: str, labels: str) -> Part:
    """Images and their labels, called `images` and `labels`, as a part; the images as `as_images` takes them.

    Raises DataError: their numbers differ, or there is but one label.
    """
    x, notes = as_images(x)
    if not y.ndim:
        raise DataError(f"has shape {y.shape}", where=labels, fix="give one label per image")
    if x.ndim > 1 and len(x) != len(y):
        raise DataError(f"{len(y)} labels for {len(x)} images", where=labels, fix="give one label per image")

    def take(rows: Rows, form: Form) -> NDArray[Any]:
        chosen = x[rows] if x.ndim and len(rows) < len(x) else x
        return form.arrays(chosen, images)

    return Part(labels, y, take, images, notes)


def as_images(x: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Images (n, h, w) or (n, h, w, c) as they are, and a note on what else was made into them.

    Rows (n, p) of pixels become squares, grey or of red, green and blue in turn; channels first (n, c, h, w) go last.
    Anything else is left for `arrays.images` to refuse.
    """
    if x.ndim == 4 and x.shape[3] not in (1, 2, 3, 4) and x.shape[1] in (1, 3):
        return np.moveaxis(x, 1, -1), ("channels first put last",)
    side = square(x.shape[1]) if x.ndim == 2 else None
    if side is None:
        return x, ()
    images = x.reshape(len(x), side, side, -1)
    return images, (f"rows of {x.shape[1]:,} values read as {side} x {side} x {images.shape[3]}",)


def square(pixels: int) -> int | None:
    """The side of a square of so many grey pixels, or else coloured ones; None where there is none."""
    for channels in (1, 3):
        side = round((pixels / channels) ** 0.5)
        if side * side * channels == pixels:
            return side
    return None
