"""One model file, whose format is detected by content, not by name.

Keras archives, HDF5, pickles, joblib, PyTorch (weights, TorchScript, exported programs), safetensors, ONNX, NumPy,
skops, TensorFlow Lite.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from tokenize import TokenError
from typing import IO, Any, BinaryIO, cast

from gauntlet.assurance.scan.models import (
    archives,
    configs,
    hdf5,
    onnxfiles,
    pickles,
    safetensors,
    tflite,
    torchfiles,
    torchscript,
)
from gauntlet.assurance.scan.models.objects import rule_of
from gauntlet.assurance.scan.models.rules import Look, escapes

NOT_A_MODEL = "not a model file that can be inspected"
_CHUNK = 1 << 20
_UNPACKERS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
    (b"\x5d\x00\x00", lzma.open),
)
_TORCH_DATA = re.compile(
    r"[^/]+/(data/\d+|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment)"
)
"""Members of a PyTorch archive that are bare numbers."""


def scan_stream(stream: BinaryIO, file: str, look: Look, where: str = "", depth: int = 0) -> None:
    """Look into one file or member (`where` in the file), by its first bytes; what is none of these is an error."""
    if depth > look.limits.depth:
        look.error(file, f"{where}: archives within archives, more than {look.limits.depth} deep")
        return
    head, is_zip = _head(stream), zipfile.is_zipfile(stream)
    stream.seek(0)
    if is_zip:
        if not head.startswith(b"PK"):
            # Readers of archives look at the end, readers of pickles at the beginning.
            look.hit("GM017", file, f"{where}an archive that begins as something else")
            _pickle(stream, file, look, where)
        scan_zip(stream, file, look, where, depth)
    elif head.startswith(b"\x89HDF\r\n\x1a\n"):
        hdf5.scan_hdf5(stream, file, where, look)
    elif head.startswith(b"\x93NUMPY"):
        scan_npy(stream, file, look, where)
    elif tflite.is_tflite(head):
        tflite.scan_tflite(stream, file, _at(where), look)
    elif safetensors.is_safetensors(head, _size(stream)):
        safetensors.scan_safetensors(stream, file, _at(where), look)
    elif onnxfiles.is_onnx(head, where or file):
        onnxfiles.scan_onnx(stream, file, _at(where), look)
    elif not _compressed(stream, head, file, look, where, depth):
        _pickle(stream, file, look, where)
        return
    pickles.scan_as_pickle(stream, file, look)


def _head(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read(16)


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, 2)


def _pickle(stream: BinaryIO, file: str, look: Look, where: str, start: int = 0) -> None:
    """A pickle has no name of its own: protocol 2 and later begin with 0x80, earlier ones with any opcode."""
    stream.seek(start)
    head, before = stream.read(1), len(look.findings)
    stream.seek(start)
    try:
        pickles.scan_pickles(stream, file, look)
    except pickles.BadPickleError as error:
        is_pickle = head == b"\x80" or len(look.findings) > before
        look.error(file, f"{_at(where)}{error if is_pickle else NOT_A_MODEL}")


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def scan_npy(stream: BinaryIO, file: str, look: Look, where: str = "") -> None:
    """A NumPy array; one of objects is a pickle."""
    from numpy.lib import format as npy

    stream.seek(0)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(stream)
    except (ValueError, EOFError, OSError, SyntaxError, RecursionError, MemoryError, TokenError) as error:
        look.error(file, f"{_at(where)}not an array that can be read: {error}")
        return
    if dtype.hasobject:
        look.hit("GM013", file, where or "the array")
        _pickle(stream, file, look, where, start=stream.tell())


def scan_zip(stream: BinaryIO, file: str, look: Look, where: str = "", depth: int = 0) -> None:
    """An archive: its names, its sizes, then its members."""
    try:
        for flaw in archives.flaws(stream):
            look.hit("GM017", file, f"{_at(where)}{flaw}")
        with zipfile.ZipFile(stream) as archive:
            if not archive.namelist():
                look.error(file, f"an empty archive is {NOT_A_MODEL}")
            members = _sound(archive.infolist(), file, look)
            torchfiles.scan_members(archive.namelist(), file, look)
            _torchscript(archive, members, file, look)
            for member in members:
                try:
                    _member(archive, member, file, look, where, depth)
                except _BROKEN as error:
                    look.error(file, f"{_at(where)}{member.filename} cannot be read: {error}")
    except _BROKEN as error:
        look.error(file, f"{_at(where)}an archive that cannot be read: {error}")


_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, NotImplementedError,
           RuntimeError, ValueError, UnicodeError)  # fmt: skip


def _sound(members: list[zipfile.ZipInfo], file: str, look: Look) -> list[zipfile.ZipInfo]:
    """The members that may be read: few enough, small enough, each name once and inside."""
    limits, names, total = look.limits, set[str](), 0
    if len(members) > limits.files:
        look.hit("GM008", file, f"{len(members):,} members")
        look.error(file, f"only the first {limits.files:,} members were inspected")
    sound = []
    for member in members[: limits.files]:
        if escapes(member.filename) or escapes(member.orig_filename):
            look.hit("GM007", file, f"member {member.orig_filename!r}")
        if member.filename in names:
            look.hit("GM017", file, f"two members are named {member.filename!r}")
        names.add(member.filename)
        total += member.file_size
        too_dense = member.file_size > limits.ratio_from and member.file_size > limits.ratio * member.compress_size
        if member.file_size > limits.member_bytes or too_dense or total > limits.total_bytes:
            look.hit("GM008", file, f"{member.filename!r}: {member.file_size:,} bytes of {member.compress_size:,}")
            look.error(file, f"{member.filename}: too large to be inspected")
        elif not member.is_dir():
            sound.append(member)
    return sound


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: str, look: Look, where: str, depth: int) -> None:
    """One member of an archive, by its name if that is enough, otherwise by its content."""
    name = f"{where}/{member.filename}" if where else member.filename
    if any(known.fullmatch(member.filename) for known in (_TORCH_DATA, torchfiles.INERT, torchfiles.CODE)):
        return
    with archive.open(member) as opened:
        if member.filename in ("config.json", "metadata.json"):
            configs.scan_text(opened.read(look.limits.text_bytes + 1), file, name, look)
        elif torchfiles.TABLE.fullmatch(member.filename):
            torchfiles.scan_table(opened.read(look.limits.text_bytes + 1), file, name, look)
        elif torchfiles.PROGRAM.fullmatch(member.filename):
            torchfiles.scan_program(opened.read(look.limits.text_bytes + 1), file, name, look)
        elif member.filename == "schema.json":
            _skops(opened.read(look.limits.text_bytes + 1), file, name, look)
        else:
            with _copy(opened, look.limits.member_bytes) as copy:
                if not (member.filename.startswith("assets/") and is_text(copy)):
                    scan_stream(copy, file, look, name, depth + 1)


def _torchscript(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], file: str, look: Look) -> None:
    """All code of an archive of TorchScript's, at once: it calls functions of its own by name."""
    code = [member for member in members if torchfiles.CODE.fullmatch(member.filename)]
    if sum(member.file_size for member in code) > look.limits.text_bytes:
        look.error(file, f"code of more than {look.limits.text_bytes:,} bytes")
    elif code:
        torchscript.scan_code({member.filename: archive.read(member) for member in code}, file, look)


