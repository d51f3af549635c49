"""The operations of a TensorFlow SavedModel, read from the bytes of `saved_model.pb` without TensorFlow.

The field numbers are those of TensorFlow's saved_model.proto,
meta_graph.proto, graph.proto, function.proto and node_def.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gauntlet.assurance.scan.models import configs
from gauntlet.assurance.scan.models.protobuf import at
from gauntlet.assurance.scan.models.rules import Look

_GRAPH_NODES, _FUNCTIONS = (2, 2, 1), (2, 2, 2, 1)
"""From SavedModel to nodes (meta graph, graph, node) and functions (meta graph, graph, library, function)."""
_NAME, _OP, _INPUT = (1,), (2,), (3,)
_CALLED = ((5, 2, 10, 1), (5, 2, 1, 9, 1))
"""From a node to the functions that its attributes name, alone or in a list."""
_METADATA = (1, 5)
_FILE_OPERATIONS = {
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "WholeFileReader",
    "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2",
    "TFRecordReader", "TFRecordReaderV2", "TextLineDataset", "TFRecordDataset", "FixedLengthRecordDataset",
    "PrintV2", "Save", "SaveSlices", "DebugIdentity", "DebugIdentityV2", "Remote", "RemoteCall", "RpcCall",
    "InitializeTableFromTextFile", "DatasetFromGraph", "SaveDataset", "LoadDataset", "CreateSummaryFileWriter",
    "ImmutableConst", "SaveV2", "RestoreV2", "MergeV2Checkpoints", "Restore", "RestoreSlice",
}  # fmt: skip
_SAVER = re.compile(r"__inference__traced_(save|restore)_\d+|save(_\d+)?/.*")
"""Functions, and in older graphs nodes, by which the loader reads the variables; nothing else may reach them."""
_SAVING = {"SaveV2", "RestoreV2", "MergeV2Checkpoints"}


def scan_saved_model(path: Path, file: str, look: Look) -> None:
    """Note operations that read or write files, call Python, or are not known."""
    data = _bytes(path, file, look)
    if data is None:
        return
    try:
        operations = sorted(set(_operations(data)))
    except ValueError as error:
        look.error(file, f"not a SavedModel that can be read: {error}")
        return
    if not operations:
        look.error(file, "no operations found in it: not a SavedModel")
    for op in operations:
        if rule := rule_of(op):
            look.hit(rule, file, op)


def _operations(data: bytes) -> Iterator[str]:
    """Operations of the graph and of its functions, without those that save and restore where only the loader asks."""
    inside = [(name, node) for way in at(data, _FUNCTIONS) for name in _texts(way, (1, 1)) for node in at(way, (3,))]
    nodes = [("", node) for node in at(data, _GRAPH_NODES)]
    for owner, node in nodes + inside:
        name = owner or next(_texts(node, _NAME), "")
        is_saver = _SAVER.fullmatch(name) is not None
        yield from (op for op in _texts(node, _OP) if not (is_saver and op in _SAVING))
        asked = _texts(node, _INPUT) if not owner else (called for way in _CALLED for called in _texts(node, way))
        if not is_saver and any(_SAVER.fullmatch(each.removeprefix("^")) for each in asked):
            yield "SaveV2"


def _texts(message: bytes, way: tuple[int, ...]) -> Iterator[str]:
    return (value.decode("utf-8", "replace") for value in at(message, way))


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
