"""A folder, a zip read in place, or one file: names, and the bytes behind them. Nothing is unpacked to the disk."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gauntlet.data.readers import open_zip, read_bounded, read_member, reading
from gauntlet.errors import DataError, one_line
from gauntlet.limits import MAX_DEPTH, MAX_FILES, MAX_NPZ_BYTES

JUNK = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Files:
    """The files of a data set by their names from its top, `/` between folders, in order."""

    where: str
    """What to call the whole in an error."""
    names: tuple[str, ...]
    folders: frozenset[str]
    weight: int
    """Bytes on the disk."""
    top: Path
    archive: zipfile.ZipFile | None = None

    def called(self, name: str) -> str:
        """A file's name for an error."""
        return f"{self.where}: {one_line(name, 300)}" if name else self.where

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a file, at most `limit` of them; `DataError` otherwise."""
        where = self.called(name)
        if self.archive is not None:
            return read_member(self.archive, self.archive.getinfo(name), limit, where)
        with reading(where), (self.top / name).open("rb") as stream:
            return read_bounded(stream, limit, where)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file to read anywhere in; one in a zip is held in memory."""
        where = self.called(name)
        if self.archive is not None:
            yield io.BytesIO(self.read(name, MAX_NPZ_BYTES))
            return
        with reading(where), (self.top / name).open("rb") as stream:
            yield stream


@contextmanager
def files_of(path: Path) -> Iterator[Files]:
    """The files of a folder or zip, or one file, whose name is then empty.

    Raises DataError: too many files, or a zip that an honest program would not write (`readers.check_names`).
    """
    where = one_line(path)
    if path.is_dir():
        names, folders, weight = _walked(path)
        yield Files(where, names, folders, weight, path)
    elif path.suffix.lower() == ".zip":
        with open_zip(path, most=MAX_FILES) as archive:
            packed = [info.filename for info in archive.infolist() if not info.is_dir()]
            empty = [info.filename.rstrip("/") for info in archive.infolist() if info.is_dir()]
            names = tuple(sorted(filter(_wanted, packed)))
            folders = frozenset(filter(_wanted, empty)) | _above(names)
            yield Files(where, names, folders, path.stat().st_size, path, archive)
    else:
        yield Files(where, ("",), frozenset(), path.stat().st_size, path)


def _walked(top: Path) -> tuple[tuple[str, ...], frozenset[str], int]:
    """Names, folders and bytes below a folder; links to folders are followed once, pipes and devices left out."""
    names, folders, weight, seen = [], set(), 0, set()
    waiting = [("", 0)]
    while waiting:
        below, depth = waiting.pop()
        identity = (stat := os.stat(top / below)).st_dev, stat.st_ino
        if identity in seen or depth > MAX_DEPTH:
            continue
        seen.add(identity)
        with os.scandir(top / below) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if not _wanted(name):
                    continue
                if entry.is_dir():
                    folders.add(name)
                    waiting.append((name, depth + 1))
                elif entry.is_file():
                    names.append(name)
                    weight += entry.stat().st_size
        if len(names) > MAX_FILES:
            raise DataError(f"holds more than {MAX_FILES:,} files", where=one_line(top), fix="give fewer")
    return tuple(sorted(names)), frozenset(folders), weight


def _wanted(name: str) -> bool:
    """Whether a file or folder is none of those that systems leave behind."""
    return not any(part.startswith((".", "__MACOSX")) or part.lower() in JUNK for part in name.split("/"))


def _above(names: tuple[str, ...]) -> frozenset[str]:
    """Every folder that a file lies in."""
    folders: set[str] = set()
    for folder in {name.rpartition("/")[0] for name in names}:
        parts = folder.split("/")
        folders |= {"/".join(parts[: i + 1]) for i in range(len(parts)) if folder}
    return frozenset(folders)


def stamp(path: Path) -> tuple[tuple[int, ...], ...]:
    """Identity, size and time of change of every file of a data set: when it is the same, so is the data."""
    files = [path] if path.is_file() else [path / name for name in _walked(path)[0]]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in (file.stat() for file in files))
