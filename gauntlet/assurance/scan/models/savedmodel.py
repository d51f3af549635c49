"""The operations of a TensorFlow SavedModel, read from the bytes of `saved_model.pb` without TensorFlow.

The field numbers are those of TensorFlow's saved_model.proto,
meta_graph.proto, graph.proto, function.proto and node_def.proto.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from gauntlet.assurance.scan.models import configs
from gauntlet.assurance.scan.models.protobuf import at
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
        ops = {op.decode("utf-8", "replace") for way in _NODES for node in at(data, way) for op in at(node, _OP)}
    except ValueError as error:
        look.error(file, f"not a SavedModel that can be read: {error}")
        return
    if not ops:
        look.error(file, "no operations found in it: not a SavedModel")
    for op in sorted(ops):
        if rule := rule_of(op):
            look.hit(rule, file, op)


def rule_of(operation: str) -> str | None:
    """The rule against one of TensorFlow's operations, or None for one that computes."""
    if operation in _FILE_OPERATIONS:
        return "GM016"
    return None if operation in _allowed() else "GM018"


@lru_cache
def _allowed() -> frozenset[str]:
    """Operations that compute."""
    lines = Path(__file__).with_name("tensorflow_ops.txt").read_text().splitlines()
    return frozenset(name for line in lines if not line.startswith("#") for name in line.split())


def scan_metadata(path: Path, file: str, look: Look) -> None:
    """Note what `keras_metadata.pb` says of its layers (SavedMetadata, Keras 2)."""
    data = _bytes(path, file, look)
    try:
        for text in at(data or b"", _METADATA):
            configs.scan_text(text, file, "metadata", look)
    except ValueError as error:
        look.error(file, f"not the metadata of a SavedModel: {error}")


def _bytes(path: Path, file: str, look: Look) -> bytes | None:
    if path.stat().st_size > look.limits.member_bytes:
        look.error(file, f"larger than {look.limits.member_bytes:,} bytes")
        return None
    return path.read_bytes()
