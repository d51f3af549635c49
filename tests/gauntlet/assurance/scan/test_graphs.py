"""SavedModels and TensorFlow Lite: operations are read without TensorFlow, and unknown ones are never clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.assurance.scan.findings import Scanned
from gauntlet.assurance.scan.models import scan
from tests.gauntlet.assurance.scan.payloads import rules

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


def test_an_operation_that_is_not_known_is_never_clean(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(saved_model("MatMul", "SomebodysOwnOp"))
    result = scan(tmp_path)
    assert rules(result) == {"GM018"}
    assert "SomebodysOwnOp: what it does is not known" in result.errors[0]


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
