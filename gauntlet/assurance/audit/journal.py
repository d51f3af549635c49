"""A file that is only appended to: one process at a time, on disk before it returns, nothing half-written kept."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 10.0
"""Seconds to wait for another process that is appending."""
PRIVATE = 0o600
_BLOCK = 4_096


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """The open file, made when it is missing and this process's alone.

    The kernel lets go of the lock even when its holder is killed. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE)
    try:
        _wait(file, fcntl.LOCK_EX, path)
        yield file
    finally:
        os.close(file)


def read(path: Path) -> bytes:
    """The whole file, while no other process appends. Raises `OSError`."""
    with path.open("rb") as file:
        _wait(file.fileno(), fcntl.LOCK_SH, path)
        return file.read()


def _wait(file: int, kind: int, path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _lock(file, kind):
        if time.monotonic() > deadline:
            raise OSError(f"another process has held {path} for {PATIENCE:.0f} s")
        time.sleep(0.02)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def appended(file: int, line: bytes) -> Iterator[None]:
    """Append a line and flush it to disk; an error, here or in the block, takes it back."""
    size = os.fstat(file).st_size
    try:
        _write_all(file, line + b"\n")
        os.fsync(file)
        yield
    except OSError:
        os.ftruncate(file, size)
        raise


def last_line(file: int) -> bytes:
    """The last whole line without its end; the file may be long, so it is read backwards."""
    return _tail(file, lines=2).removesuffix(b"\n").rpartition(b"\n")[2]


def set_aside_torn(file: int, aside: Path) -> bytes:
    """Move what follows the last line's end, which a killed process left, to another file; returns it."""
    torn = _tail(file, lines=1).rpartition(b"\n")[2]
    if torn:
        with locked(aside) as other, appended(other, torn):
            os.ftruncate(file, os.fstat(file).st_size - len(torn))
    return torn


def replace(path: Path, text: str) -> None:
    """Write a whole file in one step: readers see the old one or the new one."""
    fresh = path.with_name(path.name + ".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
    try:
        _write_all(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)
    fresh.replace(path)


def _tail(file: int, lines: int) -> bytes:
    """The end of the file, from before that many ends of lines."""
    tail, at = b"", os.fstat(file).st_size
    while at and tail.count(b"\n") < lines:
        step = min(_BLOCK, at)
        at -= step
        tail = os.pread(file, step, at) + tail
    return tail


def _write_all(file: int, content: bytes) -> None:
    """A full disk takes some of the bytes before it refuses the rest."""
    while content:
        content = content[os.write(file, content) :]
