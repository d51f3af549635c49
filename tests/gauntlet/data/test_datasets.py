"""A data set: subsets, validation, summary, names and cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gauntlet.data.datasets import DATASETS, Dataset, read_dataset
from gauntlet.data.splits import stratified_split
from gauntlet.errors import SettingError
from tests.gauntlet.data.files import ROOT, own, refused

pytestmark = pytest.mark.usefixtures("no_cache")

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


# The cache


def test_cache_keeps_the_last_and_sees_changes(tmp_path: Path) -> None:
    path = own(tmp_path)
    first = read_dataset(str(path))
    assert read_dataset(str(path)) is first
    own(tmp_path, x_train=np.zeros((40, 4, 4), np.uint8))
    os.utime(path, ns=(1, 1))
    assert read_dataset(str(path)).digest != first.digest
