"""Data sets: every source gives the same arrays, and every bad file one clear line."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gauntlet.data import datasets, readers, sources
from gauntlet.data.datasets import DATASETS, Dataset, read_dataset
from gauntlet.data.splits import stratified_split
from gauntlet.errors import DataError, InputError, SettingError

ROOT = Path(__file__).resolve().parents[3]
MNIST_DIR = Path(os.environ.get("GAUNTLET_MNIST_DIR", ROOT.parent / "shared" / "mnist"))
STEMS = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}
Arrays = dict[str, NDArray[Any]]
quick = settings(max_examples=60, deadline=None, database=None)


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    yield
    datasets._load.cache_clear()


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def small(n_train: int = 40, n_test: int = 20, side: int = 4) -> Arrays:
    """A well-formed data set of four classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n_train, side, side), dtype=np.uint8),
        "y_train": np.arange(n_train) % 4,
        "x_test": rng.integers(0, 256, (n_test, side, side), dtype=np.uint8),
        "y_test": np.arange(n_test) % 4,
    }


def own(folder: Path, **changes: Any) -> Path:
    """An .npz of `small()` with some arrays replaced, or left out where None."""
    arrays = {key: value for key, value in (small() | changes).items() if value is not None}
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def refused(name: str | Path, data_dir: Path | None = None, *, names: str, says: str) -> str:
    """Load, expect a DataError of one line that names the file and says what is wrong."""
    with pytest.raises(DataError) as caught:
        read_dataset(str(name), data_dir)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert names in message
    assert says in message
    return message


# Dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return read_dataset("digits")


def test_digits_are_scaled_images_with_a_fixed_digest(digits: Dataset) -> None:
    assert digits.x_train.shape == (1437, 28, 28, 1)
    assert digits.x_test.shape == (360, 28, 28, 1)
    assert digits.x_train.dtype == np.float32
    assert digits.y_train.dtype == np.int64
    assert digits.x_train.min() == 0
    assert 0.99 < digits.x_train.max() <= 1
    assert (digits.n_classes, digits.input_shape, digits.bounds) == (10, (28, 28, 1), (0.0, 1.0))
    assert (digits.official, digits.source) == (True, "scikit-learn")
    assert digits.digest == "f4f6754cd0ff5a6316a75a499f64773d014e1e0c9f3066b59f63200ed54bc7b3"


def test_arrays_are_read_only(digits: Dataset) -> None:
    with pytest.raises(ValueError, match="read-only"):
        digits.x_test[0] = 0


def test_subsets_are_nested_seeded_and_sorted(digits: Dataset) -> None:
    few, many = digits.test_subset(10, seed=3), digits.test_subset(100, seed=3)
    assert set(few) < set(many)
    assert (np.diff(many) > 0).all()
    assert many.dtype == np.int64
    assert set(digits.test_subset(10, seed=0)) != set(few)
    np.testing.assert_array_equal(digits.test_subset(None, seed=0), np.arange(360))
    np.testing.assert_array_equal(digits.test_subset(360, seed=0), np.arange(360))


def test_folds_have_no_image_in_common_until_they_begin_again(digits: Dataset) -> None:
    folds = [digits.test_subset(100, seed=3, fold=fold) for fold in range(4)]
    assert len(set(np.concatenate(folds[:3]))) == 300
    np.testing.assert_array_equal(folds[3], folds[0])
    np.testing.assert_array_equal(digits.test_subset(200, seed=3, fold=5), digits.test_subset(200, seed=3))


@pytest.mark.parametrize("n", [0, -1, 361, 10**9])
def test_subset_refuses_sizes_it_has_not(digits: Dataset, n: int) -> None:
    with pytest.raises(SettingError, match=rf"^n: {n} .* 360"):
        digits.test_subset(n, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_seeds_are_checked(digits: Dataset, seed: Any) -> None:
    with pytest.raises(SettingError, match="seed"):
        digits.test_subset(1, seed=seed)
    with pytest.raises(SettingError, match="seed"):
        digits.split_validation(0.1, seed=seed)


def test_validation_is_stratified_disjoint_and_fixed(digits: Dataset) -> None:
    train, held = digits.split_validation(0.1, seed=0)
    assert len(held) == 144
    assert sorted([*train, *held]) == list(range(1437))
    shares = np.bincount(digits.y_train[held]) / np.bincount(digits.y_train)
    assert (abs(shares - 0.1) < 0.02).all()
    np.testing.assert_array_equal(held, digits.split_validation(0.1, seed=0)[1])
    assert set(held) != set(digits.split_validation(0.1, seed=1)[1])


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), 0.0001])
def test_validation_refuses_odd_shares(digits: Dataset, share: float) -> None:
    with pytest.raises(SettingError, match="share"):
        stratified_split(digits.y_train, share, seed=0)


