"""Ask a script that runs in another Python, with packages that this project does not have: arrays in, arrays out."""

from __future__ import annotations

import subprocess  # nosec B404
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import GauntletError


def answered(python: Path, script: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What the script of this folder makes of the arrays; `GauntletError` where it stops with another status than 0."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **arrays)  # type: ignore[arg-type]
        status = subprocess.run([python, Path(__file__).with_name(script), source, target]).returncode  # nosec B603
        if status:
            raise GauntletError(f"{script} stopped with status {status}; what it said, if anything, stands above")
        with np.load(target) as found:
            return dict(found)
