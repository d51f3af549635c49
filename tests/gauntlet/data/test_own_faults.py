"""Faulty and hostile data of one's own: each is refused in one line that names the file."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from gauntlet.data import pictures
from tests.gauntlet.data import making as m
from tests.gauntlet.data.reading import read, refused

pytestmark = pytest.mark.usefixtures("no_cache")

# Labels and layouts


def without(files: dict[str, bytes], start: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.startswith(start)}


GOOD = m.pictures(m.fruit())
PNG = GOOD["train/apple/0000.png"]
FAULTS: dict[str, tuple[dict[str, bytes], str, str]] = {
    "empty class": (GOOD | {"train/kiwi/.keep": b""}, "train/kiwi", "the class has no image"),
    "class without a training image": (
        GOOD | {"test/kiwi/0.png": PNG},
        "test/kiwi/0.png",
        "class kiwi has no training",
    ),
    "class without a test image": (without(GOOD, "test/plum"), "test", "no image of class plum"),
    "no image at all": ({"train/apple/notes.txt": b"x"}, "fruit", "holds no images; it holds .txt"),
    "nothing": ({}, "fruit", "holds nothing"),
    "one class": ({"train/apple/0.png": PNG, "test/apple/0.png": PNG}, "train", "only one class"),
    "unreadable": (GOOD | {"train/pear/0009.png": b"junk"}, "train/pear/0009.png", "cannot be read as an image"),
    "empty file": (GOOD | {"train/pear/0009.png": b""}, "train/pear/0009.png", "cannot be read as an image"),
    "cut off": (GOOD | {"train/pear/0009.png": PNG[:60]}, "train/pear/0009.png", "cannot be read as an image"),
    "another format": (GOOD | {"train/pear/a.webp": b"RIFF"}, "train/pear/a.webp", "only PNG and JPEG are read"),
    "a GIF by another name": (GOOD | {"train/pear/a.png": b"GIF89a"}, "train/pear/a.png", "cannot be read as an image"),
    "too deep": (GOOD | {"train/pear/more/0.png": PNG}, "train/pear/more/0.png", "lies elsewhere"),
    "beside the parts": (GOOD | {"pear/0.png": PNG}, "pear/0.png", "lies elsewhere"),
    "no class folder": ({"0.png": PNG, "1.png": PNG}, "0.png", "lies in no folder of a class"),
    "parts without classes": ({"train/0.png": PNG, "test/1.png": PNG}, "test/1.png", "lies in no folder of a class"),
    "one image a class": ({"apple/0.png": PNG, "pear/0.png": PNG}, "fruit", "at least two images"),
    "a class of a strange name": (
        {f"{part}/{label}/0.png": PNG for part in m.SIDES for label in ("a\nb", "c")},
        "train",
        "unprintable",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_faults_are_told_with_the_files_name(fault: str, packed: bool, tmp_path: Path) -> None:
    files, names, says = FAULTS[fault]
    (tmp_path / "fruit").mkdir()
    path = m.zipped(tmp_path / "fruit.zip", files) if packed else m.written(tmp_path / "fruit", files)
    if fault == "empty class" and packed:  # a zip has folders as members of their own
        with zipfile.ZipFile(path, "a") as archive:
            archive.mkdir("train/kiwi")
    if not (packed and fault == "a class of a strange name"):  # the zip is refused before
        refused(path, names, says)


def test_an_image_of_a_strange_mode(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((6, 6, 4), np.uint8), "CMYK").save(stream, "JPEG")
    path = m.written(tmp_path / "fruit", GOOD | {"train/pear/a.jpg": stream.getvalue()})
    refused(path, "train/pear/a.jpg: is an image of mode CMYK", "grey or RGB")


# Hostile images and archives


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares these sides, and little more."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    import zlib

    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]


@pytest.mark.parametrize("sides", [(100_000, 100_000), (5_000, 2), (2**31 - 1, 2**31 - 1)])
def test_images_that_declare_too_much(sides: tuple[int, int], tmp_path: Path) -> None:
    path = m.written(tmp_path / "fruit", GOOD | {"train/apple/0000.png": png_of(*sides)})
    refused(path, "train/apple/0000.png")


def test_bombs_of_images_are_refused_by_their_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SUSPICIOUS_BYTES", 10_000)
    flat = {key: np.zeros((len(x), 200, 200, 3), np.uint8) if key[0] == "x" else x for key, x in m.fruit().items()}
    refused(m.folder(tmp_path, flat), "a decompression bomb?")


def test_jpegs_of_many_scans_are_refused(tmp_path: Path) -> None:
    jpeg = m.encoded(m.fruit(side=16)["x_train"][0], "JPEG")
    path = m.written(tmp_path / "fruit", GOOD | {"train/apple/a.jpg": jpeg[:-2] + b"\xff\xda\0" * 99 + jpeg[-2:]})
    refused(path, "train/apple/a.jpg", "more than 64 scans")


@pytest.mark.parametrize(
    ("name", "says"),
    [("../train/apple/0.png", "unsafe name"), ("/train/apple/0.png", "unsafe name"), ("C:/apple/0.png", "unsafe name")],
)
def test_zips_that_leave_their_folder(name: str, says: str, tmp_path: Path) -> None:
    refused(m.zipped(tmp_path / "fruit.zip", GOOD | {name: PNG}), "fruit.zip", says)


def test_zips_with_links_and_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = m.zipped(tmp_path / "fruit.zip", GOOD)
    link = zipfile.ZipInfo("train/apple/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(path, "holds a link")
    bomb = m.zipped(tmp_path / "bomb.zip", GOOD | {"train/apple/big.png": bytes(65 * 2**20)}, zipfile.ZIP_DEFLATED)
    refused(bomb, "train/apple/big.png", "zip bomb")
    monkeypatch.setattr("gauntlet.data.files.MAX_FILES", 20)
    refused(m.zipped(tmp_path / "many.zip", GOOD), "at most 20 allowed")
    refused(m.written(tmp_path / "many", GOOD), "more than 20 files")


def test_folders_with_loops_pipes_and_devices(tmp_path: Path) -> None:
    import os

    path = m.written(tmp_path / "fruit", GOOD)
    expected = read(path).digest
    (path / "train" / "apple" / "again").symlink_to(path)
    (path / "train" / "apple" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(path / "train" / "pear" / "pipe.png")
    assert read(path).digest == expected


# Hostile and odd tables


def tables(place: Path, train: pa.Table) -> Path:
    (place / "fruit").mkdir()
    data = m.fruit()
    parquet.write_table(train, place / "fruit" / "train.parquet")
    parquet.write_table(m.hub_table(data["x_test"], data["y_test"]), place / "fruit" / "test.parquet")
    return place / "fruit"


def changed(**columns: Any) -> pa.Table:
    """The usual table with some columns changed, or left out where None."""
    data = m.fruit()
    table = m.hub_table(data["x_train"], data["y_train"], noted=False)
    for name, column in columns.items():
        place = table.schema.get_field_index(name)
        table = table.remove_column(place) if place >= 0 else table
        table = table if column is None else table.append_column(name, column)
    return table


PATHS = pa.array(
    [{"bytes": None, "path": "/etc/passwd"}] * 24, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
)
BAD_TABLES: dict[str, tuple[pa.Table, str]] = {
    "paths instead of images": (changed(image=PATHS), "its path, which is never followed"),
    "no images": (changed(image=None), "no column called image"),
    "no labels": (changed(label=None), "no column called label; it has image"),
    "lists for labels": (changed(label=pa.array([[1]] * 24)), "has labels of type list"),
    "labels missing": (changed(label=pa.array([0, None] * 12)), "12 rows without a label"),
    "unlabelled": (changed(label=pa.array([-1] * 24)), "out of range"),
    "an extension type": (changed(label=pa.array([b"0" * 16] * 24, pa.uuid())), "has labels of type extension"),
    "images of an extension type": (
        changed(image=pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "a", "b"), pa.array([PNG] * 24))),
        "no column called image",
    ),
    "no images in the bytes": (changed(image=pa.array([b"x"] * 24)), "train.parquet row 0: cannot be read as an image"),
    "no rows": (changed().slice(0, 0), "has no row"),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_bad_tables(fault: str, tmp_path: Path) -> None:
    table, says = BAD_TABLES[fault]
    refused(tables(tmp_path, table), "train.parquet", says)


@pytest.mark.parametrize("kind", ["image", "img", "picture"])
def test_images_are_found_by_the_type_of_their_column(kind: str, tmp_path: Path) -> None:
    data = m.fruit()
    plain = pa.array([m.encoded(x) for x in data["x_train"]])
    expected = read(m.npz(tmp_path, data)).digest
    assert read(tables(tmp_path, changed(**{"image": None, kind: plain}))).digest == expected


def arrow(place: Path, **options: Any) -> Path:
    data = m.fruit()
    table = m.hub_table(data["x_train"], data["y_train"])
    with (
        pa.OSFile(str(place / "fruit.arrow"), "wb") as stream,
        pa.ipc.new_stream(stream, table.schema, **options) as out,
    ):
        out.write_table(table)
    return place / "fruit.arrow"


def test_compressed_buffers_of_arrow_are_refused(tmp_path: Path) -> None:
    assert read(arrow(tmp_path)).n_classes == 3
    refused(arrow(tmp_path, options=pa.ipc.IpcWriteOptions(compression="zstd")), "fruit.arrow", "compressed buffers")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with an empty line, expected a label and up to"),
        ("label\n1\n", "expected a label"),
        ("a,b,c,d,e\n1,2,3,4,5\n", "no column called label; it has a, b, c, d, e"),
        ("label,p,p\n1,2,3\n", "two columns of one name"),
        ("label,p0,p1\n0,2,3\n1,2,3\n", "2 columns of pixels, neither a square"),
        ("label,p0\n0,1\n1,x\n", "cannot be read as a CSV file"),
        ("label,p0\n0,1\n1\n", "cannot be read as a CSV file"),
        ("label,p0\n" + "0,1\n1,\n" * 6, "NaN or infinite pixels"),
        ("label,p0\n", "has no row"),
        ("label,p0\n0.5,255\n1.5,255\n", "class"),
    ],
)
def test_bad_csv(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "fruit.csv").write_text(text)
    refused(tmp_path / "fruit.csv", "fruit.csv", says)


def test_a_folder_of_files_that_are_data_themselves(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = m.npz(tmp_path / "data", m.fruit())
    refused(tmp_path / "data", f"holds no images; it holds .npz (give {path} itself)")


def test_csv_leaves_counters_out(tmp_path: Path) -> None:
    data = m.fruit(1)
    path = m.csv_pair(tmp_path, data)
    for file in path.iterdir():
        lines = file.read_text().splitlines()
        numbered = [f"{i}," + line for i, line in enumerate(lines[1:])]
        file.write_text("\n".join(["id," + lines[0], *numbered]))
    assert read(path).digest == read(m.npz(tmp_path, data)).digest


def test_matlab_files_that_hold_no_numbers(tmp_path: Path) -> None:
    from scipy.io import savemat

    for content, says in (
        ({"a": np.zeros(3)}, "has no X and y, it has a"),
        ({"X": np.array([{"a": 1}], object), "y": np.arange(3)}, "X is of kind cell"),
        ({"X": {"a": 1}, "y": np.arange(3)}, "X is of kind struct"),
        ({"X": np.zeros((4, 4, 1, 5), np.uint8), "y": np.arange(3)}, "3 labels for"),
    ):
        savemat(tmp_path / "fruit.mat", content)
        refused(tmp_path / "fruit.mat", "fruit.mat", says)
    (tmp_path / "fruit.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    refused(tmp_path / "fruit.mat", "version 7.3")
    (tmp_path / "fruit.mat").write_bytes(b"junk")
    refused(tmp_path / "fruit.mat", "cannot be read as a MATLAB file")


def test_parts_need_names(tmp_path: Path) -> None:
    path = m.csv_pair(tmp_path, m.fruit())
    (path / "fruit_test.csv").rename(path / "more.csv")
    refused(path, "more.csv is neither called train nor test")


def test_several_tables_of_one_part(tmp_path: Path) -> None:
    path = m.csv_pair(tmp_path, m.fruit())
    (path / "fruit_test.csv").rename(path / "train2.csv")
    refused(path, "has 2 tables of one part")