def test_summary_is_json(digits: Dataset) -> None:
    summary = json.loads(json.dumps(digits.summary()))
    assert summary["name"] == "digits"
    assert (summary["train_size"], summary["test_size"]) == (1437, 360)
    assert sum(summary["test_label_counts"].values()) == 360
    assert summary["digest"] == digits.digest


def test_repr_leaves_the_arrays_out(digits: Dataset) -> None:
    assert len(repr(digits)) < 400


def test_import_is_light() -> None:
    heavy = ["sklearn", "PIL", "keras", "tensorflow", "scipy", "prefect", "mlflow"]
    code = f"import sys, gauntlet.data.datasets; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


# MNIST itself, in all its wrappings


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that does not outlive the test, unlike pytest's: MNIST unpacked is 55 MB."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def needs_mnist(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that reads the real files, and skip it where they are not."""
    reason = f"no MNIST in {MNIST_DIR}: set GAUNTLET_MNIST_DIR"
    there = (MNIST_DIR / "train-images-idx3-ubyte.gz").is_file()
    marked: Callable[..., None] = pytest.mark.skipif(not there, reason=reason)(test)
    pytest.mark.mnist(marked)
    return marked


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return read_dataset("mnist", MNIST_DIR)


@pytest.fixture(scope="module")
def mnist_bytes() -> dict[str, bytes]:
    names = {key: f"{stem}-idx{3 if key[0] == 'x' else 1}-ubyte.gz" for key, stem in STEMS.items()}
    return {key: gzip.decompress((MNIST_DIR / name).read_bytes()) for key, name in names.items()}


def plain(folder: Path, data: dict[str, bytes]) -> Path:
    for key, stem in STEMS.items():
        (folder / f"{stem}-idx{3 if key[0] == 'x' else 1}-ubyte").write_bytes(data[key])
    return folder


def nested(folder: Path, data: dict[str, bytes]) -> Path:
    for key, stem in STEMS.items():
        name = f"{stem}-idx{3 if key[0] == 'x' else 1}-ubyte"
        (folder / name).mkdir()
        (folder / name / name).write_bytes(data[key])
    return folder


