"""Harmless model files of every format, for `benchmarks.scanners`: small, and as their libraries write them."""

from __future__ import annotations

import importlib.util
import pickle  # nosec B403
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gauntlet.quiet import load_tensorflow, no_prints, no_standard_error


def files(folder: Path) -> Iterator[Path]:
    """All of them; PyTorch's and ONNX's where these are installed."""
    makers = [_arrays, _sklearn, _keras]
    makers += [_torch] if importlib.util.find_spec("torch") else []
    makers += [_onnx] if importlib.util.find_spec("onnx") else []
    for make in makers:
        with warnings.catch_warnings(), no_standard_error(), no_prints():
            warnings.simplefilter("ignore")  # of formats that are deprecated
            made = list(make(folder))
        yield from made


def _arrays(folder: Path) -> Iterator[Path]:
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    np.save(folder / "array.npy", x)
    np.savez(folder / "arrays.npz", x=x, y=np.arange(50))
    np.savez_compressed(folder / "packed.npz", x=x)
    for protocol in range(6):
        (folder / f"arrays-{protocol}.pkl").write_bytes(pickle.dumps({"x": x, "n": 3, "names": ["a", "b"]}, protocol))
    yield from sorted(folder.iterdir())


def _sklearn(folder: Path) -> Iterator[Path]:
    """Fitted models of scikit-learn, by pickle, joblib and skops."""
    import joblib
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = np.random.default_rng(0).random((60, 5)), np.arange(60) % 3
    kinds = [RandomForestClassifier(3), HistGradientBoostingClassifier(max_iter=2), KNeighborsClassifier(), SVC(),
             make_pipeline(StandardScaler(), LogisticRegression())]  # fmt: skip
    for number, kind in enumerate(kinds):
        fitted = kind.fit(x, y)
        yield _written(folder / f"model-{number}.pkl", pickle.dumps(fitted))
        for name, compress in (("plain", 0), ("zlib", 3), ("gzip", ("gzip", 3)), ("xz", ("xz", 3))):
            joblib.dump(fitted, path := folder / f"model-{number}-{name}.joblib", compress=compress)
            yield path
    skops.io.dump(kinds[-1], folder / "model.skops")
    yield folder / "model.skops"


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _keras(folder: Path) -> Iterator[Path]:
    """Two networks in all formats that TensorFlow writes."""
    load_tensorflow()
    import keras
    import tensorflow as tf

    for name, model in (("sequential", _sequential()), ("residual", _residual())):
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        for suffix in (".keras", ".h5", ".weights.h5"):
            (model.save_weights if suffix == ".weights.h5" else model.save)(path := folder / f"{name}{suffix}")
            yield path
        model.export(folder / f"{name}-saved", verbose=False)
        yield folder / f"{name}-saved"
        lite = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        yield _written(folder / f"{name}.tflite", lite)


def _sequential() -> Any:
    import keras

    layers = keras.layers
    stack = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(10)]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


def _residual() -> Any:
    import keras

    layers = keras.layers
    images = keras.Input((8, 8, 1))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(images))
    x = layers.Add()([x, layers.Conv2D(4, 1)(images)])
    return keras.Model(images, layers.Dense(10)(layers.GlobalAveragePooling2D()(keras.ops.relu(x))))


def _torch(folder: Path) -> Iterator[Path]:
    """One network as weights, checkpoint, TorchScript (scripted and traced) and exported program."""
    import torch
    from safetensors.torch import save_file

    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )
    x, state = torch.zeros(2, 1, 8, 8), module.state_dict()
    torch.save(state, folder / "weights.pt")
    torch.save({"epoch": 3, "model": state, "loss": 0.5}, folder / "checkpoint.pth")
    torch.save(state, folder / "older.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "weights.safetensors")
    torch.jit.save(torch.jit.script(module.eval()), folder / "scripted.pt")
    torch.jit.save(torch.jit.trace(module, x), folder / "traced.pt")
    batch = {0: torch.export.Dim("n", min=1, max=1024)}
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=(batch,)), folder / "program.pt2")
    names = ("weights.pt", "checkpoint.pth", "older.pt", "weights.safetensors", "scripted.pt", "traced.pt")
    yield from (folder / name for name in (*names, "program.pt2"))


def _onnx(folder: Path) -> Iterator[Path]:
    """A dense network, its weights in the file and in one beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    w = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", ["n", 1, 8, 8]), ("y", ["n", 10]))]  # fmt: skip
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [w]))
    onnx.save(model, folder / "network.onnx")
    place = folder / "beside"
    place.mkdir()
    onnx.save(model, place / "network.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    yield from (folder / "network.onnx", place / "network.onnx")
