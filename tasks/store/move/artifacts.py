"""The files of a store: each put where the other store keeps it, and read back."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy import Connection

from gauntlet.errors import InputError, TrackingError, one_line
from tasks.store.move.rows import PROXIED, Names, read


@dataclass(frozen=True)
class Root:
    """A folder of artifacts, of a run or of a model, and what the other store will call it."""

    folder: Path
    place: str

    def files(self) -> list[Path]:
        """All files in it."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def roots(source: Connection, names: Names) -> Iterator[Root]:
    """Where the artifacts of every run and every model are, and where they go."""
    columns = {"runs": "artifact_uri", "logged_models": "artifact_location"}
    for name, column in columns.items():
        for row in read(source, name):
            yield Root(_folder(row[column]), names.changed(name, row)[column])


def _folder(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        what = f"artifacts lie in {one_line(uri, 100)}, not in a folder"
        raise InputError(what, where="FROM", fix="move what a server keeps with the tools of its bucket")
    return Path(unquote(parts.path))


def move(root: Root, artifacts: str) -> tuple[int, int, str]:
    """Put every file where the server looks for it and read it back: files, bytes, and a digest of names and contents.

    What is there already with the same contents is not sent again. Raises `TrackingError` when a file is not there
    afterwards as it is here.
    """
    files = root.files()
    if not files:
        return 0, 0, ""
    place = f"{artifacts.rstrip('/')}/{root.place.removeprefix(PROXIED)}"
    try:
        return _moved(root.folder, files, get_artifact_repository(place))
    except TrackingError:
        raise
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{place}: {one_line(error, 300)}") from error
    except Exception as error:  # botocore's own tree, which need not be installed
        raise TrackingError(f"{place}: {type(error).__name__}: {one_line(error, 300)}") from error


def _moved(folder: Path, files: list[Path], repository: Any) -> tuple[int, int, str]:
    there, total, size = _listing(repository), hashlib.sha256(), 0
    for file in files:
        name, digest = file.relative_to(folder).as_posix(), _sha256(file)
        if there.get(name) != file.stat().st_size or _read_back(repository, name) != digest:
            repository.log_artifact(str(file), str(Path(name).parent) if "/" in name else None)
            if _read_back(repository, name) != digest:
                raise TrackingError(f"{repository.artifact_uri}/{name}: not what was sent")
        total.update(f"{digest}  {name}\n".encode())
        size += file.stat().st_size
    return len(files), size, total.hexdigest()


def _listing(repository: Any, path: str | None = None) -> dict[str, int | None]:
    """Every file there with its size."""
    sizes: dict[str, int | None] = {}
    for entry in repository.list_artifacts(path):
        sizes |= _listing(repository, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return sizes


def _read_back(repository: Any, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return _sha256(Path(repository.download_artifacts(name, folder)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
