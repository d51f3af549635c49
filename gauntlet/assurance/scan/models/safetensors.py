"""safetensors: a header of JSON that says where each tensor lies, then the bytes. Nothing in it runs."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any, BinaryIO

from gauntlet.assurance.scan.models.rules import Look

MAX_HEADER = 100 << 20
"""Bytes; the format's own limit."""
_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1,
          "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins as one: a length that fits, then the header's brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def scan_safetensors(stream: BinaryIO, file: str, where: str, look: Look) -> None:
    """Note a header that is too long or tensors that are not where it says: readers differ in what they make of it."""
    size = stream.seek(0, 2)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if length > MAX_HEADER:
        look.hit("GM008", file, f"{where}a header of {length:,} bytes")
        look.error(file, f"{where}too large to be inspected")
        return
    try:
        header = json.loads(stream.read(length))
        places = sorted(_place(entry) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        look.error(file, f"{where}not safetensors that can be read: {type(error).__name__}")
        return
    if not _is_whole(places, size - 8 - length):
        look.hit("GM017", file, f"{where}tensors that overlap, leave gaps or end elsewhere than the file")


def _place(entry: dict[str, Any]) -> tuple[int, int]:
    """Where a tensor begins and ends; `ValueError` when that is not as many bytes as its type and shape take."""
    (begin, end), shape = entry["data_offsets"], entry["shape"]
    if not all(isinstance(n, int) and n >= 0 for n in [begin, end, *shape]):
        raise ValueError("offsets")
    if end - begin != _SIZES[entry["dtype"]] * math.prod(shape):
        raise ValueError("length")
    return begin, end


def _is_whole(places: list[tuple[int, int]], size: int) -> bool:
    """Whether tensors follow each other from the first byte to the last."""
    joined = all(before[1] == after[0] for before, after in pairwise(places))
    return joined and places[0][0] == 0 and places[-1][1] == size if places else size == 0
