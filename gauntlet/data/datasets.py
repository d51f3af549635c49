"""The data sets: `Dataset`, the built-in ones, and the user's own (`own.py`).

`read_dataset("digits")` needs no file and no network. `mnist`, `fashion-mnist` and `cifar10` are read from a
folder or archive (`data_dir`), or downloaded by Keras. Every file is untrusted, see `readers.py`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import numbers
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.data import readers, sources
from gauntlet.data.arrays import check_labels, checked_names, count_classes, images, labels_of
from gauntlet.data.files import stamp
from gauntlet.data.own import check_path, is_own, prepared, read_own, title
from gauntlet.data.sources import KEYS, Found, Shapes
from gauntlet.data.splits import checked_seed, stratified_split
from gauntlet.data.stated import AS_FOUND, KNOWN, Stated
from gauntlet.errors import DataError, SettingError, meant, one_line

DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10")

OWN_FIX = "for data of your own pass --dataset PATH"
_TOGETHER = "save images and labels in one file: numpy.savez('FILE.npz', x_test=..., y_test=...)"
_UNPACKED = "unpack it and give the folder, or pack that as .zip"
FORMATS = {
    **dict.fromkeys((".npy", ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".h5", ".hdf5", ".tfrecord"), _TOGETHER),
    **dict.fromkeys((".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"), _UNPACKED),
    **dict.fromkeys((".tsv", ".txt", ".xls", ".xlsx", ".json", ".jsonl"), "save it as .csv, a label and pixels a row"),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), "give the folder that holds a folder of images for each class"),
}
"""Files of other formats, by suffix, and what to do with them."""
# SHA-256 of the uncompressed IDX files of LeCun, Cortes and Burges.
MNIST_SHA256 = {
    "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# SHA-256 of scikit-learn's digits: the 8 x 8 images, then the labels, as uint8.
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one classification task; the arrays are read-only.

    `digest` is the SHA-256 (hex) of the arrays' shapes and contents: the same whatever file they came from.
    `source` says in words where that was. `official` is true when the bytes are those the authors published.
    """

    name: str
    x_train: NDArray[np.float32] = field(repr=False)  # (N, H, W, C), within bounds
    y_train: NDArray[np.int64] = field(repr=False)  # (N,), 0 .. n_classes - 1
    x_test: NDArray[np.float32] = field(repr=False)
    y_test: NDArray[np.int64] = field(repr=False)
    class_names: tuple[str, ...]
    digest: str
    source: str
    official: bool
    bounds: tuple[float, float] = (0.0, 1.0)
    prepared: tuple[str, ...] = ()
    """What was done to the images, or which were left out, in words."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        height, width, channels = self.x_train.shape[1:]
        return height, width, channels

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def unseen(self) -> tuple[int, ...]:
        """Classes without a training image, where there are any."""
        if not len(self.y_train):
            return ()
        return tuple(np.flatnonzero(np.bincount(self.y_train, minlength=self.n_classes) == 0).tolist())

    def remark(self) -> str:
        """What looks odd about the labels, or nothing."""
        if not self.unseen:
            return ""
        few = ", ".join(str(k) for k in self.unseen[:5]) + ", …" * (len(self.unseen) > 5)
        start = "do labels start at 1? " if self.unseen == (0,) else ""
        return f"{self.name} has no training image of class {few}: {start}--labels map renumbers the classes"

    def test_subset(self, n: int | None, seed: int, fold: int = 0) -> NDArray[np.int64]:
        """Sorted indices (int64, (n,)) of a random subset of the test images; None takes all.

        For one seed a smaller subset is part of every larger one. `fold` counts through the subsets of `n` that have
        no image in common, and begins again where the images end.

        Raises SettingError: `n` is below 1 or above the number of test images, or the seed is not usable.
        """
        size = len(self.y_test)
        if n is None:
            return np.arange(size, dtype=np.int64)
        if not isinstance(n, numbers.Integral) or not 1 <= n <= size:
            what = f"{one_line(n)} test images asked for, {self.name} has {size}"
            raise SettingError(what, where="n", fix=f"give a whole number from 1 to {size}")
        order = np.random.default_rng(checked_seed(seed)).permutation(size)
        start = fold % (size // n) * n
        return np.sort(order[start : start + n]).astype(np.int64)

    def split_validation(self, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(train, validation) indices into the training set, see `stratified_split`."""
        return stratified_split(self.y_train, share, seed)

    def summary(self) -> dict[str, Any]:
        """What to log about the data set: plain values only, ready for JSON."""
        return {
            "name": self.name,
            "digest": self.digest,
            "source": self.source,
            "official": self.official,
            "prepared": "; ".join(self.prepared),
            "train_size": len(self.y_train),
            "test_size": len(self.y_test),
            "train_label_counts": self._label_counts(self.y_train),
            "test_label_counts": self._label_counts(self.y_test),
        }

    def _label_counts(self, labels: NDArray[np.int64]) -> dict[str, int]:
        counts = np.bincount(labels, minlength=self.n_classes).tolist()
        return dict(zip(self.class_names, counts, strict=True))


