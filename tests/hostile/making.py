"""How the corpus makes its files: well-formed ones, and the ways in which they are spoilt."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CANARY = "canary"
"""The file that a payload makes when it is run."""
STEMS = {"x_train": "train-images-idx3", "y_train": "train-labels-idx1"}
STEMS |= {"x_test": "t10k-images-idx3", "y_test": "t10k-labels-idx1"}


def arrays(side: int = 8, n: int = 40) -> dict[str, Any]:
    """Well-formed images of four classes."""
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for split, count in (("train", n), ("test", n // 2)):
        made[f"x_{split}"] = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        made[f"y_{split}"] = (np.arange(count) % 4).astype(np.uint8)
    return made


def npz(folder: Path, name: str = "own.npz", **changes: Any) -> Path:
    """A data set with some arrays changed, or left out where None."""
    np.savez(folder / name, **{key: value for key, value in (arrays() | changes).items() if value is not None})
    return folder / name


def npy(header: str | dict[str, Any], body: bytes = b"", length: int | None = None) -> bytes:
    """One array's file with a header of one's own; `length` is what it claims of the header."""
    text = header if isinstance(header, str) else repr(header)
    line = text.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", (len(line) if length is None else length) & 0xFFFF) + line + body


def raw_npz(folder: Path, member: bytes, key: str = "x_train") -> Path:
    """A data set of which one member is given as bytes."""
    path, spoilt = npz(folder, "whole.npz"), folder / "own.npz"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(spoilt, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, member if name == f"{key}.npy" else whole.read(name))
    path.unlink()
    return spoilt


def shape_header(*shape: int, dtype: str = "|u1") -> dict[str, Any]:
    """The header of an array of this shape."""
    return {"descr": dtype, "fortran_order": False, "shape": shape}


class Payload:
    """What a pickle runs when it is read: it makes the canary."""

    def __init__(self, folder: Path) -> None:
        """The canary is to lie in `folder`."""
        self.path = folder / CANARY

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Make the canary."""
        return Path.touch, (self.path,)


def pickled(folder: Path) -> bytes:
    """A pickle that makes the canary."""
    return pickle.dumps(Payload(folder))


def idx(array: np.ndarray, magic: int | None = None, shape: tuple[int, ...] | None = None) -> bytes:
    """An IDX file, its header perhaps a lie."""
    dims = array.shape if shape is None else shape
    return struct.pack(f">I{len(dims)}I", 0x800 | array.ndim if magic is None else magic, *dims) + array.tobytes()


def idx_bytes() -> dict[str, bytes]:
    """Four small IDX files, well-formed though none of MNIST's."""
    return {f"{STEMS[key]}-ubyte": idx(array) for key, array in arrays(side=28).items()}


def idx_folder(folder: Path, **changes: bytes | None) -> Path:
    """A folder of them: by `x_train` and the like, with some given as bytes or left out."""
    folder = folder / "mnist"
    folder.mkdir()
    changed = {f"{STEMS[key]}-ubyte": data for key, data in changes.items()}
    for name, data in (idx_bytes() | changed).items():
        if data is not None:
            (folder / name).write_bytes(data)
    return folder


def idx_zip(folder: Path, *more: tuple[str, bytes], change: Callable[[zipfile.ZipFile], None] | None = None) -> Path:
    """Kaggle's archive of them, with more members, or with something done to it."""
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*idx_bytes().items(), *more]:
            archive.writestr(name, data)
        if change:
            change(archive)
    return path


def without(name: str) -> list[tuple[str, bytes]]:
    """The members of Kaggle's archive but one."""
    return [(member, data) for member, data in idx_bytes().items() if member != name]


