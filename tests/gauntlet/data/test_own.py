"""Data of one's own: every form gives the same data set; parts, sizes, channels and names."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from gauntlet.data import own, pictures
from gauntlet.data.datasets import read_dataset
from gauntlet.data.splits import spread
from gauntlet.data.stated import Stated
from gauntlet.errors import GauntletError, SettingError
from tests.gauntlet.data import making as m
from tests.gauntlet.data.reading import quick, read, refused

pytestmark = pytest.mark.usefixtures("no_cache")

# Every form


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", m.FORMS)
def test_every_form_is_the_same_data(form: str, channels: int, tmp_path: Path) -> None:
    data = m.fruit(channels)
    expected = read(m.npz(tmp_path, data))
    (tmp_path / "made").mkdir()
    dataset = read(m.FORMS[form](tmp_path / "made", data))
    assert dataset.digest == expected.digest
    assert (dataset.name, dataset.bounds, dataset.n_classes) == ("fruit", (0.0, 1.0), 3)
    assert dataset.class_names in (m.NAMES, ("0", "1", "2"))
    np.testing.assert_array_equal(dataset.x_test, expected.x_test)


@pytest.mark.parametrize("form", ["folder of PNG", "zip of a folder", "parquet of the hub", "folder saved by datasets"])
def test_names_of_classes_come_along(form: str, tmp_path: Path) -> None:
    assert read(m.FORMS[form](tmp_path, m.fruit())).class_names == m.NAMES


def test_jpeg_gives_what_pillow_decodes(tmp_path: Path) -> None:
    data = m.fruit(side=16)
    files = m.pictures(data, "jpg")
    dataset = read(m.zipped(tmp_path / "fruit.zip", files))
    decoded = [np.asarray(Image.open(io.BytesIO(files[name]))) for name in sorted(files) if name.startswith("train")]
    np.testing.assert_array_equal(dataset.x_train, np.stack(decoded).astype(np.float32) / 255)
    assert dataset.source == "user images"


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
    dataset = read(m.written(tmp_path / "fruit", files))
    assert dataset.input_shape == (6, 6, 3)
    np.testing.assert_array_equal(dataset.x_train[0], np.asarray(colours.convert("RGB")).astype(np.float32) / 255)


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    image = m.encoded(m.fruit()["x_train"][0])
    files = {f"{part}/{label}/0.png": image for part in m.SIDES for label in (2, 10, 1)}
    assert read(m.written(tmp_path / "fruit", files)).class_names == ("1", "2", "10")


def test_svhns_ten_is_a_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    data = {"x_train": x, "y_train": np.arange(20) % 10 + 1, "x_test": x, "y_test": np.arange(20) % 10 + 1}
    dataset = read(m.svhn(tmp_path, data))
    assert dataset.class_names == tuple("0123456789")
    np.testing.assert_array_equal(dataset.y_test, (np.arange(20) % 10 + 1) % 10)
    assert "digit 0" in dataset.summary()["prepared"]


def test_the_page_has_a_row_for_every_form() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    table = page.split("\n## ")[0]
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
    dataset = read(path)
    assert (len(dataset.y_train), len(dataset.y_test)) == (48, 12)
    assert np.bincount(dataset.y_test).tolist() == [4, 4, 4]
    whole = np.concatenate([dataset.x_train, dataset.x_test])
    expected = data["x_train"].astype(np.float32) / 255
    assert sorted(map(bytes, whole)) == sorted(map(bytes, expected))
    assert "12 of 60 images split off by class as test images, seed 0" in dataset.prepared
    assert read(path, split_seed=1).digest != dataset.digest
    assert read(ALONE["npz"](tmp_path, data)).digest == dataset.digest


@pytest.mark.parametrize("form", ["folder of PNG", "csv, train and test", "parquet of the hub", "npz", "mat as SVHN"])
def test_a_limit_keeps_the_proportions_and_is_the_same_for_all(form: str, tmp_path: Path) -> None:
    data = m.fruit(n_train=60, n_test=30)
    dataset = read(m.FORMS[form](tmp_path, data), limit=15)
    assert (np.bincount(dataset.y_train).tolist(), np.bincount(dataset.y_test).tolist()) == ([5, 5, 5], [5, 5, 5])
    assert "15 of 60 train images" in dataset.prepared
    assert read(m.npz(tmp_path, data), limit=15).digest == dataset.digest


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
    dataset = read(m.folder(tmp_path, data), image_size="6x3")
    by_hand = [np.asarray(Image.fromarray(x).resize((3, 6), Image.Resampling.BILINEAR)) for x in data["x_test"]]
    np.testing.assert_array_equal(dataset.x_test, np.stack(by_hand).astype(np.float32) / 255)
    assert dataset.prepared == ("resized to 6 x 3 (bilinear, stretched)",)
    assert read(m.npz(tmp_path, data), image_size="6x3").digest == dataset.digest


def test_aspect_is_kept_by_cutting_the_middle_out(tmp_path: Path) -> None:
    data = m.fruit(side=8)
    wide = dict(data)
    for key in ("x_train", "x_test"):
        black = 0 * data[key][:, :, :4]
        wide[key] = np.concatenate([black, data[key], black], axis=2)
    dataset = read(m.npz(tmp_path, wide), image_size="8", keep_aspect=True)
    np.testing.assert_array_equal(dataset.x_train, data["x_train"].astype(np.float32) / 255)
    assert "the middle kept" in dataset.prepared[0]
    assert read(m.npz(tmp_path, wide), image_size="8").digest != dataset.digest


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_every_type_is_resized_alike(dtype: str, tmp_path: Path) -> None:
    data = m.fruit(side=8)
    white = {"uint16": 65_535, "float32": 1, "float64": 1}[dtype]
    scaled = data | {key: (data[key] / 255 * white).astype(dtype) for key in data if key[0] == "x"}
    dataset = read(m.npz(tmp_path, scaled), image_size="5", keep_aspect=True)
    np.testing.assert_allclose(dataset.x_test, read(m.npz(tmp_path, data), image_size="5").x_test, atol=1.01 / 255)


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
    dataset = read(m.npz(tmp_path, {"x_test": data["x_test"], "y_test": data["y_test"]}))
    assert (len(dataset.x_train), len(dataset.y_train), dataset.input_shape) == (0, 0, whole.input_shape)
    np.testing.assert_array_equal(dataset.x_test, whole.x_test)
    assert (dataset.n_classes, dataset.unseen, dataset.remark()) == (3, (), "")
    assert dataset.digest != whole.digest
    assert "test images alone" in dataset.prepared
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
    (path / "train/apple/0000.png").write_bytes(m.pictures(m.fruit())["train/pear/0009.png"] + b" ")
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