def kaggle_zip(folder: Path, data: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for key, stem in STEMS.items():
            kind = f"idx{3 if key[0] == 'x' else 1}-ubyte"
            archive.mkdir(f"{stem}-{kind}")
            archive.writestr(f"{stem}-{kind}/{stem}-{kind}", data[key])
            archive.writestr(f"__MACOSX/._{stem}.{kind}", b"not a data file")
            archive.writestr(f"{stem}.{kind}", data[key])
    return folder


def zip_itself(folder: Path, data: dict[str, bytes]) -> Path:
    return kaggle_zip(folder, data) / "archive.zip"


def keras_npz(folder: Path, data: dict[str, bytes]) -> Path:
    arrays = {key: np.frombuffer(value, np.uint8, offset=16 if key[0] == "x" else 8) for key, value in data.items()}
    arrays |= {key: arrays[key].reshape(-1, 28, 28) for key in ("x_train", "x_test")}
    np.savez(folder / "mnist.npz", allow_pickle=False, **arrays)
    return folder


@needs_mnist
def test_mnist_is_recognised(mnist: Dataset) -> None:
    assert (mnist.official, mnist.source, mnist.n_classes) == (True, "IDX files", 10)
    assert mnist.x_train.shape == (60_000, 28, 28, 1)
    assert mnist.summary()["test_label_counts"]["1"] == 1135
    assert mnist.digest == "0f0011b3a6e75f05688ea94208a87fa321fc3b58c3769de5d4889e5ee6b93281"


@needs_mnist
@pytest.mark.parametrize("wrap", [plain, nested, kaggle_zip, zip_itself, keras_npz])
def test_mnist_is_the_same_from_every_source(
    wrap: Callable[[Path, dict[str, bytes]], Path],
    mnist: Dataset,
    mnist_bytes: dict[str, bytes],
    scratch: Path,
) -> None:
    again = read_dataset("mnist", wrap(scratch, mnist_bytes))
    assert (again.digest, again.official, again.name) == (mnist.digest, True, "mnist")
    assert str(scratch) not in again.source


@needs_mnist
def test_mnist_as_an_own_npz_keeps_its_digest(mnist: Dataset, mnist_bytes: dict[str, bytes], scratch: Path) -> None:
    path = (keras_npz(scratch, mnist_bytes) / "mnist.npz").rename(scratch / "mine.npz")
    again = read_dataset(str(path))
    assert (again.name, again.source) == ("mine", "user npz")
    assert (again.digest, again.official) == (mnist.digest, True)


@needs_mnist
def test_one_changed_pixel_is_not_official(mnist_bytes: dict[str, bytes], scratch: Path) -> None:
    changed = mnist_bytes["x_test"][:-1] + b"\x07"
    folder = plain(scratch, mnist_bytes | {"x_test": changed})
    message = refused("mnist", folder, names="t10k-images-idx3-ubyte", says="not official MNIST")
    assert "--dataset PATH" in message


@needs_mnist
def test_mnist_does_not_pass_for_fashion(mnist_bytes: dict[str, bytes], scratch: Path) -> None:
    refused("fashion-mnist", plain(scratch, mnist_bytes), names="train-labels", says="6000 of each")


def test_mixed_spellings_and_gzip(tmp_path: Path, few_mnist: Arrays) -> None:
    for key, stem in STEMS.items():
        kind = f"idx{3 if key[0] == 'x' else 1}-ubyte"
        folder = tmp_path if key[2:] == "train" else tmp_path / f"{stem}-{kind}"
        folder.mkdir(exist_ok=True)
        (folder / f"{stem}.{kind}.gz").write_bytes(gzip.compress(idx(few_mnist[key]), mtime=0))
    assert read_dataset("fashion-mnist", tmp_path).class_names[9] == "Ankle boot"


# The built-in data sets, in small


@pytest.fixture
def few_mnist(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Arrays for a Fashion-MNIST of 50 and 20 images."""
    spec = replace(datasets._SPECS["fashion-mnist"], sizes=(50, 20))
    monkeypatch.setitem(datasets._SPECS, "fashion-mnist", spec)
    arrays = small(50, 20, side=28)
    return arrays | {key: (np.arange(len(arrays[key])) % 10).astype(np.uint8) for key in ("y_train", "y_test")}


@pytest.fixture
def few_cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Batches for a CIFAR-10 of 50 and 10 images."""
    monkeypatch.setattr(sources, "CIFAR_BATCH", 10)
    spec = replace(datasets._SPECS["cifar10"], sizes=(50, 10))
    monkeypatch.setitem(datasets._SPECS, "cifar10", spec)
    records = b"".join(bytes([label]) + bytes([label] * 1024 + [100] * 2048) for label in range(10))
    return dict.fromkeys([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], records)


def cifar_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_cifar_from_files_tar_and_npz(few_cifar: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, data in few_cifar.items():
        (folder / name).write_bytes(data)
    tar = cifar_tar(tmp_path / "cifar-10-binary.tar.gz", few_cifar)
    found = [read_dataset("cifar10", path) for path in (tmp_path, folder, tar)]
    x = [np.round(255 * part).astype(np.uint8) for part in (found[0].x_train, found[0].x_test)]
    np.savez(tmp_path / "c.npz", x_train=x[0], y_train=found[0].y_train[:, None], x_test=x[1], y_test=range(10))
    found.append(read_dataset("cifar10", tmp_path / "c.npz"))
    assert len({data.digest for data in found}) == 1
    assert found[0].x_test.shape == (10, 32, 32, 3)
    np.testing.assert_allclose(found[0].x_test[7, 5, 5], [7 / 255, 100 / 255, 100 / 255])
    assert not found[0].official


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data_batch_3.bin": b"\0" * 100}, "data_batch_3.bin: truncated: 30730 bytes expected, got 100"),
        ({"test_batch.bin": b"\0" * 30731}, "test_batch.bin: holds more than the 30730 bytes"),
        ({"test_batch.bin": None}, "lacks test_batch.bin"),
        ({"data_batch_1.bin": b"\0" * 30730}, "has 5 of each"),
        ({"test_batch.bin": b"\x0b" * 30730}, "out of range"),
    ],
)
def test_bad_cifar(few_cifar: dict[str, bytes], tmp_path: Path, change: dict[str, Any], says: str) -> None:
    files = {name: data for name, data in (few_cifar | change).items() if data is not None}
    path = cifar_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    refused("cifar10", path, names="cifar-10-binary.tar.gz", says=says)


@pytest.mark.parametrize("name", ["data_batch_1", "cifar-10-python.tar.gz"])
def test_cifar_pickles_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({b"data": 1}))
    refused("cifar10", tmp_path, names=str(tmp_path), says="pickles")
    if name.endswith("gz"):
        refused("cifar10", tmp_path / name, names=name, says="pickles")


