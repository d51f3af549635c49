"""Read file formats into arrays: IDX, CIFAR's binary batches, gzip, zip, tar and npz.

Files are untrusted: everything is read in memory and with limits, nothing is extracted and nothing is
unpickled. For every fault of a file, a reader raises a `DataError` of one line that names it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import stat
import struct
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from gauntlet.errors import DataError, InputError, one_line
from gauntlet.limits import (
    MAX_NPY_HEADER,
    MAX_NPZ_BYTES,
    MAX_TAR_MEMBERS,
    MAX_ZIP_MEMBERS,
    SUSPICIOUS_BYTES,
    SUSPICIOUS_RATIO,
)

CIFAR_RECORD = 1 + 3 * 32 * 32
_ENCRYPTED = 0x1
# The two methods whose memory is bounded by what is read from them; LZMA's dictionary is chosen by the file.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def reading(where: str, kind: str = "") -> Iterator[None]:
    """Turn whatever a parser raises inside into one `DataError` that says what was read as which kind."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # zlib, zipfile, tarfile and NumPy's header parser raise an open set
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        what = f"cannot be read{f' as {kind}' if kind else ''}: {one_line(reason, 160)}"
        raise DataError(what, where=where, fix="is the file complete? fetch or export it again") from error


def check_size(got: int, expected: int, where: str) -> None:
    """Raise a `DataError` unless a file, or what follows its header, has the expected number of bytes."""
    if got != expected:
        fault = "truncated" if got < expected else "trailing bytes"
        what = f"{fault}: {expected} bytes expected, got {got}"
        raise DataError(what, where=where, fix="fetch or export the file again")


def read_bounded(stream: IO[bytes] | gzip.GzipFile, limit: int, where: str) -> bytes:
    """The bytes of `stream`, at most `limit` of them.

    Raises DataError: there are more; no more than `limit` + 1 bytes were held.
    """
    data = stream.read(limit + 1)
    if len(data) > limit:
        what = f"holds more than the {limit} bytes it can have: trailing bytes, or a decompression bomb"
        raise DataError(what, where=where, fix="fetch the file again from its source")
    return data


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a file, gunzipped when its name ends in .gz; `limit` bounds the uncompressed bytes.

    Raises DataError: unreadable, corrupt or truncated gzip, or more than `limit` bytes.
    """
    where = one_line(path)
    if path.suffix != ".gz":
        with reading(where), path.open("rb") as plain:
            return read_bounded(plain, limit, where)
    with reading(where, "gzip"), gzip.open(path, "rb") as packed:
        return read_bounded(packed, limit, where)


def idx_size(shape: tuple[int, ...]) -> int:
    """The bytes of the uncompressed IDX file of a uint8 array of this shape."""
    return 4 + 4 * len(shape) + math.prod(shape)


def idx_sha256(array: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the IDX file of a uint8 array: the same whatever file the array came from."""
    digest = hashlib.sha256(struct.pack(f">I{array.ndim}I", 0x800 | array.ndim, *array.shape))
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def parse_idx(data: bytes, where: str, shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    """The uint8 array in the uncompressed bytes of an IDX file, a read-only view of them.

    Args:
        data: the whole file.
        where: the file's name, for the error message.
        shape: the shape wanted; None where any positive size will do.

    Raises DataError: wrong magic number, truncated, trailing bytes, or another shape.
    """
    got = _idx_shape(data, where, len(shape))
    check_size(len(data), idx_size(got), where)
    if any(g == 0 or w not in (None, g) for g, w in zip(got, shape, strict=True)):
        wanted = " x ".join("N" if w is None else str(w) for w in shape)
        raise DataError(f"has shape {got}, expected {wanted} with N above 0", where=where)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(got)).reshape(got)