def read_dataset(name: str, data_dir: Path | None = None, stated: Stated = AS_FOUND) -> Dataset:
    """A built-in data set by name, or the user's own by path.

    The last data set is kept and given again as long as its files do not change.

    Args:
        name: one of `DATASETS`, or the path of a folder or file (docs/data.md lists the formats): images of 1 to 4
            channels, whole numbers, or float in [0, 1]; labels 0 .. K-1, names of classes, or one-hot.
        data_dir: for mnist, fashion-mnist and cifar10 the folder of the files, or the archive itself; None
            lets Keras download them. digits and data of one's own have no use for it.
        stated: what is not to be found of one's own data, and how its images are prepared.

    Raises DataError: unknown name, missing file, or anything wrong with a file's content.
    """
    with readers.reading(one_line(name)):
        path = _location(str(name), data_dir)
        return _load(str(name), path, _fingerprint(str(name), path), stated)


@dataclass(frozen=True)
class _Spec:
    """What is known of a data set that comes in files, and its formats in order of preference."""

    image: tuple[int, ...]  # (H, W) or (H, W, C)
    sizes: tuple[int, int]  # training and test images
    balanced: bool  # every class has the same number of images
    class_names: tuple[str, ...]
    formats: tuple[Callable[[Path, Shapes], Found | None], ...]
    looked_for: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        train, test = self.sizes
        return dict(zip(KEYS, ((train, *self.image), (train,), (test, *self.image), (test,)), strict=True))


def _idx_spec(name: str, balanced: bool, class_names: str) -> _Spec:
    npz = functools.partial(sources.npz_file, name=f"{name}.npz")
    looked_for = f"train-images-idx3-ubyte and its three sisters (plain or .gz), {name}.npz, archive.zip"
    formats = (sources.idx_files, npz, sources.idx_zip)
    return _Spec((28, 28), (60_000, 10_000), balanced, tuple(class_names.split(",")), formats, looked_for)


def _cifar_spec() -> _Spec:
    npz = functools.partial(sources.npz_file, name="cifar10.npz")
    class_names = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
    looked_for = f"data_batch_1.bin to data_batch_5.bin and test_batch.bin, {sources.CIFAR_TAR}, cifar10.npz"
    formats = (sources.cifar_files, sources.cifar_tar, npz, sources.cifar_pickles)
    return _Spec((32, 32, 3), (50_000, 10_000), True, tuple(class_names.split(",")), formats, looked_for)


_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_SPECS = {
    "mnist": _idx_spec("mnist", False, "0,1,2,3,4,5,6,7,8,9"),
    "fashion-mnist": _idx_spec("fashion-mnist", True, _CLOTHES),
    "cifar10": _cifar_spec(),
}


