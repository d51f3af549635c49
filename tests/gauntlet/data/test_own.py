"""Data of one's own: every form gives the same data set, and every fault one line that names the file."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from gauntlet.data import datasets, own, pictures
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.data.splits import spread
from gauntlet.data.stated import Stated
from gauntlet.errors import GauntletError, SettingError
from tests.gauntlet.data import making as m

quick = settings(max_examples=40, deadline=None, database=None)


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    yield
    datasets._load.cache_clear()


def read(path: Path, **stated: Any) -> Dataset:
    return read_dataset(str(path), stated=Stated(**stated))


def refused(path: Path, *words: str, **stated: Any) -> str:
    """Read, expect one printable line with these words."""
    with pytest.raises(GauntletError) as caught:
        read(path, **stated)
    message = str(caught.value)
    assert message.isprintable()
    assert [word for word in words if word not in message] == []
    return message


# Every form


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", m.FORMS)
def test_every_form_is_the_same_data(form: str, channels: int, tmp_path: Path) -> None:
    data = m.fruit(channels)
    expected = read(m.npz(tmp_path, data))
    (tmp_path / "made").mkdir()
    found = read(m.FORMS[form](tmp_path / "made", data))
    assert found.digest == expected.digest
    assert (found.name, found.bounds, found.n_classes) == ("fruit", (0.0, 1.0), 3)
    assert found.class_names in (m.NAMES, ("0", "1", "2"))
    np.testing.assert_array_equal(found.x_test, expected.x_test)


@pytest.mark.parametrize("form", ["folder of PNG", "zip of a folder", "parquet of the hub", "folder saved by datasets"])
def test_names_of_classes_come_along(form: str, tmp_path: Path) -> None:
    assert read(m.FORMS[form](tmp_path, m.fruit())).class_names == m.NAMES


def test_jpeg_gives_what_pillow_decodes(tmp_path: Path) -> None:
    data = m.fruit(side=16)
    files = m.pictures(data, "jpg")
    found = read(m.zipped(tmp_path / "fruit.zip", files))
    decoded = [np.asarray(Image.open(io.BytesIO(files[name]))) for name in sorted(files) if name.startswith("train")]
    np.testing.assert_array_equal(found.x_train, np.stack(decoded).astype(np.float32) / 255)
    assert found.source == "user images"


def test_sixteen_bit_pictures(tmp_path: Path) -> None:
    data = m.fruit(1)
    wide = data | {key: data[key].astype(np.uint16) * 257 for key in ("x_train", "x_test")}
    assert read(m.folder(tmp_path, wide)).digest == read(m.npz(tmp_path, data)).digest


def test_palettes_and_bits_are_resolved(tmp_path: Path) -> None:
    colours = Image.fromarray(m.fruit()["x_train"][0]).quantize(8)
    files = {}
    for part, label in ((part, label) for part in m.SIDES for label in m.NAMES[:2]):
        stream = io.BytesIO()
        colours.save(stream, "PNG")
        files[f"{part}/{label}/0.png"] = stream.getvalue()
    found = read(m.written(tmp_path / "fruit", files))
    assert found.input_shape == (6, 6, 3)
    np.testing.assert_array_equal(found.x_train[0], np.asarray(colours.convert("RGB")).astype(np.float32) / 255)


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    image = m.encoded(m.fruit()["x_train"][0])
    files = {f"{part}/{label}/0.png": image for part in m.SIDES for label in (2, 10, 1)}
    assert read(m.written(tmp_path / "fruit", files)).class_names == ("1", "2", "10")


def test_svhns_ten_is_a_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    data = {"x_train": x, "y_train": np.arange(20) % 10 + 1, "x_test": x, "y_test": np.arange(20) % 10 + 1}
    found = read(m.svhn(tmp_path, data))
    assert found.class_names == tuple("0123456789")
    np.testing.assert_array_equal(found.y_test, (np.arange(20) % 10 + 1) % 10)
    assert "digit 0" in found.summary()["prepared"]


def test_the_page_has_a_row_for_every_form() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    table = page.split("## What is done")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[2:] == list(m.FORMS)


TEXTS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "large text, as pandas writes it": pa.large_string(),
    "categories": pa.dictionary(pa.int8(), pa.large_string()),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_labels_of_a_table_may_be_of_any_kind(kind: str, tmp_path: Path) -> None:
    data = m.fruit(n_train=30)
    table = m.hub_table(data["x_train"], data["y_train"], noted=False)
    names = pa.array([m.NAMES[k] for k in data["y_train"]], TEXTS[kind])
    parquet.write_table(table.set_column(1, "label", names), tmp_path / "fruit.parquet")
    assert sorted(set(read(tmp_path / "fruit.parquet").class_names)) == sorted(m.NAMES)


def test_labels_of_two_classes_may_be_true_and_false(tmp_path: Path) -> None:
    data = m.fruit(n_train=30)
    truth = {part: data[f"y_{part}"] > 0 for part in ("train", "test")}
    arrays = data | {f"y_{part}": values for part, values in truth.items()}
    found = read(m.npz(tmp_path, arrays))
    np.testing.assert_array_equal(found.y_train, truth["train"].astype(int))
    table = m.hub_table(data["x_train"], data["y_train"], noted=False)
    parquet.write_table(table.set_column(1, "label", pa.array(truth["train"].tolist())), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").n_classes == 2


# Parts: split by class where there are no test images, and limited


ALONE: dict[str, Callable[[Path, m.Arrays], Path]] = {
    "folder": lambda place, data: m.written(
        place / "fruit", {name[6:]: it for name, it in m.pictures(data).items() if name.startswith("train")}
    ),
    "npz": lambda place, data: m.npz(place, {"images": data["x_train"], "labels": data["y_train"]}),
    "csv": lambda place, data: (m.csv_pair(place, data) / "fruit_train.csv").rename(place / "fruit.csv"),
    "parquet": lambda place, data: (
        parquet.write_table(m.hub_table(data["x_train"], data["y_train"]), place / "fruit.parquet")
        or place / "fruit.parquet"
    ),
}


@pytest.mark.parametrize("form", ALONE)
def test_one_part_is_split_by_class_and_seed(form: str, tmp_path: Path) -> None:
    data = m.fruit(n_train=60)
    path = ALONE[form](tmp_path, data)
    found = read(path)
    assert (len(found.y_train), len(found.y_test)) == (48, 12)
    assert np.bincount(found.y_test).tolist() == [4, 4, 4]
    whole = np.concatenate([found.x_train, found.x_test])
    expected = data["x_train"].astype(np.float32) / 255
    assert sorted(map(bytes, whole)) == sorted(map(bytes, expected))
    assert "12 of 60 images split off by class as test images, seed 0" in found.prepared
    assert read(path, split_seed=1).digest != found.digest
    assert read(ALONE["npz"](tmp_path, data)).digest == found.digest


@pytest.mark.parametrize("form", ["folder of PNG", "csv, train and test", "parquet of the hub", "npz", "mat as SVHN"])
def test_a_limit_keeps_the_proportions_and_is_the_same_for_all(form: str, tmp_path: Path) -> None:
    data = m.fruit(n_train=60, n_test=30)
    found = read(m.FORMS[form](tmp_path, data), limit=15)
    assert (np.bincount(found.y_train).tolist(), np.bincount(found.y_test).tolist()) == ([5, 5, 5], [5, 5, 5])
    assert "15 of 60 train images" in found.prepared
    assert read(m.npz(tmp_path, data), limit=15).digest == found.digest


def test_limited_images_are_not_even_decoded(tmp_path: Path) -> None:
    files = m.pictures(m.fruit(n_train=60))
    kept = read(m.written(tmp_path / "fruit", files), limit=6)
    spoilt = {name: b"no image" if name.startswith("train/") else it for name, it in files.items()}
    order = spread(np.sort(np.arange(60) % 3), 6, 0)
    names = sorted(name for name in files if name.startswith("train/"))
    spoilt |= {names[row]: files[names[row]] for row in order}
    assert read(m.written(tmp_path / "fruit", spoilt), limit=6).digest == kept.digest


def test_spread_is_nested_and_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    few, many = spread(labels, 100, 0), spread(labels, 300, 0)
    assert set(few) < set(many)
    assert np.abs(np.bincount(labels[few]) - [60, 30, 10]).max() <= 1
    assert set(spread(labels, 100, 1)) != set(few)
    np.testing.assert_array_equal(spread(labels, 5_000, 0), np.arange(1_000))


# Sizes, channels, transparency


def test_other_sizes_are_resized_as_pillow_does(tmp_path: Path) -> None:
    data = m.fruit(side=9)
    found = read(m.folder(tmp_path, data), image_size="6x3")
    by_hand = [np.asarray(Image.fromarray(x).resize((3, 6), Image.Resampling.BILINEAR)) for x in data["x_test"]]
    np.testing.assert_array_equal(found.x_test, np.stack(by_hand).astype(np.float32) / 255)
    assert found.prepared == ("resized to 6 x 3 (bilinear, stretched)",)
    assert read(m.npz(tmp_path, data), image_size="6x3").digest == found.digest


def test_aspect_is_kept_by_cutting_the_middle_out(tmp_path: Path) -> None:
    data = m.fruit(side=8)
    wide = dict(data)
    for key in ("x_train", "x_test"):
        black = 0 * data[key][:, :, :4]
        wide[key] = np.concatenate([black, data[key], black], axis=2)
    found = read(m.npz(tmp_path, wide), image_size="8", keep_aspect=True)
    np.testing.assert_array_equal(found.x_train, data["x_train"].astype(np.float32) / 255)
    assert "the middle kept" in found.prepared[0]
    assert read(m.npz(tmp_path, wide), image_size="8").digest != found.digest


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_every_type_is_resized_alike(dtype: str, tmp_path: Path) -> None:
    data = m.fruit(side=8)
    white = {"uint16": 65_535, "float32": 1, "float64": 1}[dtype]
    scaled = data | {key: (data[key] / 255 * white).astype(dtype) for key in data if key[0] == "x"}
    found = read(m.npz(tmp_path, scaled), image_size="5", keep_aspect=True)
    np.testing.assert_allclose(found.x_test, read(m.npz(tmp_path, data), image_size="5").x_test, atol=1.01 / 255)


def test_images_of_several_sizes_need_one(tmp_path: Path) -> None:
    files = m.pictures(m.fruit())
    files["train/plum/0017.png"] = m.encoded(m.fruit(side=7)["x_train"][0])
    path = m.written(tmp_path / "fruit", files)
    refused(path, "train/plum/0017.png: has 7 x 7 pixels", "apple/0000.png has 6 x 6", "--image-size")
    assert read(path, image_size="6").input_shape == (6, 6, 3)


def test_one_image_of_another_mode_is_named(tmp_path: Path) -> None:
    files = m.pictures(m.fruit())
    files["test/pear/0004.png"] = m.encoded(m.fruit(1)["x_train"][0])
    path = m.written(tmp_path / "fruit", files)
    refused(path, "test/pear/0004.png: is grey", "is coloured", "--channels grey or --channels rgb")
    assert read(path, channels="rgb").input_shape == (6, 6, 3)
    grey = read(path, channels="grey")
    assert grey.input_shape == (6, 6, 1)
    luma = np.asarray(Image.fromarray(m.fruit()["x_train"][0]).convert("L")) / 255
    np.testing.assert_allclose(grey.x_train[0, ..., 0], luma, atol=1.01 / 255)


@pytest.mark.parametrize("make", [m.npz, m.folder])
@pytest.mark.parametrize("colours", [1, 3])
def test_what_is_behind_transparent_pixels_is_asked(make: m.Make, colours: int, tmp_path: Path) -> None:
    data = m.fruit(colours)
    alpha = {key: np.full((*data[key].shape[:3], 1), 51, np.uint8) for key in data if key[0] == "x"}
    clear = data | {key: np.concatenate([data[key], alpha[key]], axis=3) for key in alpha}
    path = make(tmp_path, clear)
    refused(path, "transparent", "--background white or --background black")
    white = read(path, background="white", pixel_max=255)
    np.testing.assert_allclose(white.x_train, data["x_train"] / 255 * 0.2 + 0.8, atol=0.51 / 255)
    assert "transparent pixels over white" in white.prepared
    assert read(path, background="black", pixel_max=255).x_train.max() <= 0.2 + 1 / 255


def test_test_images_alone_are_data_without_training_images(tmp_path: Path) -> None:
    data, whole = m.fruit(), read(m.npz(tmp_path, m.fruit()))
    found = read(m.npz(tmp_path, {"x_test": data["x_test"], "y_test": data["y_test"]}))
    assert (len(found.x_train), len(found.y_train), found.input_shape) == (0, 0, whole.input_shape)
    np.testing.assert_array_equal(found.x_test, whole.x_test)
    assert (found.n_classes, found.unseen, found.remark()) == (3, (), "")
    assert found.digest != whole.digest
    assert "test images alone" in found.prepared
    tests = {name: it for name, it in m.pictures(data).items() if name.startswith("test")}
    folder = m.written(tmp_path / "fruit", tests)
    assert len(read(folder).x_train) == 0


def test_classes_without_an_image_are_stated(tmp_path: Path) -> None:
    path = m.npz(tmp_path, m.fruit())
    assert read(path, classes=5).class_names == ("0", "1", "2", "3", "4")
    named = read(m.texts(tmp_path, m.fruit()), classes=4)
    assert named.class_names == (*m.NAMES, "3")
    refused(path, "out of range", classes=2)


def test_labels_of_text_must_be_names(tmp_path: Path) -> None:
    data = m.fruit()
    wrong = {f"y_{part}": np.where(data[f"y_{part}"] == 0, "a\x1b[2J", "b") for part in m.SIDES}
    refused(m.npz(tmp_path, data | wrong), "unprintable")


@pytest.mark.parametrize("text", ["0", "5000", "8x0"])
def test_sizes_have_bounds(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--image-size"):
        read(m.npz(tmp_path, m.fruit()), image_size=text)


@pytest.mark.parametrize(
    ("stated", "n", "shape", "classes"),
    [
        ({"image_size": "8"}, 1437, (8, 8, 1), 10),
        ({"limit": 20}, 20, (28, 28, 1), 10),
        ({"channels": "rgb"}, 1437, (28, 28, 3), 10),
        ({"classes": 12}, 1437, (28, 28, 1), 12),
    ],
    ids=str,
)
def test_built_in_data_can_be_prepared_and_is_not_official_then(
    stated: dict[str, Any], n: int, shape: tuple[int, ...], classes: int
) -> None:
    made, official = read_dataset("digits", stated=Stated(**stated)), read_dataset("digits")
    assert (made.name, len(made.x_train), made.input_shape, made.n_classes) == ("digits", n, shape, classes)
    assert official.official
    assert not made.official
    assert made.digest != official.digest or "classes" in stated
    assert bool(made.prepared) == ("classes" not in stated)


def test_images_are_held_as_bytes_until_they_are_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[np.dtype[Any]] = []
    room = pictures.Form._room
    monkeypatch.setattr(
        pictures.Form, "_room", lambda self, n, image: (made := room(self, n, image), held.append(made.dtype))[0]
    )
    read(m.folder(tmp_path, m.fruit()))
    assert held == [np.uint8, np.uint8]


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
        ("", "expected a label and up to"),
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


# Names, and the cache


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/fruit.zip", "fruit"), ("a/fruit.v2.csv", "fruit.v2"), ("a/fruit.parquet", "fruit"), ("fruit.d", "fruit.d")],
)
def test_titles(name: str, expected: str) -> None:
    assert own.title(name) == expected


def test_a_folder_is_called_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fruit.2.npz").mkdir()
    monkeypatch.chdir(m.folder(tmp_path, m.fruit()))
    assert read(Path(".")).name == "fruit"
    refused(tmp_path / "fruit.2.npz", "not a file")


def test_a_changed_image_is_seen(tmp_path: Path) -> None:
    path = m.folder(tmp_path, m.fruit())
    first = read(path)
    assert read(path) is first
    (path / "train/apple/0000.png").write_bytes(GOOD["train/pear/0009.png"] + b" ")
    assert read(path).digest != first.digest


# Anything at all

damage = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)
FRAGILE = ("zip of a folder", "parquet of the hub", "folder saved by datasets", "mat as SVHN", "csv, train and test")


@pytest.mark.parametrize("form", FRAGILE)
@quick
@given(changes=damage, cut=st.floats(0.5, 1))
def test_damaged_files(
    form: str, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]], cut: float
) -> None:
    path = m.FORMS[form](tmp_path_factory.mktemp("damaged"), m.fruit())
    files = sorted(file for file in path.rglob("*train*") if file.is_file()) if path.is_dir() else [path]
    files = files or sorted(path.rglob("train/*.arrow"))
    content = bytearray(files[0].read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    files[0].write_bytes(content if cut > 0.7 else content[: int(cut * len(content))])
    message = "read"
    try:
        read(path)
    except GauntletError as error:
        message = str(error)
    assert message.isprintable()


def test_summary_is_plain(tmp_path: Path) -> None:
    summary = json.loads(json.dumps(read(m.npz(tmp_path, m.fruit()), image_size="4").summary()))
    assert summary["prepared"] == "resized to 4 x 4 (bilinear, stretched)"
