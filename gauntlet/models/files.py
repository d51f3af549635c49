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

if TYPE_CHECKING:
    import keras

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
"""How a function of images is named: `module:function`."""
_NAME = r"(?!\.+[/@]|\.+$)[^/:@%?#]+"
_MODELS = re.compile(rf"models:/{_NAME}(/[\w-]+|@[\w-]+)?", re.ASCII)
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


def load_file(path: Path, *, trust: bool = False) -> keras.Model:
    """A Keras model from a `.keras` or `.h5` file; only with `trust` is code run that it may carry.

    Raises `ModelError`: no readable Keras model, larger than `limits` allow, or it carries code and is not trusted.
    """
    import keras

    config = check_file(path, trust=trust)
    if not trust:
        with _refusing(path):
            _check_size(config)
    with _refusing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' saving formats
        model = keras.models.load_model(path, compile=False, safe_mode=not trust)
        if not isinstance(model, keras.Model):
            raise ModelError(f"not a readable Keras model: it holds a {type(model).__name__}")
    return model


# --- what is in a model's file, before anything of it is built ------------------------------------------------

NAMESPACES = (
    "layers",
    "models",
    "ops",
    "initializers",
    "regularizers",
    "constraints",
    "activations",
    "random",
    "losses",
    "metrics",
    "optimizers",
    "dtype_policies",
    "quantizers",
)
"""Modules of Keras that a model's description may name: none of these loads, fetches or runs a file."""
UNSAFE = {"Lambda": "runs Python code", "__lambda__": "runs Python code", "__typespec__": "imports modules"}
UNSAFE |= {"TorchModuleWrapper": "unpickles", "JaxLayer": "runs Python code", "FlaxLayer": "runs Python code"}
UNSAFE |= dict.fromkeys(
    ("TFSMLayer", "StringLookup", "IntegerLookup", "TextVectorization"), "reads files of its choice"
)
"""Classes of Keras that do more than compute."""
_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


def check_file(path: Path, *, trust: bool = False) -> Any:
    """The description (`config`) of a Keras model's file, read without building anything of it.

    Raises `ModelError`: no such file, too large, not Keras', or it carries code and is not trusted.
    """
    try:
        there = path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        there = False
    if not there:
        raise ModelError(
            "no such model file", where=one_line(path, 300), fix="give a .keras file or a models:/ or runs:/ URI"
        )
    with _refusing(path):
        size, config = path.stat().st_size, _config_of(path)
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"has {size:,} bytes, more than the {MAX_MODEL_BYTES:,} a model may have")
        if not trust:
            _check_config(config)
    return config


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


def _config_of(path: Path) -> Any:
    """The description in a file, by what the file is, not by what it is called."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == _ZIP:
        return _config_of_zip(path)
    if head == _HDF5:
        with path.open("rb") as file:
            return _config_of_hdf5(file)
    pickled = head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"
    what = "a pickle, which runs code when read: refused" if pickled else "neither a .keras archive nor HDF5"
    raise ModelError(f"not a readable Keras model: {what}", fix="save it with model.save")


def _config_of_zip(path: Path) -> Any:
    """Of a `.keras` archive, once its sizes and its weights' file are known to be harmless."""
    with open_zip(path, "a .keras archive") as archive:
        members = {info.filename: info for info in archive.infolist()}
        total = sum(info.file_size for info in members.values())
        if total > MAX_MODEL_BYTES or (total > SUSPICIOUS_BYTES and total > SUSPICIOUS_RATIO * path.stat().st_size):
            raise ModelError(f"declares {total:,} bytes unpacked, at most {MAX_MODEL_BYTES:,} allowed: a zip bomb?")
        if "config.json" not in members:
            raise ModelError("not a readable Keras model: it lacks config.json", fix="save it with model.save")
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
        raise ModelError("not a readable Keras model: it holds weights alone", fix="save it with model.save")
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
    """Refuse whatever would import, unpickle, read a file or run code while the model is built or asked."""
    left = [config]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            _check_class(node)
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _check_class(node: dict[str, Any]) -> None:
    """One object of a description: its class must be one of Keras' that only compute."""
    trust = "ask its maker for plain layers, or pass --trust if you trust where it comes from"
    name, module, registered = (one_line(node.get(k) or "", 80) for k in ("class_name", "module", "registered_name"))
    if name in UNSAFE:
        raise ModelError(f"holds {name}, which {UNSAFE[name]}: refused", fix=trust)
    if ">" in registered and not registered.startswith("keras"):
        raise ModelError(f"holds code of its maker's, {registered}: refused", fix=trust)
    if name and module and not _is_kerass(module):
        raise ModelError(f"names code outside Keras, {module}.{name}: refused", fix=trust)


def _is_kerass(module: str) -> bool:
    """Whether a module is one of Keras' that a description may name."""
    parts = module.split(".")
    parts = [parts[0], *(parts[2:] if parts[1:2] == ["src"] else parts[1:])]
    return module == "builtins" or (parts[0] == "keras" and (len(parts) == 1 or parts[1] in NAMESPACES))


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
