"""Pickles in every container: what they import and run is found, and what is not on the allow-list is never clean."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from gauntlet.assurance.scan.findings import Scanned
from gauntlet.assurance.scan.models import scan
from tests.gauntlet.assurance.scan.payloads import GLOBALS, SNEAKY, WAYS, Payload, rules


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_told_and_not_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([1, {"a": Payload(tmp_path / "ran")}], protocol))
    result = scan(tmp_path / "m.pkl")
    assert (rules(result), result.errors) == ({"GM010"}, ())
    assert "mkdir" in result.findings[0].message
    assert not (tmp_path / "ran").exists()


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
            library = importlib.import_module(module)
        assert {name for name in names if not name.startswith("__")} <= {
            name for name, thing in vars(library).items() if getattr(thing, "__module__", "") == module
        }


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
