"""TensorFlow Lite: operations by name, read from the bytes of a FlatBuffer.

Built-in operations only compute. A model may also name TensorFlow operations (`Flex...`), which may read and
write files if the interpreter has them, and custom operations of the interpreter.
Fields by number: Model.operator_codes 1; OperatorCode.custom_code 1 (tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from gauntlet.assurance.scan.models.rules import Look
from gauntlet.assurance.scan.models.savedmodel import rule_of

_CODES, _CUSTOM = 1, 1
_LONGEST = 1_000
"""Bytes of a name."""


def is_tflite(head: bytes) -> bool:
    """Whether a file begins as one."""
    return head[4:8] == b"TFL3"


def scan_tflite(stream: BinaryIO, file: str, where: str, look: Look) -> None:
    """Note operations that are not built in."""
    if stream.seek(0, 2) > look.limits.member_bytes:
        look.error(file, f"{where}larger than {look.limits.member_bytes:,} bytes")
        return
    stream.seek(0)
    try:
        names = sorted(set(_custom(stream.read(), look.limits.files)))
    except (struct.error, ValueError) as error:
        look.error(file, f"{where}not a TensorFlow Lite model that can be read: {error}")
        return
    for name in names:
        operation = name.removeprefix("Flex")
        rule = rule_of(operation) if name.startswith("Flex") else "GM018"
        if rule:
            look.hit(rule, file, f"{where}{name}")


def _custom(data: bytes, most: int) -> Iterator[str]:
    """Names of operations that are not built in."""
    model = _u32(data, 0)
    codes = _follow(data, model, _CODES)
    count = _u32(data, codes) if codes else 0
    if count > most:
        raise ValueError(f"{count:,} operations")
    for place in range(count):
        entry = codes + 4 + 4 * place
        if name := _follow(data, entry + _u32(data, entry), _CUSTOM):
            length = _u32(data, name)
            if length > _LONGEST or name + 4 + length > len(data):
                raise ValueError("a name that does not end")
            if length:
                yield data[name + 4 : name + 4 + length].decode("utf-8", "replace")


def _follow(data: bytes, table: int, field: int) -> int:
    """The offset of the vector or text of a table's field; 0 for none."""
    (back,) = struct.unpack_from("<i", data, table)
    slots = table - back
    if slots < 0:
        raise ValueError("a table without a description")
    size, at = struct.unpack_from("<H", data, slots)[0], 4 + 2 * field
    offset = struct.unpack_from("<H", data, slots + at)[0] if at + 2 <= size else 0
    return table + offset + _u32(data, table + offset) if offset else 0


def _u32(data: bytes, place: int) -> int:
    return int(struct.unpack_from("<I", data, place)[0])
