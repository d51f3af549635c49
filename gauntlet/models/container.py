"""Which format a model's file is, so that whoever checks it and whoever loads it see the same bytes the same way.

Readers of archives look at the end of a file, readers of HDF5 at its beginning and at 512, 1024, 2048 ... bytes: one
file can be two models. Suffix, beginning and end must agree, and what is loaded is a copy of what was checked.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gauntlet.assurance.scan.models import archives, onnxfiles
from gauntlet.errors import ModelError
from gauntlet.limits import MAX_MODEL_BYTES

ZIP = b"PK\x03\x04"
KINDS = {
    "keras": (".keras",),
    "h5": (".h5", ".hdf5"),
    "onnx": (".onnx",),
    "tflite": (".tflite",),
    "exported": (".pt2",),
    "torchscript": (".pt", ".pth"),
    "pickled": (".pt", ".pth", ".tar", ".bin", ".ckpt"),
    "safetensors": (".safetensors",),
    "savedmodel": ("/",),
}
"""Formats, and how their files are called; `pickled` is what `torch.save` writes, a folder is called `/`."""
SUFFIXES = {suffix for suffixes in KINDS.values() for suffix in suffixes}
_WHAT = {"keras": "a .keras archive", "h5": "HDF5", "onnx": "ONNX", "tflite": "TensorFlow Lite",
         "exported": "a program of torch.export", "torchscript": "TorchScript", "pickled": "what torch.save writes",
         "safetensors": "safetensors"}  # fmt: skip
MEMBERS = ("saved_model.pb", "variables/variables.index", "variables/variables.data-*")
"""All of a SavedModel that is read: its graph and its numbers."""


@dataclass(frozen=True)
class Copy:
    """A private copy of a model's file, which nobody else changes."""

    path: Path
    kind: str
    """One of `KINDS`."""
    sha256: str


@contextmanager
def copied(path: Path) -> Iterator[Copy]:
    """The file, copied once, with its format; `ModelError` for what is neither format, or both."""
    if path.is_dir():
        with tempfile.TemporaryDirectory(prefix="gauntlet-model-") as folder:
            yield _copied_folder(path, Path(folder) / "model")
        return
    if (size := path.stat().st_size) > MAX_MODEL_BYTES:
        raise ModelError(f"has {size:,} bytes, more than the {MAX_MODEL_BYTES:,} a model may have")
    with tempfile.TemporaryDirectory(prefix="gauntlet-model-") as folder:
        copy = Path(folder) / "model"
        shutil.copyfile(path, copy)
        kind = _kind(copy, path.suffix.lower())
        named = copy.rename(copy.with_suffix(KINDS[kind][0]))
        copies = [named, *(_beside(path, named) if kind == "onnx" else ())]
        yield Copy(named, kind, _digest(copies))


def _copied_folder(path: Path, copy: Path) -> Copy:
    """A SavedModel's graph and numbers, copied; what lies beside them is not looked at, and never read."""
    files = sorted(file for member in MEMBERS for file in path.glob(member))
    if (path / "variables").is_symlink() or any(file.is_symlink() or not file.is_file() for file in files):
        raise ModelError("its files are links: refused")
    if (size := sum(file.stat().st_size for file in files)) > MAX_MODEL_BYTES:
        raise ModelError(f"has {size:,} bytes, more than the {MAX_MODEL_BYTES:,} a model may have")
    for file in files:
        (copy / file.relative_to(path)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy / file.relative_to(path))
    return Copy(copy, "savedmodel", _digest([copy / file.relative_to(path) for file in files]))


def suffix_of(path: Path) -> str:
    """How a format is told by a name: its suffix, in small letters; of a folder `/`."""
    return "/" if path.is_dir() else path.suffix.lower()


def _digest(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) of a file; of several, of their digests."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _beside(path: Path, copy: Path) -> Iterator[Path]:
    """Copies of the files beside an ONNX model in which its weights lie."""
    try:
        names = sorted(onnxfiles.beside(copy.read_bytes()))
    except ValueError as error:
        raise ModelError(f"not a readable ONNX model: {error}", fix=save_it(".onnx")) from error
    size = copy.stat().st_size
    for name in names:
        source = path.parent / name
        if not re.fullmatch(r"\w[\w.-]{0,200}", name) or source.is_symlink() or not source.is_file():
            raise ModelError(f"its weights lie in {name[:100]!r}, no file beside it: refused", fix=save_it(".onnx"))
        size += source.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"has {size:,} bytes, more than the {MAX_MODEL_BYTES:,} a model may have")
        yield Path(shutil.copyfile(source, copy.parent / name))


def _kind(path: Path, suffix: str) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == ZIP:
        _check_archive(path, suffix)
    kind = _archived(path, suffix) if head[:4] == ZIP else _told(head, suffix)
    if kind is None:
        pickled = head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"
        what = "a pickle, which runs code when read: refused" if pickled else _neither(suffix)
        raise ModelError(f"not a readable {format_of(suffix)}: {what}", fix=save_it(suffix))
    if suffix not in KINDS[kind]:
        what = f"it is {_WHAT[kind]}, and its name says otherwise: refused"
        raise ModelError(what, fix=f"name it {' or '.join(KINDS[kind])}")
    if kind == "h5" and zipfile.is_zipfile(path):
        raise ModelError("it is HDF5 in front and an archive behind: refused", fix="save it with model.save")
    return kind


def _archived(path: Path, suffix: str) -> str | None:
    """Which kind of archive, by its members."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] for name in names}
    if {"archive_format", "archive_version"} <= inner:
        return "exported"
    if "data.pkl" in inner:
        return "torchscript" if "constants.pkl" in inner else "pickled"
    return "keras" if "config.json" in names or suffix in KINDS["keras"] else None


def _told(head: bytes, suffix: str) -> str | None:
    """Which kind of plain file; ONNX and safetensors have no mark of their own and are told by their name as well."""
    if head.startswith(archives.HDF5):
        return "h5"
    if head[4:8] == b"TFL3":
        return "tflite"
    if suffix == ".onnx" and head[:1] == b"\x08":
        return "onnx"
    return "safetensors" if suffix == ".safetensors" and head[8:9] == b"{" else None


def format_of(suffix: str) -> str:
    """What a file of this name should be."""
    kind = next((kind for kind, suffixes in KINDS.items() if suffix in suffixes), "keras")
    names = {"onnx": "ONNX model", "tflite": "TensorFlow Lite model", "safetensors": "safetensors file",
             "savedmodel": "SavedModel"}  # fmt: skip
    return "Keras model" if kind in ("keras", "h5") else names.get(kind, "PyTorch model")


def save_it(suffix: str) -> str:
    """How a file of this name is made."""
    of = format_of(suffix)
    ways = {"Keras model": "save it with model.save", "PyTorch model": "save it with torch.export.save"}
    return ways.get(of, "export it again")


def _neither(suffix: str) -> str:
    of = format_of(suffix)
    return "neither a .keras archive nor HDF5" if of == "Keras model" else "it does not begin as one"


def _check_archive(path: Path, suffix: str) -> None:
    """All readers of archives find the same members, and no reader of HDF5 anything but a member's own bytes."""
    try:
        with path.open("rb") as file:
            flaw = next(archives.flaws(file), "")
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        what = f"not a readable {format_of(suffix)}: it cannot be read as an archive: {error}"
        raise ModelError(what, fix=save_it(suffix)) from error
    if flaw:
        raise ModelError(f"{flaw}: refused", fix=save_it(suffix))
