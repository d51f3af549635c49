"""Model files that people bring: checked before they are loaded."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gauntlet.assurance.scan.models.configs import NOT_LOADED, scan_config
from gauntlet.assurance.scan.models.rules import Look
from gauntlet.data.readers import one_line, open_zip, read_member
from gauntlet.errors import InputError, ModelError
from gauntlet.limits import (
    MAX_ACTIVATION,
    MAX_CONFIG_BYTES,
    MAX_MODEL_BYTES,
    MAX_TEXT,
    MAX_WEIGHTS,
    SUSPICIOUS_BYTES,
    SUSPICIOUS_RATIO,
)
from gauntlet.models import trial
from gauntlet.models.container import Copy, copied

if TYPE_CHECKING:
    import keras

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
"""How a function of images is named: `module:function`."""
_NAME = r"(?!\.+[/@]|\.+$)[^/:@%?#]+"
_MODELS = re.compile(rf"models:/{_NAME}(/(?!\d{{19}})[\w-]+|@[\w-]+)?", re.ASCII)
_RUNS = re.compile(r"runs:/[A-Za-z0-9][\w-]*(/(?!\.+(/|$))[\w .-]+)+", re.ASCII)


def check_name(name: str, *, trust: bool = False) -> None:
    """Raise `ModelError` for a model that cannot be meant, by its name and, if it is a file, by what is in it."""
    where, forms = one_line(name, 200), "give FILE.keras, models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID/model"
    if not name.strip() or len(name) > MAX_TEXT or not name.isprintable():
        what = "is empty" if not name.strip() else f"has {len(name):,} characters, or such as cannot be printed"
        raise ModelError(f"the model's name {what}", where=where, fix=forms)
    if FUNCTION.fullmatch(name):
        if not trust:
            raise ModelError("importing it runs its code", where=where, fix="pass trust if you trust that code")
    elif is_uri(name):
        if not (_MODELS.fullmatch(name) or _RUNS.fullmatch(name)):
            raise ModelError("no such form of a model's URI", where=where, fix=forms)
    elif re.match(r"[A-Za-z][\w+.-]*:", name):
        raise ModelError("models are not fetched from there", where=where, fix=forms)
    else:
        check_file(Path(name), trust=trust)


def is_uri(name: str) -> bool:
    """Whether a model is named by an MLflow URI."""
    return name.startswith(("models:", "runs:"))


def load_file(path: Path, *, trust: bool = False, known: bool = False) -> keras.Model:
    """A Keras model from a `.keras` or `.h5` file; only with `trust` is code run that it may carry.

    Without trust it is first built and asked in a process of its own (`trial`), unless it is `known`: registered by a
    stage, with a digest that is checked. Raises `ModelError`: no readable Keras model, larger than `limits` allow, not
    on the allow-list, or the trial failed.
    """
    with _refusing(path), copied(_there(path)) as copy:
        config = _config_of(copy)
        if not trust:
            _check_config(config)
            if not known:
                trial.passed(copy.path, copy.sha256)
        return build(copy, trust=trust)


def check_file(path: Path, *, trust: bool = False) -> None:
    """Raise `ModelError` unless a file is a Keras model on the allow-list; nothing of it is built here.

    The trial of a file that is not trusted is started, so that it runs beside what comes next.
    """
    with _refusing(path), copied(_there(path)) as copy:
        config = _config_of(copy)
        if not trust:
            _check_config(config)
            trial.ahead(path.absolute(), copy.sha256)


def build(copy: Copy, *, trust: bool = False) -> keras.Model:
    """The model of a file that was checked, its sizes first."""
    import keras

    if not trust:
        _check_size(_config_of(copy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' saving formats
        model = keras.models.load_model(copy.path, compile=False, safe_mode=not trust)
    if not isinstance(model, keras.Model):
        raise ModelError(f"not a readable Keras model: it holds a {type(model).__name__}")
    return model


def _there(path: Path) -> Path:
    """The path of a file that exists; else what people of that format do next."""
    try:
        there, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # too long, or with a NUL
        there = folder = False
    if there and path.suffix.lower() not in OTHERS:
        return path
    what = OTHERS.get(path.suffix.lower(), "no such model file")
    if folder:
        saved = (path / "saved_model.pb").is_file()
        what = OTHERS["saved_model"] if saved else "no such model file: it is a folder"
    named, _, fix = what.partition(": ")
    raise ModelError(named, where=one_line(path, 300), fix=fix or "give a .keras file or a models:/ or runs:/ URI")


_FUNCTION = "give module:function, a function of images that runs it"
_LOG = "log it with mlflow.{0}.log_model and give models:/NAME/VERSION --trust, or " + _FUNCTION
_SAVE = "load it where it was made and model.save('FILE.keras'), or " + _FUNCTION
OTHERS = {
    "saved_model": f"a SavedModel folder is not read: {_SAVE}",
    ".pb": f"a frozen graph is not read: {_SAVE}",
    ".safetensors": f"weights alone are no model: build the network, load them and save it, or {_FUNCTION}",
    ".tflite": f"TensorFlow Lite is not read as a file: {_FUNCTION}",
    ".onnx": f"ONNX is not read as a file: {_LOG.format('onnx')}",
    **dict.fromkeys((".pt", ".pth", ".pt2"), f"PyTorch is not read as a file: {_LOG.format('pytorch')}"),
    **dict.fromkeys((".pkl", ".joblib"), f"a pickle is not read as a file: {_LOG.format('sklearn')}"),
}
"""Files of other formats, by suffix: what they are, and what to do."""


# --- what is in a model's file, before anything of it is built ------------------------------------------------


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever a parser raises becomes one `ModelError` that names the file."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.what, where=one_line(path), fix=error.fix) from error
    except (Exception, SystemExit) as error:  # Keras raises a dozen kinds, from KeyError to zipfile's own
        told = error.what if isinstance(error, InputError) else str(error).strip()
        reason = told.splitlines()[0] if told else type(error).__name__
        what = f"not a readable Keras model: {one_line(reason, 300)}"
        raise ModelError(what, where=one_line(path), fix="save it with model.save") from error


def _config_of(copy: Copy) -> Any:
    """The description in a file, read without building anything of it."""
    if copy.kind == "keras":
        return _config_of_zip(copy.path)
    with copy.path.open("rb") as file:
        return _config_of_hdf5(file)


MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
"""All that a `.keras` archive holds."""


def _config_of_zip(path: Path) -> Any:
    """Of a `.keras` archive, once its sizes and its weights' file are known to be harmless."""
    with open_zip(path, "a .keras archive") as archive:
        members = {info.filename: info for info in archive.infolist()}
        total = sum(info.file_size for info in members.values())
        if total > MAX_MODEL_BYTES or (total > SUSPICIOUS_BYTES and total > SUSPICIOUS_RATIO * path.stat().st_size):
            raise ModelError(f"declares {total:,} bytes unpacked, at most {MAX_MODEL_BYTES:,} allowed: a zip bomb?")
        if "config.json" not in members:
            raise ModelError("not a readable Keras model: it lacks config.json", fix="save it with model.save")
        if others := sorted(name for name in members if name not in MEMBERS and not name.endswith("/")):
            raise ModelError(f"holds {one_line(others[0], 80)}, which no plain model does: refused")
        for name, info in members.items():
            if name.endswith(".h5"):
                _check_hdf5(io.BytesIO(read_member(archive, info, MAX_MODEL_BYTES, name)))
        return json.loads(read_member(archive, members["config.json"], MAX_CONFIG_BYTES, "config.json"))