def _location(name: str, data_dir: Path | None) -> Path | None:
    """The file or folder to read, which exists (and is no pipe or device); None when none is needed."""
    if name not in DATASETS:
        if is_own(name):
            return check_path(name)
        if os.path.isfile(name):
            where, fix = one_line(name, 300), FORMATS.get(Path(name).suffix.lower(), f"give {KNOWN}")
            raise DataError("unknown data set: a file of this kind is not read", where=where, fix=fix)
        absent = "no such file or folder; " if os.sep in name else ""
        fix = f"{absent}known: {', '.join(DATASETS)}, or {KNOWN}{meant(name, DATASETS)}"
        raise DataError(f"unknown data set {one_line(name)!r}", where="dataset", fix=fix)
    if name == "digits" or data_dir is None:
        return None
    path = Path(data_dir)
    if path.is_file() or path.is_dir():
        return path
    what = ("not a file" if path.exists() else "no such file") + " or folder"
    raise DataError(what, where=one_line(path), fix=f"looked for {_SPECS[name].looked_for}")


def _fingerprint(name: str, path: Path | None) -> tuple[tuple[int, ...], ...]:
    """Identity, size and time of change of every file that may be read: part of the cache's key."""
    if path is None or name not in DATASETS:
        return stamp(path) if path else ()
    files = [path] if path.is_file() else [path / file for file in (f"{name}.npz", *sources.known_files())]
    stats = [file.stat() for file in files if file.exists()]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)


@functools.lru_cache(maxsize=1)
def _load(name: str, path: Path | None, _stamp: tuple[tuple[int, ...], ...], stated: Stated) -> Dataset:
    if name not in DATASETS:
        return _own(Path(name), stated)
    if name == "digits":
        data, official = _digits()
        dataset = replace(_dataset("digits", data, None, Stated(pixel_max=255)), official=official)
    else:
        data = _from_files(name, path) if path else _download(name)
        dataset = _built_in(name, data)
    return _prepared(dataset, data, stated) if stated.prepares() else dataset


def _prepared(dataset: Dataset, data: Found, stated: Stated) -> Dataset:
    """A built-in data set with its images changed, or some of them; it is not the official one any more."""
    read = prepared(data, dataset.class_names, stated)
    white = stated.model_copy(update={"pixel_max": 255.0})
    return replace(_dataset(dataset.name, read.found, read.names, white), prepared=read.prepared)


def _from_files(name: str, path: Path) -> Found:
    for read in _SPECS[name].formats:
        if files := read(path, _SPECS[name].shapes()):
            return files
    fix = f"looked for {_SPECS[name].looked_for}"
    raise DataError(f"holds no files of {name}", where=one_line(path), fix=fix)


def _download(name: str) -> Found:
    """Keras' copy, from its cache or the network."""
    import keras

    module = getattr(keras.datasets, {"cifar10": "cifar10", "mnist": "mnist"}.get(name, "fashion_mnist"))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:  # Keras wraps network errors in bare Exceptions
        what = f"cannot be downloaded: {one_line(error, 160)}"
        fix = f"pass --data-dir DIR with {_SPECS[name].looked_for}"
        raise DataError(what, where=name, fix=fix) from error
    arrays = dict(zip(KEYS, (x_train, y_train, x_test, y_test), strict=True))
    return Found(arrays, {key: f"{name} from Keras: {key}" for key in KEYS}, "Keras download")


