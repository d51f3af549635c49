"""Whether all readers of an archive find the same members in it.

An archive ends with a record of its directory's position. Python looks for the directory just before that
record and corrects every offset; PyTorch and others use the position in the record. So one file can have two
directories, and the one that is inspected is not the one that is loaded.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

HDF5 = b"\x89HDF\r\n\x1a\n"
_LOCATOR64, _UNSAID = b"PK\x06\x07", 0xFFFFFFFF
_END_SIZE, _END64_SIZE, _LOCATOR64_SIZE, _LOCAL_HEADER = 22, 56, 20, 30
_UNICODE_PATH = 0x7075
"""An extra field that gives a member another name; some readers follow it."""


def flaws(stream: BinaryIO) -> Iterator[str]:
    """What makes two readers see two archives in one file; raises `zipfile.BadZipFile` for what is none."""
    stream.seek(0)
    with zipfile.ZipFile(stream) as archive:
        members, comment = archive.infolist(), archive.comment
        start = archive.start_dir
    if not members or min(member.header_offset for member in members) != 0:
        yield "something stands in front of the archive"
    if stray := _hdf5_places(stream) - {_data_offset(stream, member) for member in members}:
        yield f"it is an archive with HDF5 at byte {min(stray):,}"
    yield from _directory(stream, start, comment)
    yield from _names(members)


def _directory(stream: BinaryIO, start: int, comment: bytes) -> Iterator[str]:
    """Whether the records at the end lie where they say and say the same."""
    if comment:
        yield "bytes stand behind the archive"
    end = stream.seek(0, 2) - _END_SIZE - len(comment)
    stream.seek(end)
    length, offset = struct.unpack("<12xLL2x", stream.read(_END_SIZE))
    if longer := _longer(stream, end):
        end, (short, long) = longer[0], ((length, offset), longer[1:])
        length, offset = long
        if any(a not in (b, _UNSAID) for a, b in zip(short, long, strict=True)):
            yield "its two end records differ"
    if offset != start or offset + length != end:
        yield "its directory is not where the end record says"


def _longer(stream: BinaryIO, end: int) -> tuple[int, int, int] | None:
    """The record of large archives, if there is one: where it is said to be, the directory's length and offset."""
    stream.seek(max(0, end - _LOCATOR64_SIZE))
    locator = stream.read(_LOCATOR64_SIZE)
    if locator[:4] != _LOCATOR64:
        return None
    (place,) = struct.unpack("<8xQ4x", locator)
    stream.seek(max(0, end - _LOCATOR64_SIZE - _END64_SIZE))
    record = stream.read(_END64_SIZE)
    return place, *struct.unpack("<40xQQ", record)


def _names(members: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Names that readers may take for each other's."""
    seen: dict[str, str] = {}
    for member in members:
        other = seen.setdefault(member.orig_filename.casefold().replace("\\", "/"), member.orig_filename)
        if other != member.orig_filename:
            yield f"two members differ in case alone: {other!r}"
        if _UNICODE_PATH in _extra_fields(member.extra):
            yield f"{member.filename!r} has a second name"


def _extra_fields(extra: bytes) -> Iterator[int]:
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        yield kind
        extra = extra[4 + length :]


def _hdf5_places(stream: BinaryIO) -> set[int]:
    """Where readers of HDF5 look for its signature, and it is: at 512 * 2 ** n bytes."""
    places, place, size = set(), 512, stream.seek(0, 2)
    while place < size:
        stream.seek(place)
        if stream.read(8) == HDF5:
            places.add(place)
        place *= 2
    return places


def _data_offset(stream: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin: behind its local header, whose two lengths may differ from the directory's."""
    stream.seek(member.header_offset + 26)
    name, extra = stream.read(2), stream.read(2)
    return member.header_offset + _LOCAL_HEADER + int.from_bytes(name, "little") + int.from_bytes(extra, "little")
