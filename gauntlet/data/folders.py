"""Folders of images: `train/<class>/*.png` and `test/<class>/…`, or the classes alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gauntlet.data.files import Files
from gauntlet.data.labels import ordered
from gauntlet.data.parts import Part, Parts, part_of
from gauntlet.data.pictures import Form
from gauntlet.errors import DataError
from gauntlet.limits import MAX_PICTURE_BYTES
from gauntlet.threat import Labels

PICTURES = (".png", ".jpg", ".jpeg")
OTHERS = (".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".heic", ".avif", ".jp2", ".svg")
"""Images that are not read; to leave them out without a word would change the data."""

EXPECTED = "expected train/CLASS/NAME.png and test/CLASS/NAME.png, or CLASS/NAME.png"


class _Placed(NamedTuple):
    """A picture, the folders above its part, the part it is of, and its class."""

    name: str
    top: tuple[str, ...]
    part: str
    label: str


@dataclass(frozen=True)
class _Pictures:
    """The images of one part, decoded when they are taken."""

    files: Files
    names: Sequence[str]

    def __call__(self, rows: Labels, form: Form) -> np.ndarray:
        read = self.files.read
        chosen = (self.names[row] for row in rows.tolist())
        return form.decoded(((read(name, MAX_PICTURE_BYTES), self.files.called(name)) for name in chosen), len(rows))


def pictures(files: Files) -> list[str]:
    """The names of the images; `DataError` for one of a format that is not read."""
    by_kind: dict[str, list[str]] = {}
    for name in files.names:
        by_kind.setdefault(os.path.splitext(name)[1].lower(), []).append(name)
    names = [name for kind in PICTURES for name in by_kind.get(kind, ())]
    for kind in OTHERS:
        if kind in by_kind:
            what = f"is a {kind}, only PNG and JPEG are read"
            raise DataError(what, where=files.called(by_kind[kind][0]), fix="convert it, or leave it out")
    return sorted(names)


def read_pictures(files: Files, names: Sequence[str]) -> Parts:
    """The parts of a folder of images; classes are its innermost folders.

    Raises DataError: an image in no class folder or in another depth than the first, an empty class, or classes that
    differ between the parts.
    """
    placed = [_placed(name, files) for name in names]
    _check_places(placed, files)
    parts = {part: [one for one in placed if one.part == part] for part in sorted({one.part for one in placed})}
    classes = _classes({part: {one.label for one in members} for part, members in parts.items()}, placed, files)
    number = {name: k for k, name in enumerate(classes)}
    splits = {}
    for part, members in parts.items():
        labels = np.array([number[one.label] for one in members], np.int64)
        take = _Pictures(files, [one.name for one in members])
        splits[part] = Part(files.called(part) if part else files.where, labels, take)
    return Parts(splits, "images", classes)


def _placed(name: str, files: Files) -> _Placed:
    *above, label = name.split("/")[:-1] or [""]
    if not label:
        raise DataError("lies in no folder of a class", where=files.called(name), fix=EXPECTED)
    part = part_of(above[-1]) if above else ""
    return _Placed(name, tuple(above[:-1] if part else above), part, label)


def _check_places(placed: Sequence[_Placed], files: Files) -> None:
    """All images lie alike, and no class is empty."""
    first = placed[0]
    if all(part_of(one.label) and not one.part for one in placed):
        raise DataError("lies in no folder of a class", where=files.called(first.name), fix=EXPECTED)
    for one in placed:
        if one.top != first.top or bool(one.part) != bool(first.part):
            what = f"lies elsewhere than {first.name} does"
            raise DataError(what, where=files.called(one.name), fix="put every image in the folder of its class")
    full = {one.name.rpartition("/")[0] for one in placed}
    depth = len(first.top) + 1 + bool(first.part)
    for folder in sorted(files.folders - full):
        above = folder.split("/")[:-1]
        sister = tuple(above[: len(first.top)]) == first.top and (not first.part or part_of(above[-1] if above else ""))
        if len(above) + 1 == depth and sister:
            raise DataError("the class has no image", where=files.called(folder), fix="fill the folder or remove it")


def _classes(by_part: dict[str, set[str]], placed: Sequence[_Placed], files: Files) -> tuple[str, ...]:
    """The names of the classes: in numeric order where all are whole numbers, else in that of the alphabet."""
    known = by_part.get("train", next(iter(by_part.values())))
    for part, labels in by_part.items():
        if part == "left out":
            continue
        if strange := sorted(labels - known):
            where = next(one.name for one in placed if (one.part, one.label) == (part, strange[0]))
            what = f"class {strange[0]} has no training image"
            raise DataError(what, where=files.called(where), fix="name the folders of both parts alike")
        if lacking := sorted(known - labels):
            what = f"has no image of class {lacking[0]}, which is trained on"
            raise DataError(what, where=files.called(part), fix="name the folders of both parts alike")
    return ordered(known)