def zipped(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def link(archive: zipfile.ZipFile) -> None:
    """Add a symbolic link to the archive."""
    info = zipfile.ZipInfo("passwords")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def patched(path: Path, old: bytes, new: bytes) -> Path:
    """A file with some bytes replaced, wherever they are."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """A file without its end."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def encrypted(path: Path) -> Path:
    """A zip whose members claim to be encrypted."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(signature, place + 1)
    path.write_bytes(bytes(data))
    return path


def gz(data: bytes) -> bytes:
    """Compressed."""
    return gzip.compress(data)


# --- models -------------------------------------------------------------------------------------------------


def model(path: Path, *layers: Any, shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> Path:
    """A small Keras model, saved as its name says."""
    import keras

    last = [keras.layers.Flatten(), keras.layers.Dense(classes)]
    keras.Sequential([keras.Input(shape), *layers, *last]).save(path)
    return path


def config(layer: dict[str, Any] | None = None, **dense: Any) -> dict[str, Any]:
    """The description of a small model, with a layer put before the last, or other settings of that."""
    first = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None}
    first["config"] = {"batch_shape": [None, 28, 28, 1], "dtype": "float32", "name": "images"}  # type: ignore[assignment]
    kind = "GlobalMaxPooling2D" if layer and layer["class_name"] == "UpSampling2D" else "Flatten"
    flat = {"module": "keras.layers", "class_name": kind, "config": {}, "registered_name": None}
    last = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 10} | dense, "registered_name": None}
    layers = [first, *([layer] if layer else []), flat, last]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "m", "layers": layers},
        "registered_name": None,
    }


def named(class_name: str, module: str | None = "keras.layers", registered: str | None = None, **facts: Any) -> dict:
    """The description of one object."""
    return {"module": module, "class_name": class_name, "config": facts, "registered_name": registered}


def graph(inbound: Any) -> dict[str, Any]:
    """The description of a functional model whose only layer behind the images has these nodes."""
    first = named("InputLayer", batch_shape=[None, 28, 28, 1], dtype="float32", name="images")
    layers = [first | {"name": "images", "inbound_nodes": []}]
    layers.append(named("Flatten", name="flat") | {"name": "flat", "inbound_nodes": inbound})
    ends = {"input_layers": [["images", 0, 0]], "output_layers": [["flat", 0, 0]]}
    return named("Functional", "keras", name="m", trainable=True, layers=layers, **ends)


def behind(folder: Path, front: bytes, name: str) -> Path:
    """A model's archive behind other bytes: readers of archives look at the end."""
    archive = described(folder / "inner.keras", config()).read_bytes()
    (folder / name).write_bytes(front + archive)
    (folder / "inner.keras").unlink()
    return folder / name


def two_models(folder: Path) -> Path:
    """An archive in which readers of HDF5 find a file of theirs at 1,024 bytes, in a comment of the archive."""
    path = zipped(folder / "m.keras", ("config.json", b"{}"), method=zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x" * 2_000
    content = path.read_bytes()
    path.write_bytes(content[:1_024] + empty_hdf5()[:64] + content[1_088:])
    return path


def described(path: Path, content: Any, weights: bytes | None = None, *more: tuple[str, bytes]) -> Path:
    """A `.keras` archive of a description, made without Keras."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    version = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}).encode()
    members = [("metadata.json", version), ("config.json", text), ("model.weights.h5", weights or empty_hdf5())]
    return zipped(path, *members, *more)


def empty_hdf5() -> bytes:
    """HDF5 with nothing in it."""
    import h5py

    stream = io.BytesIO()
    h5py.File(stream, "w").close()
    return stream.getvalue()


def hdf5(fill: Callable[[Any], None]) -> bytes:
    """HDF5 with what `fill` puts into it."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as content:
        fill(content)
    return stream.getvalue()


def torch_archive(
    path: Path, pickled_: bytes, code: str | None = None, program: Any = None, more: Sequence[tuple[str, bytes]] = ()
) -> Path:
    """An archive of PyTorch's, made without it: a pickle, TorchScript's code, or an exported program."""
    members = [("m/version", b"3\n"), ("m/byteorder", b"little")]
    if program is None:
        members.append(("m/data.pkl", pickled_))
    if code is not None:
        members += [("m/constants.pkl", pickle.dumps((), 2)), ("m/code/__torch__.py", code.encode())]
    if program is not None:
        members += [("m/archive_format", b"pt2"), ("m/archive_version", b"0")]
        members += [("m/models/model.json", json.dumps(program).encode()), ("m/data/sample_inputs/model.pt", pickled_)]
    return zipped(path, *members, *more, method=zipfile.ZIP_STORED)


def two_directories(path: Path, shown: bytes, hidden: bytes) -> Path:
    """An archive that Python reads as `shown`, and PyTorch as `hidden`, whose directory is the archive's comment.

    Both are archives of equal members, but for their content.
    """
    (one, listed), (other, kept) = _parts(shown), _parts(hidden)
    end = len(one) + len(other) + len(listed)
    comment = end + 22
    listed = _moved(listed, comment + len(listed) - end)
    record = struct.pack("<4s4x2H2LH", b"PK\x05\x06", *[kept.count(b"PK\x01\x02")] * 2, len(kept), comment, len(kept))
    path.write_bytes(one + other + listed + record + _moved(kept, len(one)))
    return path


def _parts(archive: bytes) -> tuple[bytes, bytes]:
    """Members and directory."""
    length, offset = struct.unpack("<12x2L2x", archive[-22:])
    return archive[:offset], archive[offset : offset + length]


def _moved(directory: bytes, by: int) -> bytes:
    """A directory whose members lie further behind."""
    moved, place = bytearray(directory), 0
    while place < len(moved):
        struct.pack_into("<L", moved, place + 42, struct.unpack_from("<L", moved, place + 42)[0] + by)
        place += 46 + sum(struct.unpack_from("<3H", moved, place + 28))
    return bytes(moved)


def tflite(operation: bytes) -> bytes:
    """A TensorFlow Lite file, made without it: one operation that is not built in, and no graph."""
    text = struct.pack("<L", len(operation)) + operation + b"\0"
    head = struct.pack("<L4s", 20, b"TFL3") + struct.pack("<4H4x", 8, 8, 0, 4)  # the model's slots: codes at 4
    model = struct.pack("<lL", 12, 4) + struct.pack("<LL", 1, 12)  # codes: one, 12 bytes on
    code = struct.pack("<4H", 8, 8, 0, 4) + struct.pack("<lL", 8, 4)
    return head + model + code + text


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """A number of a protocol buffer."""
    return (bytes([number & 0x7F | 0x80]) + varint(number >> 7)) if number > 0x7F else bytes([number])


def onnx_model(node: bytes = b"", tensor: bytes = b"") -> bytes:
    """An ONNX model of one node and one tensor, made without ONNX."""
    parts = (field(1, node) if node else b"") + (field(5, tensor) if tensor else b"")
    return b"\x08\x09" + field(7, parts)


def safetensors(header: Any, content: bytes = b"", length: int | None = None) -> bytes:
    """A header and the bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + content


# --- images and tables --------------------------------------------------------------------------------------


def picture(kind: str = "PNG", side: int = 8, mode: str = "RGB") -> bytes:
    """A well-formed image."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def declared_picture(side: int) -> bytes:
    """A PNG that declares these sides, and holds those of another."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return picture()[:12] + head + struct.pack(">I", zlib.crc32(head)) + picture()[33:]


def image_folder(folder: Path, packed: bool, changes: dict[str, bytes | None] | None) -> Path:
    """`train/a/0.png` to `test/b/2.png`, some of them changed; nothing where `changes` is None."""
    (top := folder / "own").mkdir()
    if changes is None:
        return top
    names = [f"{part}__{label}__{i}" for part in ("train", "test") for label in "ab" for i in range(3)]
    files = {name: content for name, content in (dict.fromkeys(names, picture()) | changes).items() if content}
    named = {name.replace("__", "/") + ".png": content for name, content in files.items()}
    if packed:
        top.rmdir()
        with zipfile.ZipFile(folder / "own.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in named.items():
                archive.writestr(name, content)
        return folder / "own.zip"
    for name, content in named.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def table(content: bytes | None, path: str | None = None) -> Any:
    """Forty rows of an image and a label, as the Hugging Face hub has them."""
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": content, "path": path}] * 40, kind)
    return pa.table({"image": images, "label": pa.array([0, 1] * 20)})


def parquet_bytes(content: bytes | None = None, path: str | None = None) -> bytes:
    """The table as a Parquet file."""
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(table(content, path), stream)
    return stream.getvalue()


def arrow_bytes(content: bytes, compression: str | None = None, *, spoilt: bool = False) -> bytes:
    """The table as an Arrow stream; `spoilt` offsets point far behind it."""
    import pyarrow as pa

    stream, rows = io.BytesIO(), table(content)
    with pa.ipc.new_stream(stream, rows.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
        out.write_table(rows)
    data = stream.getvalue()
    return data.replace(struct.pack("<II", 0, len(content)), struct.pack("<II", 0, 2**31 - 1)) if spoilt else data


def mat_bytes(x: np.ndarray) -> bytes:
    """A MATLAB file with these images."""
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, {"X": x, "y": np.arange(3)})
    return stream.getvalue()
