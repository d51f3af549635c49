"""Model files and their digests: what is read back, and what is refused in one line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from gauntlet.errors import ModelError
from gauntlet.models.digest import digest
from gauntlet.models.files import load_file
from tests.gauntlet.models.bench import Bench

# --- digests ------------------------------------------------------------------------------------------------


def test_a_digest_changes_with_a_single_weight(bench: Bench) -> None:
    network = bench.network()
    before = digest(network)
    assert digest(network) == before
    values = network.get_weights()
    values[0][3, 4] = np.nextafter(values[0][3, 4], np.float32(1))
    network.set_weights(values)
    assert digest(network) != before


def test_a_digest_survives_the_file(bench: Bench, tmp_path: Path) -> None:
    network = bench.network(activation="softmax")
    network.save(tmp_path / "m.keras")
    assert digest(load_file(tmp_path / "m.keras")) == digest(network)


def test_a_digest_changes_with_an_activation(bench: Bench) -> None:
    network = bench.network()
    before = digest(network)
    network.layers[-1].activation = keras.activations.relu
    assert digest(network) != before


# --- files --------------------------------------------------------------------------------------------------


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_saved_model_is_read_back(suffix: str, bench: Bench, tmp_path: Path) -> None:
    network, path = bench.network(), tmp_path / f"m.{suffix}"
    network.save(path)
    np.testing.assert_array_equal(load_file(path)(bench.x).numpy(), network(bench.x).numpy())


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    refused(tmp_path / "none.keras", "no such model file (give a .keras file")
    refused(tmp_path, "no such model file")


@pytest.mark.parametrize("suffix", ["keras", "h5", "txt"])
@pytest.mark.parametrize("content", [b"", b"not a model\n" * 50], ids=["empty", "text"])
def test_a_file_that_is_no_model_is_one_line(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content)
    refused(path, "not a readable Keras model: ")


def test_an_archive_that_holds_no_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    refused(path, "not a readable Keras model: ")


def test_an_archive_of_data_is_no_model_of_another_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=np.zeros(3))
    refused(tmp_path / "m.npz", "neither a .keras archive nor HDF5")


def test_a_cut_file_is_one_line(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "cut.keras"
    bench.network().save(path)
    path.write_bytes(path.read_bytes()[:-500])
    refused(path, "not a readable Keras model: ")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_that_carries_code_is_refused(suffix: str, tmp_path: Path) -> None:
    code = keras.layers.Lambda(lambda x: x, output_shape=(28, 28, 1))
    network = keras.Sequential([keras.Input((28, 28, 1)), code, keras.layers.Flatten(), keras.layers.Dense(10)])
    network.save(tmp_path / f"code.{suffix}")
    refused(tmp_path / f"code.{suffix}", "a Lambda layer runs Python code: config: layer ")
    # who trusts the file can load it: nothing else is wrong with it
    keras.models.load_model(tmp_path / f"code.{suffix}", compile=False, safe_mode=False)
