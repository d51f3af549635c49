"""Data sets in every form that is read, each made by the test: the same images and labels throughout."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

Arrays = Mapping[str, NDArray[Any]]
NAMES = ("apple", "pear", "plum")
SIDES = ("train", "test")
Make = Callable[[Path, Arrays], Path]


def fruit(channels: int = 3, side: int = 6, n_train: int = 24, n_test: int = 9) -> dict[str, NDArray[Any]]:
    """Noise in three classes, sorted by class as a folder is."""
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {}
    for part, n in (("train", n_train), ("test", n_test)):
        made[f"x_{part}"] = rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
        made[f"y_{part}"] = np.sort(np.arange(n) % 3)
    return made


def encoded(image: NDArray[Any], kind: str = "PNG") -> bytes:
    """One image as the bytes of a file."""
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image).save(stream, kind)
    return stream.getvalue()


def pictures(data: Arrays, kind: str = "png") -> dict[str, bytes]:
    """Files by their names from the top of a folder."""
    saved = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG"}[kind.lower()]
    return {
        f"{part}/{NAMES[label]}/{place:04}.{kind}": encoded(image, saved)
        for part in SIDES
        for place, (image, label) in enumerate(zip(data[f"x_{part}"], data[f"y_{part}"], strict=True))
    }


def written(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """A zip of files."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def folder(place: Path, data: Arrays) -> Path:
    return written(place / "fruit", pictures(data))


def capitals(place: Path, data: Arrays) -> Path:
    """As cameras and Macs leave them."""
    junk = {"__MACOSX/train/apple/._0000.PNG": b"?", ".DS_Store": b"?", "README.md": b"fruit"}
    return written(place / "fruit", {f"Fruit 1/{name}": it for name, it in (pictures(data, "PNG") | junk).items()})


def zip_of_folder(place: Path, data: Arrays) -> Path:
    return zipped(place / "fruit.zip", pictures(data))


def zip_with_a_top(place: Path, data: Arrays) -> Path:
    files = {f"fruit-main/{name}": content for name, content in pictures(data).items()}
    return zipped(place / "fruit.zip", files, zipfile.ZIP_DEFLATED)


def validation_for_test(place: Path, data: Arrays) -> Path:
    files = {name.replace("test/", "val/"): content for name, content in pictures(data).items()}
    return written(place / "fruit", files)


def linked_folder(place: Path, data: Arrays) -> Path:
    made = written(place / "elsewhere", pictures(data))
    (place / "fruit").symlink_to(made)
    return place / "fruit"


def _rows(x: NDArray[Any], y: NDArray[Any], label: Callable[[int], Any] = int) -> list[str]:
    return [",".join(map(str, (label(k), *image.ravel()))) for image, k in zip(x, y, strict=True)]


def csv_pair(place: Path, data: Arrays, label: Callable[[int], Any] = int) -> Path:
    header = ",".join(["label", *(f"pixel{i}" for i in range(data["x_train"][0].size))])
    for part in SIDES:
        lines = [header, *_rows(data[f"x_{part}"], data[f"y_{part}"], label)]
        written(place / "fruit", {f"fruit_{part}.csv": "\n".join(lines).encode()})
    return place / "fruit"


def csv_of_names(place: Path, data: Arrays) -> Path:
    return csv_pair(place, data, lambda k: NAMES[k])


def csv_without_header(place: Path, data: Arrays) -> Path:
    for part in SIDES:
        lines = _rows(data[f"x_{part}"], data[f"y_{part}"])
        written(place / "fruit", {f"{part}.csv": "\r\n".join(lines).encode()})
    return place / "fruit"


def zip_of_csv(place: Path, data: Arrays) -> Path:
    made = csv_pair(place, data)
    return zipped(place / "fruit.zip", {file.name: file.read_bytes() for file in sorted(made.iterdir())})


def hub_table(x: NDArray[Any], y: NDArray[Any], noted: bool = True) -> pa.Table:
    """A table as the Hugging Face hub stores image classification."""
    images = [{"bytes": encoded(image), "path": f"{i}.png"} for i, image in enumerate(x)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(y.tolist(), pa.int64())})
    features = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
    note = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return table.replace_schema_metadata(note) if noted else table