def test_endless_tar_is_refused() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for i in range(200):
            archive.addfile(tarfile.TarInfo(str(i)))
    with pytest.raises(DataError, match="more than 100 members"):
        readers.read_tar(stream.getvalue(), ["x"], 10, "a.tar")


def fake_keras(monkeypatch: pytest.MonkeyPatch, load_data: Callable[[], Any]) -> None:
    module = types.SimpleNamespace(load_data=load_data)
    fakes = types.SimpleNamespace(mnist=module, fashion_mnist=module, cifar10=module)
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(datasets=fakes))


def test_keras_download(monkeypatch: pytest.MonkeyPatch, few_mnist: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    def load_data() -> Any:
        print("Downloading data")
        a = few_mnist
        return (a["x_train"], a["y_train"]), (a["x_test"], a["y_test"])

    fake_keras(monkeypatch, load_data)
    assert read_dataset("fashion-mnist").source == "Keras download"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Downloading" in captured.err


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_no_network_asks_for_a_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def load_data() -> Any:
        raise Exception("URL fetch failure on https://x: None --\n[Errno -3] name resolution")

    fake_keras(monkeypatch, load_data)
    refused(name, names=name, says="--data-dir")


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


# Names and places


def test_missing_things_list_what_was_looked_for(tmp_path: Path) -> None:
    refused("mnist", tmp_path / "nowhere", names="nowhere", says="train-images-idx3-ubyte")
    refused("mnist", tmp_path, names=str(tmp_path), says="archive.zip")
    refused("cifar10", tmp_path, names=str(tmp_path), says="data_batch_1.bin")
    (tmp_path / "a.txt").write_text("x")
    refused("mnist", tmp_path / "a.txt", names="a.txt", says="holds no files of mnist")
    refused(tmp_path / "none.npz", names="none.npz", says="no such file")
    (tmp_path / "folder.npz").mkdir()
    refused(tmp_path / "folder.npz", names="folder.npz", says="not a file")


@pytest.mark.parametrize("name", ["minst", "", "MNIST", "imagenet", "a\nb", "x" * 5000, "../x", "digits.npy"])
def test_unknown_names_list_the_known(name: str) -> None:
    message = refused(name, names="dataset", says="unknown data set")
    assert all(known in message for known in DATASETS)
    assert ("did you mean mnist" in message) == (name in ("minst", "MNIST"))


@pytest.mark.parametrize("name", ["a\0b.npz", "a" * 999 + ".npz"])
def test_impossible_paths(name: str) -> None:
    refused(name, names="npz" if "b" in name else "aaa", says="the data set's name becomes an experiment's, and cannot")


def test_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.npz")
    refused(tmp_path / "p.npz", names="p.npz", says="not a file")


# The user's own .npz


@pytest.mark.parametrize(
    ("changes", "classes"),
    [
        ({}, 4),
        ({"y_train": (np.arange(40) % 4).astype(float), "y_test": (np.arange(20) % 4).astype(np.uint8)}, 4),
        ({"y_train": np.eye(4)[np.arange(40) % 4], "y_test": np.eye(4)[np.arange(20) % 4]}, 4),
        ({"y_train": np.eye(6)[np.arange(40) % 4]}, 6),
        ({"y_train": (np.arange(40) % 4)[:, None]}, 4),
        ({"y_train": np.asfortranarray(np.eye(4)[np.arange(40) % 4].astype(">f8"))}, 4),
        ({key: small()[key][..., None] for key in ("x_train", "x_test")}, 4),
        ({key: small()[key] / 255 for key in ("x_train", "x_test")}, 4),
        ({key: np.asfortranarray((small()[key] / 255).astype(">f4")) for key in ("x_train", "x_test")}, 4),
        ({"class_names": np.array(["a", "b", "c", "d"])}, 4),
    ],
)
def test_own_npz_in_all_its_forms(tmp_path: Path, changes: Arrays, classes: int) -> None:
    data = read_dataset(str(own(tmp_path, **changes)))
    assert (data.name, data.source, data.official) == ("own", "user npz", False)
    assert (data.n_classes, data.input_shape) == (classes, (4, 4, 1))
    assert data.class_names[:4] in (tuple("0123"), tuple("abcd"))
    np.testing.assert_array_equal(data.x_train[..., 0], (small()["x_train"] / 255).astype(np.float32))
    assert data.digest == read_dataset(str(own(tmp_path))).digest


def test_colour_and_compression(tmp_path: Path) -> None:
    x = np.full((40, 4, 5, 3), 200, np.uint8)
    np.savez_compressed(tmp_path / "c.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x, y_test=np.arange(40) % 2)
    assert read_dataset(str(tmp_path / "c.npz")).input_shape == (4, 5, 3)


def pixels(value: float) -> NDArray[np.float64]:
    x = np.full((40, 4, 4), 0.5)
    x[3, 2, 1] = value
    return x


class Mischief:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


OBJECTS = np.array([Mischief()] * 40, dtype=object)


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"y_test": None, "x_test": None}, "lacks", "lacks x_test, y_test; it has x_train, y_train"),
        ({"x_train": OBJECTS}, "x_train", "pickle"),
        ({"y_train": OBJECTS}, "y_train", "pickle"),
        ({"class_names": OBJECTS}, "class_names", "pickle"),
        ({"x_train": pixels(np.nan)}, "x_train", "NaN or infinite"),
        ({"x_train": pixels(-np.inf)}, "x_train", "NaN or infinite"),
        ({"x_train": pixels(-0.25)}, "x_train", "from -0.25 to 0.5, outside [0, 1]"),
        ({"x_train": pixels(1.0001)}, "x_train", "1.0001, outside [0, 1]"),
        ({"x_train": pixels(254)}, "x_train", "look like 0..255"),
        ({"x_train": np.zeros((40, 4, 4), complex)}, "x_train", "dtype complex128"),
        ({"x_train": np.zeros((40, 4, 4), int)}, "x_train", "dtype int64"),
        ({"x_train": np.zeros((40, 4, 4), "U3")}, "x_train", "dtype <U3"),
        ({"x_train": np.zeros((40, 4, 4), "i4,f4")}, "x_train", "expected uint8"),
        ({"x_train": np.zeros((40, 4, 4), "M8[s]")}, "x_train", "expected uint8"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8)}, "x_train", "is empty"),
        ({"x_train": np.zeros((40, 0, 4), np.uint8)}, "x_train", "is empty"),
        ({"x_train": np.zeros((40, 15), np.uint8)}, "x_train", "has shape (40, 15)"),
        ({"x_train": np.uint8(3)}, "x_train", "has shape ()"),
        ({"x_train": np.zeros((40, 3, 4, 4), np.uint8)}, "x_train", "channels last"),
        ({"x_test": np.zeros((20, 5, 4), np.uint8)}, "x_test", "images are (5, 4, 1)"),
        ({"y_train": np.arange(39) % 4}, "y_train", "39 labels for 40 images"),
        ({"y_train": np.arange(40) % 4 - 1}, "y_train", "labels from -1 to 2 are out of range"),
        ({"y_test": np.arange(20) % 5}, "y_test", "labels from 0 to 4 are out of range"),
        ({"y_train": np.full(40, 2**63, np.uint64)}, "y_train", "out of range"),
        ({"y_train": np.full(40, 1e300)}, "y_train", "out of range"),
        ({"y_train": np.full(40, -5)}, "y_train", "out of range"),
        ({"y_train": np.full(40, 0.5)}, "y_train", "not whole numbers"),
        ({"y_train": np.full(40, np.nan)}, "y_train", "not whole numbers"),
        ({"y_train": np.array(["a"] * 40)}, "y_train", "dtype <U1"),
        ({"y_train": np.ones((40, 4))}, "y_train", "not one-hot"),
        (
            {"y_train": np.eye(4)[np.arange(40) % 4], "y_test": np.eye(5)[np.arange(20) % 4]},
            "y_test",
            "columns",
        ),
        ({"y_train": np.zeros((40, 2, 2))}, "y_train", "shape (40, 2, 2)"),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(20, int)}, "y_train", "only one class"),
        ({"class_names": np.array(["a", "b", "c"])}, "y_train", "out of range"),
        ({"class_names": np.array(["a", "b", "c", "c"])}, "class_names", "double"),
        ({"class_names": np.array(["a", "b", "c", "d\n"])}, "class_names", "unprintable"),
        ({"class_names": np.array(["a", "b", "c", ""])}, "class_names", "empty"),
        ({"class_names": np.arange(4)}, "class_names", "unicode"),
    ],
)
def test_bad_own_npz(tmp_path: Path, changes: dict[str, Any], key: str, says: str) -> None:
    path = own(tmp_path, **changes)
    assert key in refused(path, names="own.npz", says=says)


