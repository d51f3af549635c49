"""MNIST in every packaging, and the other built-in data sets in small."""

from __future__ import annotations

import gzip
import io
import pickle
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

from gauntlet.data import datasets, readers, sources
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.errors import DataError
from tests.gauntlet.data.files import MNIST_DIR, STEMS, Arrays, idx, plain, refused, small

pytestmark = pytest.mark.usefixtures("no_cache")

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
    sets = [read_dataset("cifar10", path) for path in (tmp_path, folder, tar)]
    x = [np.round(255 * part).astype(np.uint8) for part in (sets[0].x_train, sets[0].x_test)]
    np.savez(tmp_path / "c.npz", x_train=x[0], y_train=sets[0].y_train[:, None], x_test=x[1], y_test=range(10))
    sets.append(read_dataset("cifar10", tmp_path / "c.npz"))
    assert len({data.digest for data in sets}) == 1
    assert sets[0].x_test.shape == (10, 32, 32, 3)
    np.testing.assert_allclose(sets[0].x_test[7, 5, 5], [7 / 255, 100 / 255, 100 / 255])
    assert not sets[0].official


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
