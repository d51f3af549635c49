"""Hostile configurations, pickles and archives, and the rules that a scan of them names."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from gauntlet.assurance.scan.findings import Scanned


class Payload:
    """Unpickled, it would make a file: what no test may find."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def rules(result: Scanned) -> set[str]:
    return {finding.rule for finding in result.findings}


def archive(path: Path, **members: Any) -> Path:
    """A zip whose members are `name=content`, `__` standing for a dot; mappings are written as JSON."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            text = json.dumps(content) if isinstance(content, dict) else content
            opened.writestr(name.replace("__", "."), text)
    return path


def layer(**entry: Any) -> dict[str, Any]:
    """A sequential model with one layer, deep enough that only a walk finds it."""
    wrapped = {"class_name": "TimeDistributed", "module": "keras.layers", "config": {"name": "t", "layer": entry}}
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": [wrapped]}}


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


OLD_LAMBDA = {"function": ["4wAA", None, None], "function_type": "lambda"}
BYTECODE = {"class_name": "__lambda__", "config": {"value": "4wAA", "defaults": None, "closure": None}}
GADGET = function("keras.config", "enable_unsafe_deserialization")
HOSTILE_CONFIGS: list[tuple[dict[str, Any], set[str]]] = [
    (layer(class_name="Lambda", module="keras.layers", config={"name": "l", "function": BYTECODE}), {"GM001", "GM002"}),
    (layer(class_name="Lambda", config=OLD_LAMBDA), {"GM001", "GM002"}),
    (layer(class_name="Lambda", module="keras.layers", config={"name": "l", "function": GADGET}), {"GM001", "GM005"}),
    (layer(class_name="Dense", module="keras.layers", config={"activation": BYTECODE}), {"GM002"}),
    (layer(class_name="system", module="os", config="id"), {"GM003"}),
    (layer(class_name="Popen", module="subprocess", config={"args": ["id"]}), {"GM003"}),
    (layer(class_name="Dense", module="keras.layers", config={"activation": function("builtins", "eval")}), {"GM003"}),
    (layer(class_name="Odd", module="somebody.layers", config={}), {"GM004"}),
    (layer(class_name="Odd", module=None, registered_name="theirs>Odd", config={}), {"GM004"}),
    (layer(class_name="theirs>Odd", config={}), {"GM004"}),
    ({"class_name": "Sequential", "compile_config": {"loss": function("builtins", "my_loss")}}, {"GM004"}),
    ({"class_name": "Sequential", "compile_config": {"loss": function("os", "system")}}, {"GM003"}),
    (layer(class_name="TFSMLayer", module="keras.layers", config={"filepath": "/tmp/x"}), {"GM006"}),
    (layer(class_name="StringLookup", module="keras.layers", config={"vocabulary": "/etc/passwd"}), {"GM006"}),
    (layer(class_name="Dense", module="keras.layers", config={"name": "../../etc/x"}), {"GM007"}),
]  # fmt: skip


def save(how: Callable[..., None], path: Path, *arrays: np.ndarray) -> None:
    with path.open("wb") as opened:
        how(opened, *arrays)


WAYS: dict[str, Callable[[Any, Path], object]] = {
    "joblib": lambda value, path: joblib.dump(value, path),
    "joblib-zlib": lambda value, path: joblib.dump(value, path, compress=("zlib", 3)),
    "joblib-gzip": lambda value, path: joblib.dump(value, path, compress=("gzip", 3)),
    "joblib-xz": lambda value, path: joblib.dump(value, path, compress=("xz", 3)),
    "gzip": lambda value, path: path.write_bytes(gzip.compress(pickle.dumps(value))),
    "bz2": lambda value, path: path.write_bytes(bz2.compress(pickle.dumps(value))),
    "lzma": lambda value, path: path.write_bytes(lzma.compress(pickle.dumps(value), lzma.FORMAT_ALONE)),
    "npy": lambda value, path: save(np.save, path, np.array([value], dtype=object)),
    "npz": lambda value, path: save(np.savez, path, np.zeros(3), np.array([value], dtype=object)),
    "torch": lambda value, path: archive(path, **{"m/data__pkl": pickle.dumps(value), "m/data/0": b"\0" * 40}),
    "zip in zip": lambda value, path: archive(
        path, inner=archive(path.with_suffix(".in"), x=pickle.dumps(value)).read_bytes()
    ),
}


GLOBALS: list[tuple[bytes, set[str]]] = [
    (b"cos\nsystem\n.", {"GM010"}),
    (b"c__builtin__\neval\n.", {"GM010"}),
    (b"ccommands\ngetoutput\n.", {"GM010"}),
    (b"cnumpy.testing._private.utils\nrunstring\n.", {"GM010"}),
    (b"\x80\x04\x8c\x07sklearn\x8c\x0eutils.os.popen\x93.", {"GM010"}),
    (b"(S'id'\niposix\nsystem\n.", {"GM010"}),
    (b"csomebody\nModel\n.", {"GM011"}),
    (b"csklearn.utils\nresample\n.", {"GM011"}),
    (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.", {"GM010"}),
    (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", {"GM010"}),
    (b"\x80\x04\x8c\x01a]\x93.", {"GM012"}),
    (b"\x80\x02\x82\x01.", {"GM012"}),
    (b"cbuiltins\nset\n.", set()),
]


WRAPPED = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
LIST = b"(" + WRAPPED + b"cbuiltins\nobject\nNl"
MADE, SHAPE = WRAPPED + b")\x81", b"(S'shape'\n(I1\nt"
DTYPED = b"S'dtype'\ncnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
HIDDEN = b"U\x10..cos\nsystem\n)R.."
"""To one reader a text, to one that is two bytes further an import."""
SNEAKY: dict[str, bytes] = {
    "a wrapper made by copyreg of a list that becomes its arguments": b"\x80\x02ccopyreg\n_reconstructor\n"
    + b"cbuiltins\ntuple\n("
    + LIST
    + b"tRR}"
    + SHAPE
    + DTYPED
    + b"ub"
    + HIDDEN,
    "attributes of the wrapper's class": b"\x80\x02"
    + WRAPPED
    + b"(N}S'numpy_array_alignment_bytes'\nI16\nstb0"
    + MADE
    + b"}"
    + SHAPE
    + DTYPED
    + b"ub"
    + HIDDEN,
    "attributes of a class": b"\x80\x02csklearn.svm._classes\nSVC\n(N}S'fit'\ncbuiltins\nlist\nstb.",
    "a wrapper that is described twice": b"\x80\x02"
    + MADE
    + b"q\x05}S'numpy_array_alignment_bytes'\nI16\ns"
    + SHAPE
    + DTYPED
    + b"ub\x00x0h\x05}"
    + SHAPE
    + DTYPED
    + b"ub"
    + HIDDEN,
    "a wrapper whose alignment is computed": b"\x80\x02"
    + MADE
    + b"}"
    + SHAPE
    + DTYPED
    + b"S'numpy_array_alignment_bytes'\ncbuiltins\nint\n(tRub"
    + HIDDEN,
    "a wrapper one of whose keys is computed": b"\x80\x02"
    + MADE
    + b"}"
    + SHAPE
    + DTYPED
    + b"ucbuiltins\nstr\n(S'shape'\ntR(I0\ntsb"
    + HIDDEN,
    "a wrapper made by copyreg": b"ccopyreg\n_reconstructor\n(" + WRAPPED + b"cbuiltins\nobject\nNtR}b.",
    "a wrapper that is called": WRAPPED + b")R}b.",
    "a name computed at run time": b"\x80\x04cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93.",
    "a command runner": b"c_osx_support\n_read_output\n(Vid\ntR.",
    "another": b"cuuid\n_get_command_stdout\n(Vid\ntR.",
    "a file opener": b"c_pyio\nopen\n(V/etc/passwd\ntR.",
    "a reader of pickles": b"cpandas\nread_pickle\n(V/tmp/x\ntR.",
    "a re-export of scikit-learn's": b"csklearn.utils.fixes\nPath\n(V/tmp\ntR.",
    "a class of nobody's": b"csomebody.module\nModel\n)R.",
}
