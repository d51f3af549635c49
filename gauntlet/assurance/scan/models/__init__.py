"""Scan a model file before anything is loaded.

    rules.py       the rules, the limits, the findings of a scan
    objects.py     which Python objects are harmless, dangerous, unknown
    pickles.py     pickles, from their opcodes
    configs.py     Keras configurations
    hdf5.py        HDF5: configurations, links to other files
    savedmodel.py  TensorFlow's operations, from the bytes
    archives.py    whether all readers of an archive find the same members
    torchfiles.py  PyTorch: members of its archives, exported programs
    torchscript.py PyTorch: TorchScript's code
    tflite.py      TensorFlow Lite: operations that are not built in
    onnxfiles.py   ONNX: operators, weights in other files
    safetensors.py the positions of tensors
    protobuf.py    protocol buffers, read from their bytes
    files.py       one file, its format detected by content
    folders.py     MLflow models, SavedModels, folders of files

Nothing is unpickled, and neither Keras nor TensorFlow is imported. What cannot be inspected is an error, never clean.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from gauntlet.assurance.scan.findings import Scanned
from gauntlet.assurance.scan.models.files import scan_stream
from gauntlet.assurance.scan.models.folders import scan_folder
from gauntlet.assurance.scan.models.rules import RULES, Limits, Look
from gauntlet.errors import ModelError

__all__ = ["RULES", "Limits", "scan"]


def scan(path: Path, limits: Limits | None = None) -> Scanned:
    """Look into a model file or folder; raises ModelError when there is none.

    Files are named relative to the folder, a single file by its name.
    """
    if not path.exists():
        raise ModelError("no such model file or folder", where=str(path))
    look = Look(limits or Limits())
    # Parsers warn of a stranger's odd escapes and headers; what matters is told as a finding or an error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            scan_folder(path, look)
        else:
            _scan_file(path, look)
    return look.result()


def _scan_file(path: Path, look: Look) -> None:
    """A single file; a device or a pipe is none, and would not end."""
    if not path.is_file():
        raise ModelError("not a regular file", where=str(path))
    try:
        with path.open("rb") as stream:
            scan_stream(stream, path.name, look)
    except PermissionError as error:
        raise ModelError("cannot be read", where=str(path)) from error
