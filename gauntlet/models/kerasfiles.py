"""Keras' files: their description is read and judged before anything of it is built."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gauntlet.assurance.scan.models.configs import scan_config
from gauntlet.assurance.scan.models.rules import Look
from gauntlet.data.readers import open_zip, read_member
from gauntlet.errors import ModelError, one_line
from gauntlet.limits import (
    MAX_ACTIVATION,
    MAX_CONFIG_BYTES,
    MAX_MODEL_BYTES,
    MAX_WEIGHTS,
    SUSPICIOUS_BYTES,
    SUSPICIOUS_RATIO,
)
from gauntlet.models.container import Copy
from gauntlet.models.kerasold import modern

if TYPE_CHECKING:
    import keras


def check(copy: Copy, *, trust: bool = False) -> None:
    """Raise `ModelError` unless the file holds a description, without `trust` of what is on the allow-list."""
    config = config_of(copy)
    if not trust:
        check_config(config)


def read(copy: Copy, *, trust: bool = False) -> keras.Model:
    """The model of a file that was checked, its sizes first."""
    import keras

    if not trust:
        _check_size(config_of(copy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' saving formats
        model = _loaded(copy, not trust)
    if not isinstance(model, keras.Model):
        raise ModelError(f"not a readable Keras model: it holds a {type(model).__name__}")
    return model


def _loaded(copy: Copy, safe: bool) -> Any:
    """What Keras makes of a file; of one that Keras 2 wrote, with its description in the words of Keras 3."""
    import keras

    if copy.kind == "keras":
        ours = {} if safe else {"Frozen": _frozen()}
        return keras.models.load_model(copy.path, ours, compile=False, safe_mode=safe)
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import load_model_from_hdf5

    with h5py.File(copy.path, "r+", driver="core", backing_store=False) as content:  # changed in memory alone
        content.attrs["model_config"] = json.dumps(config_of(copy))
        return load_model_from_hdf5(content, compile=False, safe_mode=safe)


def _frozen() -> type:
    """The layer that a SavedModel becomes: part of what is sent to workers, and of no stranger's file."""
    from gauntlet.models.savedmodel import Frozen

    return Frozen


def config_of(copy: Copy) -> Any:
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
        config, version = content.attrs.get("model_config"), content.attrs.get("keras_version", "")
    if config is None:
        fix = "build the network, load_weights, and model.save('FILE.keras')"
        raise ModelError("not a readable Keras model: it holds weights alone", fix=fix)
    version = version.decode() if isinstance(version, bytes) else str(version)
    return modern(json.loads(config)) if version.startswith("2.") else json.loads(config)


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


def check_config(config: Any) -> None:
    """Refuse whatever is not on the allow-list of classes, operations and functions that only compute."""
    look = Look()
    scan_config(_loaded_part(config), "model", "config", look)
    for finding in look.result().findings:
        fix = "ask its maker for plain layers, or pass --trust if you trust where it comes from"
        raise ModelError(f"{one_line(finding.message, 300)}: refused", fix=fix)


NOT_LOADED = ("compile_config", "optimizer_config")
"""Parts of the outermost model that loading with `compile=False` leaves out; models within it are compiled."""


def _loaded_part(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {key: value for key, value in config.items() if key not in NOT_LOADED}


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