def hub(place: Path, data: Arrays) -> Path:
    """The files of a repository on the hub, the training set in two."""
    (place / "fruit" / "data").mkdir(parents=True)
    for part, pieces in (("train", 2), ("test", 1)):
        table = hub_table(data[f"x_{part}"], data[f"y_{part}"])
        each = -(-len(table) // pieces)
        for i in range(pieces):
            file = place / "fruit" / "data" / f"{part}-{i:05}-of-{pieces:05}.parquet"
            parquet.write_table(table.slice(i * each, each), file, row_group_size=5)
    return place / "fruit"


def saved_by_datasets(place: Path, data: Arrays) -> Path:
    """What `datasets.DatasetDict.save_to_disk` leaves."""
    for part in SIDES:
        table = hub_table(data[f"x_{part}"], data[f"y_{part}"])
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        files = {"data-00000-of-00001.arrow": stream.getvalue(), "state.json": b"{}", "dataset_info.json": b"{}"}
        written(place / "fruit" / part, files)
    return written(place / "fruit", {"dataset_dict.json": b'{"splits": ["train", "test"]}'})


def svhn(place: Path, data: Arrays) -> Path:
    """MATLAB files, the number of the image last."""
    from scipy.io import savemat

    (place / "fruit").mkdir()
    for part in SIDES:
        x, y = np.moveaxis(data[f"x_{part}"], 0, -1), data[f"y_{part}"][:, None].astype(np.uint8)
        savemat(place / "fruit" / f"{part}_32x32.mat", {"X": x, "y": y}, do_compression=True)
    return place / "fruit"


def npz(place: Path, arrays: Arrays) -> Path:
    np.savez(place / "fruit.npz", allow_pickle=True, **arrays)
    return place / "fruit.npz"


def plain(place: Path, data: Arrays) -> Path:
    return npz(place, data)


def medmnist(place: Path, data: Arrays) -> Path:
    made = {f"{part}_images": data[f"x_{part}"] for part in SIDES}
    made |= {f"{part}_labels": data[f"y_{part}"][:, None].astype(np.uint8) for part in SIDES}
    return npz(place, made | {"val_images": data["x_test"][:2], "val_labels": data["y_test"][:2, None]})


def upper_case(place: Path, data: Arrays) -> Path:
    return npz(place, {key.upper() if key[0] == "x" else key: array for key, array in data.items()})


def one_hot(place: Path, data: Arrays) -> Path:
    return npz(place, dict(data) | {key: np.eye(3)[data[key]] for key in ("y_train", "y_test")})


def sixteen_bits(place: Path, data: Arrays) -> Path:
    return npz(place, dict(data) | {key: data[key].astype(np.uint16) * 257 for key in ("x_train", "x_test")})


def opaque(place: Path, data: Arrays) -> Path:
    """With an alpha channel in which nothing is transparent."""
    made = dict(data)
    for key in ("x_train", "x_test"):
        made[key] = np.concatenate([data[key], np.full((*data[key].shape[:3], 1), 255, np.uint8)], axis=3)
    return npz(place, made)


def opaque_folder(place: Path, data: Arrays) -> Path:
    made = dict(data)
    for key in ("x_train", "x_test"):
        made[key] = np.concatenate([data[key], np.full((*data[key].shape[:3], 1), 255, np.uint8)], axis=3)
    return folder(place, made)


def channels_first(place: Path, data: Arrays) -> Path:
    return npz(place, data | {f"x_{part}": data[f"x_{part}"].transpose(0, 3, 1, 2) for part in SIDES})


def rows_of_pixels(place: Path, data: Arrays) -> Path:
    return npz(place, data | {f"x_{part}": data[f"x_{part}"].reshape(len(data[f"x_{part}"]), -1) for part in SIDES})


def texts(place: Path, data: Arrays) -> Path:
    return npz(place, data | {f"y_{part}": np.array(NAMES)[data[f"y_{part}"]] for part in SIDES})


FORMS: dict[str, Make] = {
    "folder of PNG": folder,
    "folder, other case, junk beside": capitals,
    "folder behind a link": linked_folder,
    "folder, val for test": validation_for_test,
    "folder of RGBA": opaque_folder,
    "zip of a folder": zip_of_folder,
    "zip with a folder on top": zip_with_a_top,
    "csv, train and test": csv_pair,
    "csv, names of classes": csv_of_names,
    "csv without header": csv_without_header,
    "zip of csv": zip_of_csv,
    "parquet of the hub": hub,
    "folder saved by datasets": saved_by_datasets,
    "mat as SVHN": svhn,
    "npz": plain,
    "npz as MedMNIST": medmnist,
    "npz, X and y": upper_case,
    "npz, one-hot": one_hot,
    "npz, names of classes": texts,
    "npz, channels first": channels_first,
    "npz, rows of pixels": rows_of_pixels,
    "npz, uint16": sixteen_bits,
    "npz, RGBA or grey alpha": opaque,
}
"""What `docs/data.md` promises, by the names of its table."""
