"""Fuzz the checker of model files, and the scanner of pickles: nothing but one clear line or a verdict comes out.

    python -m tests.hostile.fuzz_models checker --minutes 10
    python -m tests.hostile.fuzz_models pickles --minutes 10

Whole files, written by Keras, joblib, pickle and TensorFlow, are spoilt in two ways: in their bytes, and in what they
mean (a value of the description, an opcode). The checker may raise a `ModelError` of one line and no more. A pickle
that the scanner calls clean is read by a reader that notes what would be imported: nothing that is not allowed may be.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import pickletools
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from joblib import numpy_pickle

from benchmarks import harmless
from gauntlet.assurance.scan.models import Limits, scan
from gauntlet.assurance.scan.models.objects import rule_of
from gauntlet.errors import GauntletError
from gauntlet.models import files
from gauntlet.models.container import copied
from tests.hostile.fuzz import bound_memory, drawn, spoil

Draw = np.random.Generator
SMALL = Limits(member_bytes=64 << 20, total_bytes=64 << 20, text_bytes=4 << 20)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 1e308, float("nan"), "", "../x", "Lambda", "function", "__lambda__", "os", "keras",
    "keras.src.ops.core", "Switch", "TFSMLayer", "Functional", "\ud800", "x" * 300, [], {}, [[]], {"class_name": "x"},
    {"class_name": "Lambda", "config": {}}, {"class_name": "function", "module": "os", "config": "system"},
    ["images", 0, 0], {"config": None, "class_name": None},
)  # fmt: skip
"""What a value of a description is replaced by."""
GLOBALS = (
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"csomebody\nrun\n",
    b"\x8c\x02os\x8c\x06system\x93",
    b"(S'id'\nios\nsystem\n",
)


# --- how files are spoilt -----------------------------------------------------------------------------------


def meant(config: Any, draw: Draw) -> Any:
    """A description with one to three values replaced, doubled, moved or left out."""
    for _ in range(int(draw.integers(1, 4))):
        places = [
            (node, key) for node in _nodes(config) for key in (node if isinstance(node, dict) else range(len(node)))
        ]
        if not places:
            break
        node, key = places[int(draw.integers(len(places)))]
        how = int(draw.integers(4))
        if how == 0:
            node[key] = ODD[int(draw.integers(len(ODD)))]
        elif how == 1:
            other, place = places[int(draw.integers(len(places)))]
            node[key] = json.loads(json.dumps(other[place]))
        elif how == 2 and isinstance(node, dict):
            node[str(draw.choice(["config", "class_name", "module", "compile_config", "layers"]))] = node.pop(key)
        else:
            del node[key]
    return config


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node)))


def _nodes(config: Any) -> list[Any]:
    nodes, left = [], [config]
    while left:
        node = left.pop()
        if isinstance(node, dict | list) and node:
            nodes.append(node)
            left.extend(node.values() if isinstance(node, dict) else node)
    return nodes


def described(data: bytes, draw: Draw) -> bytes:
    """A `.keras` archive or HDF5 with a spoilt description."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        import h5py

        with h5py.File(io.BytesIO(data), "r+") as content:
            content.attrs["model_config"] = json.dumps(meant(json.loads(content.attrs["model_config"]), draw))
            stream = io.BytesIO(content.id.get_file_image())
        return stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(stream, "w") as spoilt:
        for name in whole.namelist():
            text = whole.read(name)
            if name == "config.json":
                text = json.dumps(meant(json.loads(text), draw)).encode("utf-8", "surrogatepass")
            spoilt.writestr(name, text)
    return stream.getvalue()


def opcodes(data: bytes, draw: Draw) -> bytes:
    """A pickle with an import, or some of its own opcodes, put between two opcodes."""
    places = [place for _, _, place in _opcodes(data) if place]
    at, given = (places[int(draw.integers(len(places)))] for _ in range(2)) if len(places) > 1 else (0, 0)
    piece = (
        GLOBALS[int(draw.integers(len(GLOBALS)))]
        if draw.random() < 0.5
        else data[given : given + int(draw.integers(1, 20))]
    )
    return data[:at] + piece + data[at:]


def _opcodes(data: bytes) -> list[tuple[Any, Any, int | None]]:
    nodes = []
    with suppress(Exception):  # joblib's arrays are no opcodes
        nodes.extend(pickletools.genops(data))
    return nodes


# --- what is fuzzed -----------------------------------------------------------------------------------------


class Forbidden(Exception):
    """A name that a clean pickle asked for."""


class Anything:
    """Stands for an object that a pickle makes: it takes whatever is done to it, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take any arguments."""

    __setstate__ = append = extend = add = __setitem__ = __init__


def found(module: str, name: str) -> Any:
    """The object of a name that is allowed; joblib's description of an array and its types are what they are."""
    if rule_of(module, name):
        raise Forbidden(f"{module}.{name}")
    known: dict[tuple[str, str], Any] = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): numpy_pickle.NumpyArrayWrapper,
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
    }
    return known.get((module, name), Anything)


class Reader(pickle._Unpickler):
    """Reads as `pickle.load` does, and stops at the first import that is not allowed."""

    def find_class(self, module: str, name: str) -> Any:
        """Only what is allowed."""
        return found(module, name)


