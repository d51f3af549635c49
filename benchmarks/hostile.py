"""Hostile model files for `benchmarks.scanners`: loaded, each would make a file at most."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

payloads: Any = import_module("tests.gauntlet.assurance.scan.payloads")
cases: Any = import_module("tests.hostile.corpus").CASES


WITHOUT = {
    "a member of its own",
    "ONNX whose weights are not there",
    "safetensors without numbers",
    "a hostile source of transfer",
}
"""Cases of the corpus whose model carries nothing: they are refused for another reason."""


def refused(folder: Path) -> Iterator[Path]:
    """The model files of the hostile corpus that are refused for what they carry, not for being broken."""
    for case in cases:
        if case.kind != "model" or case.name in WITHOUT or not {"--trust", "refused"} & set(case.says):
            continue
        place = folder / re.sub(r"\W+", "-", case.name)
        place.mkdir()
        words = [str(word) for word in case.make(place)]
        flags = [flag for flag in ("--weights", "--model") if flag in words]
        path = Path(words[words.index(flags[0]) + 1]) if flags else None  # registered models have no file of their own
        if path is not None and path.is_file():
            yield path


def configurations(folder: Path) -> Iterator[Path]:
    """Hostile Keras configurations, as an archive and in HDF5."""
    import h5py

    for number, (config, _) in enumerate(payloads.HOSTILE_CONFIGS):
        yield payloads.archive(folder / f"{number}.keras", config__json=config)
        path = folder / f"{number}.h5"
        with h5py.File(path, "w") as opened:
            opened.attrs["model_config"] = json.dumps(config)
        yield path


def containers(folder: Path) -> Iterator[Path]:
    """A pickle that makes a folder, alone and in everything that holds pickles, under the names these have."""
    import pickle  # nosec B403

    for protocol in range(6):
        path = folder / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps([1, payloads.Payload(folder / "ran")], protocol))
        yield path
    for way, make in payloads.WAYS.items():
        path = folder / f"{re.sub(r'[^a-z]+', '-', way)}{SUFFIXES.get(way, '.pkl')}"
        make([1, payloads.Payload(folder / "ran")], path)
        yield path


SUFFIXES = {"npy": ".npy", "npz": ".npz", "torch": ".pt", "zip in zip": ".zip"} | {
    f"joblib{way}": ".joblib" for way in ("", "-zlib", "-gzip", "-xz")
}


def opcodes(folder: Path) -> Iterator[Path]:
    """Pickles written by hand, to pass by scanners."""
    codes = [code for code, rules in payloads.GLOBALS if rules] + list(payloads.SNEAKY.values())
    for number, code in enumerate(codes):
        path = folder / f"{number}.pkl"
        path.write_bytes(code)
        yield path


def objects(folder: Path, names: list[tuple[str, str]]) -> Iterator[Path]:
    """A pickle that calls each of these objects, without arguments."""
    for number, (module, name) in enumerate(names):
        path = folder / f"{number}-{module}-{name}"[:200]
        path = path.with_name(f"{path.name}.pkl")
        path.write_bytes(f"c{module}\n{name}\n)R.".encode())
        yield path


KINDS: dict[str, Callable[[Path], Iterator[Path]]] = {
    "models of the corpus": refused,
    "Keras configurations": configurations,
    "pickles in containers": containers,
    "pickles by hand": opcodes,
}
"""By the words of the table."""
