"""The operations of a TensorFlow SavedModel, read from the bytes of `saved_model.pb` without TensorFlow.

A protocol buffer is fields of (number, wire type, value); the numbers are those of TensorFlow's saved_model.proto,
meta_graph.proto, graph.proto, function.proto and node_def.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gauntlet.assurance.scan.models import configs
from gauntlet.assurance.scan.models.rules import Look

_NODES = ((2, 2, 1), (2, 2, 2, 1, 3))
"""From SavedModel to its nodes: meta graph, graph, node; and meta graph, graph, library, function, node."""
_OP, _METADATA = (2,), (1, 5)
_FILE_OPERATIONS = {
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "WholeFileReader",
    "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2",
    "TFRecordReader", "TFRecordReaderV2", "TextLineDataset", "TFRecordDataset", "FixedLengthRecordDataset",
    "PrintV2", "Save", "SaveSlices", "DebugIdentity", "DebugIdentityV2", "Remote", "RemoteCall", "RpcCall",
    "InitializeTableFromTextFile", "DatasetFromGraph", "SaveDataset", "LoadDataset", "CreateSummaryFileWriter",
}  # fmt: skip
"""`SaveV2`, `RestoreV2` and `MergeV2Checkpoints` are in every SavedModel: its variables are read by them."""


def scan_saved_model(path: Path, file: str, look: Look) -> None:
    """Note operations that read or write files or call Python."""
    data = _bytes(path, file, look)
    if data is None:
        return
    try:
        ops = {op.decode("utf-8", "replace") for way in _NODES for node in _at(data, way) for op in _at(node, _OP)}
    except ValueError as error:
        look.error(file, f"not a SavedModel that can be read: {error}")
        return
    if not ops:
        look.error(file, "no operations found in it: not a SavedModel")
    for op in sorted(ops & _FILE_OPERATIONS):
        look.hit("GM016", file, op)
    for op in sorted(ops - _FILE_OPERATIONS - _allowed()):
        look.error(file, f"the operation {op[:80]} is not on the allow-list: what it does is not known")


@lru_cache
def _allowed() -> frozenset[str]:
    """Operations that compute."""
    lines = Path(__file__).with_name("tensorflow_ops.txt").read_text().splitlines()
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())


def scan_metadata(path: Path, file: str, look: Look) -> None:
    """Note what `keras_metadata.pb` says of its layers (SavedMetadata, Keras 2)."""
    data = _bytes(path, file, look)
    try:
        for text in _at(data or b"", _METADATA):
            configs.scan_text(text, file, "metadata", look)
    except ValueError as error:
        look.error(file, f"not the metadata of a SavedModel: {error}")


def _bytes(path: Path, file: str, look: Look) -> bytes | None:
    if path.stat().st_size > look.limits.member_bytes:
        look.error(file, f"larger than {look.limits.member_bytes:,} bytes")
        return None
    return path.read_bytes()


def _at(message: bytes, way: tuple[int, ...]) -> Iterator[bytes]:
    """The values at a path of field numbers."""
    if not way:
        yield message
        return
    for number, value in _fields(message):
        if number == way[0]:
            yield from _at(value, way[1:])


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length; numbers are passed by."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, at = _varint(message, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("a field ends behind the file")
            yield number, message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        value, at = value | (message[at] & 0x7F) << shift, at + 1
        if message[at - 1] < 0x80:
            return value, at
    raise ValueError("a number does not end")