def _idx_shape(data: bytes, where: str, ndim: int) -> tuple[int, ...]:
    """The shape an IDX header states, once its magic number is right."""
    start = 4 + 4 * ndim
    if len(data) < start:
        raise DataError(f"truncated: {start} bytes of header expected, got {len(data)}", where=where)
    magic, *dims = struct.unpack_from(f">I{ndim}I", data)
    if magic != 0x800 | ndim:
        kind = "images" if ndim == 3 else "labels"
        gzipped = "; it is gzipped: give it a name ending in .gz" if data[:2] == b"\x1f\x8b" else ""
        what = f"wrong magic number: expected {0x800 | ndim}, got {magic}"
        raise DataError(what, where=where, fix=f"is this the IDX file of the {kind}?{gzipped}")
    return tuple(dims)


def parse_cifar(data: bytes, where: str, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 32, 32, 3) and labels (n,), uint8, of one batch of CIFAR-10's binary version.

    Raises DataError: not `n` records of 3,073 bytes.
    """
    check_size(len(data), n * CIFAR_RECORD, where)
    rows = np.frombuffer(data, np.uint8).reshape(n, CIFAR_RECORD)
    return rows[:, 1:].reshape(n, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]


@contextmanager
def open_zip(path: Path, kind: str = "a zip file", most: int = MAX_ZIP_MEMBERS) -> Iterator[zipfile.ZipFile]:
    """An open zip archive of at most so many members; whatever goes wrong while it is open becomes a `DataError`."""
    where = one_line(path)
    with reading(where, kind), zipfile.ZipFile(path) as archive:
        check_names(archive.infolist(), where, most)
        yield archive


def check_names(members: Collection[zipfile.ZipInfo], where: str, most: int = MAX_ZIP_MEMBERS) -> None:
    """Refuse a zip that an honest program would not write, though nothing of it is ever extracted.

    Raises DataError: too many members, two of one name, a link, or a name that leaves the folder or cannot be printed.
    """
    fix = "pack the files again, by their plain names"
    if len(members) > most:
        raise DataError(f"has {len(members):,} members, at most {most:,} allowed", where=where, fix=fix)
    seen: set[str] = set()
    for info in members:
        name, shown = info.filename, one_line(info.filename, 80)
        if name in seen:
            raise DataError(f"holds two members called {shown!r}", where=where, fix=fix)
        if (info.external_attr >> 16) & 0o170000 == stat.S_IFLNK:
            raise DataError(f"holds a link, {shown!r}: refused", where=where, fix=fix)
        if _leaves(name) or not name.isprintable() or info.orig_filename != name:
            raise DataError(f"holds a member with an unsafe name, {shown!r}: refused", where=where, fix=fix)
        seen.add(name)


def _leaves(name: str) -> bool:
    """Whether a member's name would lead out of the folder it is unpacked into, on any system."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or ":" in parts[0]


