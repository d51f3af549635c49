"""Broken IDX files, zips and archives: each is refused in one clear line."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.data import readers
from gauntlet.data.datasets import read_dataset
from gauntlet.errors import DataError, InputError
from tests.gauntlet.data.files import STEMS, idx, npy, npz_with, own, plain, quick, refused, small

pytestmark = pytest.mark.usefixtures("no_cache")

# Bad files of the IDX kind


@pytest.mark.parametrize(
    ("data", "shape", "says"),
    [
        (b"", (None, 2, 2), "truncated: 16 bytes of header expected, got 0"),
        (idx(np.zeros((1, 2, 2), np.uint8))[:-1], (None, 2, 2), "truncated: 20 bytes expected, got 19"),
        (
            idx(np.zeros((1, 2, 2), np.uint8)) + b"!",
            (None, 2, 2),
            "trailing bytes: 20 bytes expected, got 21",
        ),
        (idx(np.zeros(30, np.uint8)), (None, 2, 2), "wrong magic number: expected 2051, got 2049"),
        (idx(np.zeros((3, 2, 2), np.uint8)), (None,), "wrong magic number: expected 2049, got 2051"),
        (gzip.compress(b"x" * 99, mtime=0), (None,), "gzipped"),
        (idx(np.zeros((1, 2, 3), np.uint8)), (None, 2, 2), "expected N x 2 x 2"),
        (idx(np.zeros((0, 2, 2), np.uint8)), (None, 2, 2), "expected N x 2 x 2"),
        (struct.pack(">IIII", 2051, 2**32 - 1, 28, 28), (None, 28, 28), "truncated"),
    ],
)
def test_bad_idx_bytes(data: bytes, shape: tuple[int | None, ...], says: str) -> None:
    with pytest.raises(DataError, match=r"^some-file: ") as caught:
        readers.parse_idx(data, "some-file", shape)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@quick
@given(st.binary(max_size=64) | st.binary(max_size=40).map(lambda tail: struct.pack(">I", 2051) + tail))
def test_idx_parser_survives_anything(data: bytes) -> None:
    message, again = "", data
    try:
        again = idx(readers.parse_idx(data, "f", (None, 2, 2)))
    except DataError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert again == data


BOMB = gzip.compress(bytes(1_000_000), mtime=0) * 48  # gzip files may be joined
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("files", "names", "says"),
    [
        ({IMAGES: None}, str(Path("data")), f"put {IMAGES}"),
        ({IMAGES: b"\0\0\x08\x01" + b"\0" * 12}, IMAGES, "wrong magic number"),
        ({IMAGES: idx(np.zeros((2, 28, 28), np.uint8))[:-5]}, IMAGES, "truncated"),
        ({IMAGES: None, IMAGES + ".gz": b"junk"}, IMAGES + ".gz", "as gzip: Not a gzipped file"),
        ({IMAGES: None, IMAGES + ".gz": gzip.compress(b"x" * 999, mtime=0)[:-9]}, IMAGES + ".gz", "as gzip"),
        ({IMAGES: None, IMAGES + ".gz": BOMB}, IMAGES + ".gz", "more than the 47040016 bytes"),
        ({IMAGES: idx(np.zeros((2, 28, 27), np.uint8))}, IMAGES, "has shape (2, 28, 27)"),
        ({LABELS: idx(np.zeros(3, np.uint8))}, LABELS, "3 labels for 2 images"),
        ({LABELS: idx(np.full(2, 10, np.uint8))}, LABELS, "labels from 10 to 10 are out of range"),
        ({}, IMAGES, "has shape (2, 28, 28, 1), mnist has (60000, 28, 28)"),
    ],
)
def test_bad_idx_files(tmp_path: Path, files: dict[str, bytes | None], names: str, says: str) -> None:
    images, labels = idx(np.zeros((2, 28, 28), np.uint8)), idx(np.zeros(2, np.uint8))
    folder = plain(tmp_path, {key: images if key[0] == "x" else labels for key in STEMS})
    for name, data in files.items():
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)
    refused("mnist", folder, names=names if names != "data" else str(tmp_path), says=says)


# Bad zips


def forged(path: Path, data: bytes, **lies: Any) -> Path:
    """A zip with one IDX member whose directory entry is changed after the fact."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(IMAGES, data)
        for name, value in lies.items():
            setattr(archive.filelist[0], name, value)
    return path


@pytest.mark.parametrize(
    ("data", "lies", "says"),
    [
        (b"", {"flag_bits": 1}, "is encrypted"),
        (b"", {"compress_type": zipfile.ZIP_LZMA}, "compressed by method 14"),
        (b"", {"file_size": 2**40}, "declares 1099511627776 bytes, more than the 47040016"),
        (b"\0" * 48_000_000, {}, "declares 48000000 bytes"),
        (b"\0" * 48_000_000, {"file_size": 1000}, "cannot be read"),
        (b"\0" * 100, {"CRC": 1}, "cannot be read"),
        (idx(np.zeros((2, 28, 28), np.uint8)), {}, "holds neither train-labels"),
    ],
)
def test_bad_zips(tmp_path: Path, data: bytes, lies: dict[str, Any], says: str) -> None:
    refused("mnist", forged(tmp_path / "archive.zip", data, **lies), names="archive.zip", says=says)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no more", np.random.default_rng(0).bytes(500)])
def test_zips_that_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "archive.zip").write_bytes(data)
    refused("mnist", tmp_path, names="archive.zip", says="as a zip file")


# Anything at all


def survives(path: Path, name: str, data_dir: Path | None) -> None:
    """Loading gives a data set or an InputError of one line, never anything else."""
    message = path.name
    try:
        read_dataset(name, data_dir)
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert path.name in message


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small .npz and a small archive.zip to damage."""
    folder = tmp_path_factory.mktemp("samples")
    images, labels = idx(np.zeros((2, 28, 28), np.uint8)), idx(np.zeros(2, np.uint8))
    with zipfile.ZipFile(folder / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for key, stem in STEMS.items():
            archive.writestr(f"{stem}.idx{3 if key[0] == 'x' else 1}-ubyte", images if key[0] == "x" else labels)
    return {"npz": own(folder, **small(6, 4, 2)), "zip": folder / "archive.zip"}


damage = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", ["npz", "zip"])
@quick
@given(changes=damage, cut=st.floats(0.5, 1))
def test_damaged_archives(samples: dict[str, Path], kind: str, changes: list[tuple[float, int]], cut: float) -> None:
    data = bytearray(samples[kind].read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path = samples[kind].with_name("damaged." + kind)
    path.write_bytes(data if cut > 0.7 else data[: int(cut * len(data))])
    survives(path, str(path) if kind == "npz" else "mnist", path if kind == "zip" else None)


@quick
@given(header=st.text(st.sampled_from("{}()[]'\",:0123456789LOu1fi8<>|descrfotan_hpTuFl\\ \n"), max_size=80))
def test_damaged_npy_headers(samples: dict[str, Path], header: str) -> None:
    path = samples["npz"].with_name("header.npz")
    survives(npz_with(path, npy(header, b"\0" * 640)), str(path), None)