def _config_of_hdf5(file: IO[bytes]) -> Any:
    import h5py

    _check_hdf5(file)
    with h5py.File(file, "r") as content:
        config = content.attrs.get("model_config")
    if config is None:
        fix = "build the network, load_weights, and model.save('FILE.keras')"
        raise ModelError("not a readable Keras model: it holds weights alone", fix=fix)
    return json.loads(config)


def _check_hdf5(file: IO[bytes]) -> None:
    """Refuse HDF5 that reaches into other files, or that declares more than a model may hold."""
    import h5py

    with h5py.File(file, "r") as content:
        left, seen, size = [content], set(), 0
        while left:
            group = left.pop()
            for name in group:
                if isinstance(group.get(name, getlink=True), h5py.ExternalLink | h5py.SoftLink):
                    raise ModelError(f"its weights link elsewhere ({one_line(name, 60)}): refused")
                item = group[name]
                key = h5py.h5o.get_info(item.id).addr
                if isinstance(item, h5py.Group) and key not in seen:
                    left.append(item)
                elif isinstance(item, h5py.Dataset):
                    size += item.size * item.dtype.itemsize
                    if item.is_virtual or item.external:
                        raise ModelError(f"its weights lie in other files ({one_line(name, 60)}): refused")
                seen.add(key)
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"declares weights of {size:,} bytes, at most {MAX_MODEL_BYTES:,} allowed")


def _check_config(config: Any) -> None:
    """Refuse whatever is not on the allow-list of classes, operations and functions that only compute."""
    look = Look()
    scan_config(config, "model", "config", look, skip=NOT_LOADED)
    for finding in look.result().findings:
        fix = "ask its maker for plain layers, or pass --trust if you trust where it comes from"
        raise ModelError(f"{one_line(finding.message, 300)}: refused", fix=fix)


def _check_size(config: Any) -> None:
    """Build the description without a single weight, and see how large it would be."""
    import keras
    from keras.src.backend.common import global_state

    names = "uninitialized_variables"
    before = list(global_state.get_global_attribute(names) or [])
    try:
        with keras.StatelessScope(initialize_variables=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _built(config)
    finally:  # Keras would make those weights when the next scope ends
        global_state.set_global_attribute(names, before)
    weights = model.count_params() if model.built else 0
    if weights > MAX_WEIGHTS:
        raise ModelError(f"declares {weights:,} weights, at most {MAX_WEIGHTS:,} allowed")
    for layer in model.layers:
        size = max((math.prod(n or 1 for n in output.shape) for output in _outputs(layer)), default=0)
        if size > MAX_ACTIVATION:
            what = f"its layer {one_line(layer.name, 60)} gives {size:,} numbers an image"
            raise ModelError(f"{what}, at most {MAX_ACTIVATION:,} allowed")


def _built(config: Any) -> keras.Model:
    """The model of a description; in HDF5 an older form of it, which names no modules."""
    from keras.src.legacy.saving import saving_utils
    from keras.src.saving.serialization_lib import SafeModeScope, deserialize_keras_object

    config = _uncompiled(config)
    with SafeModeScope(True):
        return deserialize_keras_object(config) if "module" in config else saving_utils.model_from_config(config)


def _uncompiled(node: Any) -> Any:
    """A description without optimizers and metrics, which are not loaded either."""
    if isinstance(node, dict):
        return {key: _uncompiled(value) for key, value in node.items() if key != "compile_config"}
    return [_uncompiled(value) for value in node] if isinstance(node, list) else node


def _outputs(layer: keras.Layer) -> list[Any]:
    """The symbolic outputs of a layer; none where it has not been called."""
    try:
        output = layer.output
    except (AttributeError, ValueError):
        return []
    return list(output) if isinstance(output, list | tuple) else [output]