class ArrayReader(numpy_pickle.NumpyUnpickler):
    """Reads as `joblib.load` does, which goes past arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Only what is allowed."""
        return found(module, name)


def read_clean(path: Path, data: bytes) -> str:
    """What the scanner says; for a clean pickle `Forbidden` is raised when it imports what it should not."""
    path.write_bytes(data)
    result = scan(path, SMALL)
    told = [*(finding.message for finding in result.findings), *result.errors]
    assert all(line.isprintable() for line in told), told
    if told:
        return "told"
    if data[:1] not in b"\x80(]}cN":  # compressed: what is in it is read when it is fuzzed by itself
        return "clean"
    readers = [Reader(io.BytesIO(data)), ArrayReader(str(path), io.BytesIO(data), ensure_native_byte_order=False)]
    for reader in readers:
        with suppress(*BROKEN):
            reader.load()
    return "clean, read"


BROKEN = (ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError,
          RuntimeError, SystemError, TypeError, ValueError, pickle.UnpicklingError)  # fmt: skip
"""What readers raise of a spoilt file, in which there is no harm."""


def check(path: Path, data: bytes) -> str:
    """What the checker says of a file under this name."""
    path.write_bytes(data)
    try:
        with files._refusing(path), copied(path) as copy:
            files._check(copy)
    except GauntletError as error:
        line = str(error)
        assert line.isprintable(), repr(line)
        assert len(line) < 2_000, len(line)
        return "refused"
    return "passed"


def check_folder(path: Path, data: bytes) -> str:
    """What the scanner says of a SavedModel."""
    path.mkdir(exist_ok=True)
    (path / "saved_model.pb").write_bytes(data)
    result = scan(path, SMALL)
    assert all(line.isprintable() for line in result.errors), result.errors
    return "told" if result.findings or result.errors else "clean"


Target = tuple[str, bytes, Callable[[Path, bytes], str], tuple[Callable[[bytes, Draw], bytes], ...]]


def made(folder: Path) -> list[Path]:
    """Whole files, made in a folder unless it has them."""
    listed = folder / "made.json"
    if not listed.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        listed.write_text(json.dumps([str(path.relative_to(folder)) for path in harmless.files(folder)]))
    return [folder / name for name in json.loads(listed.read_text())]


def targets(what: str, paths: list[Path]) -> list[Target]:
    """Whole files: their names, their bytes, what is asked of them, and how they are spoilt."""

    def spoilt(data: bytes, draw: Draw) -> bytes:
        return spoil(data, drawn(draw))

    nodes: list[Target] = []
    for path in paths:
        plain = path.suffix in (".pkl", ".joblib")
        if what == "pickles" and plain:
            nodes.append((path.name, path.read_bytes(), read_clean, (spoilt, opcodes)))
        elif what == "checker" and path.is_dir():
            nodes.append(("saved", (path / "saved_model.pb").read_bytes(), check_folder, (spoilt,)))
        elif what == "checker" and not plain:
            ways = (spoilt, described) if path.suffix in (".keras", ".h5") and "weights" not in path.name else (spoilt,)
            nodes.append((path.name, path.read_bytes(), check, ways))
    return nodes


def run(what: str, seconds: float, seed: int, whole: Path, tell: Callable[[str], None] = print) -> dict[str, object]:
    """Fuzz for so long, from the whole files in a folder; every find is told, with the file that makes it."""
    counts: Counter[str] = Counter()
    finds: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = targets(what, made(whole))
        bound_memory()
        draw, start = np.random.default_rng(seed), time.monotonic()
        while time.monotonic() - start < seconds:
            name, data, ask, ways = kinds[sum(counts.values()) % len(kinds)]
            changed = ways[int(draw.integers(len(ways)))](data, draw)
            try:
                counts[f"{name}: {ask(folder / name, changed)}"] += 1
                assert {path.name for path in folder.iterdir()} <= {kind[0] for kind in kinds}
            except Exception as error:  # a find
                counts[f"{name}: find"] += 1
                kept = Path(tempfile.gettempdir()) / f"find-{what}-{seed}-{len(finds)}-{name}"
                kept.write_bytes(changed)
                finds.append(f"{kept}: {type(error).__name__}: {str(error)[:300]}")
                tell(finds[-1])
        taken = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts = {"what": what, "seed": seed, "seconds": round(taken), "cases": sum(counts.values()), "peak_bytes": peak}
    return facts | {"outcomes": dict(sorted(counts.items())), "finds": finds}


def main() -> None:
    """Fuzz, tell the figures as JSON, and exit 1 when something was found."""
    parser = argparse.ArgumentParser("python -m tests.hostile.fuzz_models", description="Fuzz the checkers of models.")
    parser.add_argument("what", choices=("checker", "pickles"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=Path, help="a folder where the whole files are kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole = options.files or Path(place)
        facts = run(options.what, 60 * options.minutes, options.seed, whole, lambda line: print(line, file=sys.stderr))
    print(json.dumps(facts, indent=1))
    sys.exit(bool(facts["finds"]))


if __name__ == "__main__":
    main()