def zip_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by base name; of two alike, the one in fewer folders."""
    files = [info for info in archive.infolist() if not info.is_dir()]
    files.sort(key=lambda info: info.filename.count("/"), reverse=True)
    return {info.filename.rsplit("/", 1)[-1]: info for info in files}


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, where: str) -> bytes:
    """The bytes of one member of a zip, at most `limit` of them.

    Raises DataError: encrypted, unusual compression, corrupt, or larger than `limit` (declared or in fact).
    """
    if info.file_size > limit:
        what = f"declares {info.file_size} bytes, more than the {limit} it can have: a zip bomb?"
        raise DataError(what, where=where, fix="fetch the archive again from its source")
    with reading(where, "a zip member"), _open_member(archive, info, where) as stream:
        return read_bounded(stream, limit, where)


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> IO[bytes]:
    """An open member of a zip, once it is known to need no password and no unbounded memory."""
    if info.flag_bits & _ENCRYPTED:
        raise DataError("is encrypted", where=where, fix="pack it again without a password")
    if info.compress_type not in _ZIP_METHODS:
        what = f"is compressed by method {info.compress_type}, expected stored or deflated"
        raise DataError(what, where=where, fix="pack it again")
    return archive.open(info)


def read_tar(data: bytes, names: Collection[str], limit: int, where: str) -> dict[str, bytes]:
    """The files of an uncompressed tar whose base names are in `names`, each of at most `limit` bytes.

    Raises DataError: corrupt, too many members, or a file is larger than `limit`.
    """
    files: dict[str, bytes] = {}
    with reading(where, "tar"), tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for count, member in enumerate(archive):
            if count >= MAX_TAR_MEMBERS:  # also ends the endless loops a negative size can cause
                raise DataError(f"has more than {MAX_TAR_MEMBERS} members", where=where)
            base = member.name.rsplit("/", 1)[-1]
            stream = archive.extractfile(member) if member.isreg() and base in names else None
            if stream is not None:
                files[base] = read_bounded(stream, limit, f"{where}: {base}")
    return files


def read_npz(
    path: Path, required: Iterable[str], optional: Iterable[str] = (), limit: int = MAX_NPZ_BYTES
) -> dict[str, NDArray[Any]]:
    """The named arrays of an .npz file, read-only; other members are never read.

    Args:
        path: the file.
        required: keys that must be there.
        optional: keys that are read when they are there.
        limit: the most bytes the wanted members may declare together.

    Raises DataError: not a zip, a key is missing, too large, object arrays, or corrupt.
    """
    where = one_line(path)
    with open_zip(path, "an .npz file") as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        missing = [key for key in required if key not in members]
        if missing:
            what = f"lacks {', '.join(missing)}; it has {', '.join(sorted(members)) or 'nothing'}"
            fix = "save with numpy.savez(FILE, x_train=..., ...)"
            raise DataError(one_line(what, 300), where=where, fix=fix)
        wanted = [key for key in (*required, *optional) if key in members]
        _check_total(sum(members[key].file_size for key in wanted), path, limit)
        return {key: _read_npy(archive, members[key], f"{where}: {key}") for key in wanted}


def npz_keys(path: Path) -> tuple[str, ...]:
    """The names of the arrays of an .npz file; `DataError` when it is none."""
    with open_zip(path, "an .npz file") as archive:
        return tuple(info.filename.removesuffix(".npy") for info in archive.infolist())


def _check_total(total: int, path: Path, limit: int) -> None:
    """Refuse a zip bomb by what its directory declares, before anything is read."""
    size = path.stat().st_size
    if total > limit or (total > SUSPICIOUS_BYTES and total > SUSPICIOUS_RATIO * size):
        what = f"declares {total} bytes in a file of {size}, at most {limit} allowed: a zip bomb?"
        raise DataError(what, where=one_line(path), fix="save fewer images, uncompressed (numpy.savez)")


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> NDArray[Any]:
    """One array, its header checked against the declared size before its body is read."""
    with reading(where, "a NumPy array"):
        with _open_member(archive, info, where) as stream:
            head = io.BytesIO(stream.read(MAX_NPY_HEADER))
        # Version 3 differs in how fields are named only, and arrays with fields are refused later.
        old = npy_format.read_magic(head) == (1, 0)
        read = npy_format.read_array_header_1_0 if old else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(head)
        start = head.tell()
        _check_npy(shape, dtype, info.file_size - start, where)
        data = read_member(archive, info, info.file_size, where)
        flat: NDArray[Any] = np.frombuffer(data, dtype, offset=start)
        return flat.reshape(shape, order="F" if fortran else "C")


def _check_npy(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, where: str) -> None:
    """Refuse objects, empty arrays, and headers that promise another size than the member has."""
    if dtype.hasobject:
        what = "holds Python objects (a pickle), which can run code when read: refused"
        raise DataError(what, where=where, fix="save plain arrays: numbers, or names with astype(str)")
    if any(side <= 0 for side in shape) or dtype.itemsize == 0:
        raise DataError(f"is empty: shape {shape}, dtype {one_line(dtype, 60)}", where=where)
    check_size(size, math.prod(shape) * dtype.itemsize, where)
