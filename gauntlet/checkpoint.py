"""Finished pieces of long work, kept on disk: a command resumes, and no reference model is trained twice."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np


class Checkpoint:
    """A folder of pieces; a piece is written whole or not at all. Without a folder, nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` need not exist; what is in it must have been made with the same model, data and code."""
        self._folder = folder

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of a piece, or None when it is not finished (or can no longer be read)."""
        if not self._folder:
            return None
        try:
            with (self._folder / _name(key)).open("rb") as file, np.load(file, allow_pickle=False) as content:
                return dict(content)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, key: str, arrays: dict[str, Any]) -> None:
        """Keep a finished piece. A disk that has no room left must not stop the work: then it is not kept."""
        if not self._folder:
            return
        finished = self._folder / _name(key)
        unfinished = finished.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)
            unfinished.replace(finished)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()

    def clear(self) -> None:
        """Forget all pieces: the whole is done."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def sweep(root: Path, days: float = 30) -> None:
    """Remove the pieces below `root` that no run resumed."""
    for folder in root.iterdir() if root.is_dir() else ():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > days * 86_400:
                shutil.rmtree(folder)


def _name(key: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