def npz_with(path: Path, x_train: bytes, **lies: Any) -> Path:
    """An .npz whose first member is the given bytes, its directory entry changed after the fact."""
    own(path.parent)
    with zipfile.ZipFile(path.parent / "own.npz") as good, zipfile.ZipFile(path, "w") as bad:
        bad.writestr("x_train.npy", x_train)
        for key in ("y_train", "x_test", "y_test"):
            bad.writestr(f"{key}.npy", good.read(f"{key}.npy"))
        for name, value in lies.items():
            setattr(bad.filelist[0], name, value)
    return path


def npy(header: str, body: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + body


@pytest.mark.parametrize(
    ("member", "lies", "says"),
    [
        (b"", {}, "as a NumPy array"),
        (b"\x93NUMPY\x01\x00", {}, "as a NumPy array"),
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (40, 4, 4)}\n", b"\0" * 639),
            {},
            "truncated",
        ),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (40, 4, 4)}\n", b"\0" * 641), {}, "trailing"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4)}\n"), {}, "is empty"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (10**9, 4)}\n"), {}, "as a NumPy array"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 4)}\n"), {}, "truncated"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (40,)}\n", pickle.dumps(1)), {}, "pickle"),
        (npy("(" * 9000, version=2), {}, "as a NumPy array"),
        (npy("x" * 200_000, version=2), {}, "as a NumPy array"),
        (npy("{}", version=9), {}, "as a NumPy array"),
        (b"x", {"flag_bits": 1}, "encrypted"),
        (b"x", {"compress_type": zipfile.ZIP_LZMA}, "method 14"),
        (b"x", {"file_size": 9 * 2**30}, "zip bomb"),
        (b"x", {"file_size": 2 * 2**30}, "zip bomb"),
        (b"x" * 50, {"header_offset": 10**6}, "cannot be read"),
    ],
)
def test_hostile_npz(tmp_path: Path, member: bytes, lies: dict[str, Any], says: str) -> None:
    refused(npz_with(tmp_path / "bad.npz", member, **lies), names="bad.npz", says=says)


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps(OBJECTS), npy("{}"), np.random.default_rng(0).bytes(300)])
def test_npz_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(data)
    refused(tmp_path / "bad.npz", names="bad.npz", says="as an .npz file")


def test_a_named_npz_may_not_be_larger_than_the_data_set(tmp_path: Path) -> None:
    x = np.zeros((60_001, 28, 28), np.uint8)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=x[:, 0, 0], x_test=x[:9999], y_test=x[:9999, 0, 0])
    refused("mnist", tmp_path, names="mnist.npz", says="mnist has (60000, 28, 28)")
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=x, x_test=x[:1], y_test=x[:1])
    refused("mnist", tmp_path, names="mnist.npz", says="zip bomb")


def test_a_named_npz_must_be_uint8(tmp_path: Path) -> None:
    own(tmp_path, x_train=pixels(0.1)).rename(tmp_path / "mnist.npz")
    refused("mnist", tmp_path, names="mnist.npz: x_train", says="has dtype float64, mnist has uint8")


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


# The cache


def test_cache_keeps_the_last_and_sees_changes(tmp_path: Path) -> None:
    path = own(tmp_path)
    first = read_dataset(str(path))
    assert read_dataset(str(path)) is first
    own(tmp_path, x_train=np.zeros((40, 4, 4), np.uint8))
    os.utime(path, ns=(1, 1))
    assert read_dataset(str(path)).digest != first.digest