def is_text(stream: BinaryIO) -> bool:
    """Whether a stream is printable text, such as a vocabulary."""
    stream.seek(0)
    try:
        text = stream.read().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\n\r\t" for c in text)


def _skops(text: bytes, file: str, where: str, look: Look) -> None:
    """The types that a skops file names (`skops.io`: schema.json)."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        look.error(file, f"{where} is not JSON that can be read: {type(error).__name__}")
        return
    for entry in configs.mappings(schema):
        module, name = entry.get("__module__"), entry.get("__class__")
        if isinstance(module, str) and isinstance(name, str) and (rule := rule_of(module, name)):
            look.hit(rule, file, f"{where}: {module}.{name}")


def _compressed(stream: BinaryIO, head: bytes, file: str, look: Look, where: str, depth: int) -> bool:
    """Look into what joblib or gzip compressed; False for what is not compressed."""
    opener = next((opener for magic, opener in _UNPACKERS if head.startswith(magic)), None)
    is_zlib = len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0
    if opener is None and not is_zlib:
        return False
    stream.seek(0)
    try:
        unpacked = _copy(opener(stream) if opener else _Inflated(stream), look.limits.member_bytes)
    except _TooLargeError:
        look.hit("GM008", file, f"{_at(where)}more than {look.limits.member_bytes:,} bytes")
        look.error(file, f"{_at(where)}too large to be inspected")
        return True
    except _BROKEN:
        return False
    with unpacked:
        scan_stream(unpacked, file, look, where, depth + 1)
    return True


class _Inflated:
    """A zlib stream as something to read from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._zlib = stream, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, so that a bomb cannot go off; nothing at the end."""
        while not self._zlib.eof:
            data = self._zlib.unconsumed_tail or self._stream.read(_CHUNK)
            if not data:
                raise EOFError("the compressed stream ends too early")
            if inflated := self._zlib.decompress(data, size):
                return inflated
        return b""


class _TooLargeError(Exception):
    """A stream that is longer than its limit."""


def _copy(source: IO[bytes] | _Inflated, most: int) -> BinaryIO:
    """A seekable copy, on disk when it is large; raises _TooLargeError."""
    target = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=64 << 20))  # noqa: SIM115
    try:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
            if target.tell() > most:
                raise _TooLargeError
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target