def _digits() -> tuple[Found, bool]:
    """scikit-learn's 1,797 digits at 28 x 28, split 80/20 by class; and whether they are the usual ones."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch, method = load_digits(), Image.Resampling.BILINEAR
    small, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    # Resized in whole numbers, so that the digest is the same on every machine.
    levels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.stack([np.asarray(Image.fromarray(x).resize((28, 28), method)) for x in levels])
    train, test = stratified_split(labels, 0.2, seed=0)
    arrays = dict(zip(KEYS, (images[train], labels[train], images[test], labels[test]), strict=True))
    official = hashlib.sha256(small.tobytes() + labels.tobytes()).hexdigest() == DIGITS_SHA256
    return Found(arrays, {key: f"digits: {key}" for key in KEYS}, "scikit-learn"), official


def _built_in(name: str, data: Found) -> Dataset:
    spec = _SPECS[name]
    for key in ("x_train", "x_test"):
        if data.arrays[key].dtype != np.uint8:
            what = f"has dtype {one_line(data.arrays[key].dtype, 60)}, {name} has uint8"
            raise DataError(what, where=data.where[key], fix=OWN_FIX)
    dataset = _dataset(name, data, spec.class_names, Stated(pixel_max=255))
    _check_spec(spec, dataset, data)
    if name != "mnist":
        return dataset
    if differ := _unlike_mnist(dataset, data):
        what = f"is not official MNIST: the SHA-256 of the IDX bytes of {', '.join(differ)} differs"
        raise DataError(what, where=data.where[differ[0]], fix=OWN_FIX)
    return replace(dataset, official=True)


def _check_spec(spec: _Spec, dataset: Dataset, data: Found) -> None:
    """Hold a built-in data set to its shapes and, where all classes are of one size, to their counts."""
    for key, shape in spec.shapes().items():
        array, where = getattr(dataset, key), data.where[key]
        if array.size != math.prod(shape) or array.shape[: len(shape)] != shape:
            raise DataError(f"has shape {array.shape}, {dataset.name} has {shape}", where=where)
        if spec.balanced and key.startswith("y"):
            counts, each = np.bincount(array), len(array) // dataset.n_classes
            if (counts != each).any():
                what = f"has {counts.tolist()} images of the classes, {dataset.name} has {each} of each"
                raise DataError(what, where=where, fix="is this another data set?")


def _unlike_mnist(dataset: Dataset, data: Found) -> list[str]:
    """The keys of the arrays whose IDX bytes, rebuilt, are not MNIST's."""
    uint8 = all(data.arrays[key].dtype == np.uint8 for key in ("x_train", "x_test"))
    if not uint8 or dataset.input_shape != (28, 28, 1) or dataset.n_classes != 10:
        return list(KEYS)
    arrays = {key: data.arrays[key].reshape(-1, 28, 28) for key in ("x_train", "x_test")}
    arrays |= {key: getattr(dataset, key).astype(np.uint8) for key in ("y_train", "y_test")}
    return [key for key in KEYS if readers.idx_sha256(arrays[key]) != MNIST_SHA256[key]]


def _own(path: Path, stated: Stated) -> Dataset:
    """The user's own data."""
    read = read_own(path, stated)
    dataset = _dataset(title(str(path)), read.found, read.names, stated)
    if not read.trains:
        return _tests_alone(dataset, read.prepared)
    return replace(dataset, official=not _unlike_mnist(dataset, read.found), prepared=read.prepared)


def _tests_alone(dataset: Dataset, prepared: tuple[str, ...]) -> Dataset:
    """The data set without a training image."""
    none: dict[str, Any] = {"x_train": dataset.x_train[:0], "y_train": dataset.y_train[:0]}
    digest = digest_of((none["x_train"], none["y_train"], dataset.x_test, dataset.y_test))
    return replace(dataset, **none, digest=digest, prepared=(*prepared, "test images alone"))


def _dataset(name: str, data: Found, class_names: tuple[str, ...] | None, stated: Stated = AS_FOUND) -> Dataset:
    """Check and scale the arrays; without names the classes are called by their numbers."""
    x_train, x_test = (images(data, key, stated.pixel_max) for key in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        what = f"images are {x_test.shape[1:]}, the training images {x_train.shape[1:]}"
        raise DataError(what, where=data.where["x_test"], fix="give both the same height, width, channels")
    y_train, y_test = labels_of(data, "y_train", len(x_train)), labels_of(data, "y_test", len(x_test))
    n_classes = stated.classes or (len(class_names) if class_names else count_classes(data, y_train))
    check_labels(y_train, n_classes, data, "y_train")
    check_labels(y_test, n_classes, data, "y_test")
    arrays = (x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))
    for array in arrays:  # one stage's change in place must not reach the next
        array.flags.writeable = False
    given = class_names or ()
    names = checked_names((*given, *map(str, range(len(given), n_classes)))[:n_classes], name)
    return Dataset(name, *arrays, names, digest_of(arrays), data.source, official=False)


def digest_of(arrays: tuple[NDArray[Any], ...]) -> str:
    """SHA-256 (hex) over the shapes and the little-endian contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(little.data.cast("B") if little.size else b"")
    return digest.hexdigest()
