"""For every test: a home of its own, no chatter, and the MNIST files where they lie."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from flows.command import COLLECTING
from gauntlet.quiet import hush

ROOT = Path(__file__).resolve().parents[1]
MNIST_DIR = Path(os.environ.get("GAUNTLET_MNIST_DIR", ROOT.parent / "shared" / "mnist"))

# Before anything heavy is imported: ART writes ~/.art, Keras ~/.keras, Matplotlib its font cache.
HOME = Path(tempfile.mkdtemp(prefix="gauntlet-tests-"))
os.environ |= {
    "HOME": str(HOME),
    "GAUNTLET_STATE": str(HOME / "state"),
    "KERAS_HOME": str(HOME / "keras"),
    "MPLCONFIGDIR": str(HOME / "matplotlib"),
    "PREFECT_HOME": str(HOME / "prefect"),
}
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # A share of the processors each, as the workers of a battery have: threads beyond those wait for each other.
    share = str(max(1, (os.cpu_count() or 1) // int(workers)))
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, share)
hush()
gc.set_threshold(*COLLECTING)

settings.register_profile("gauntlet", deadline=None, database=None, derandomize=True)
settings.load_profile("gauntlet")


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder of the MNIST files, named by GAUNTLET_MNIST_DIR or beside the repository."""
    if not MNIST_DIR.is_dir():
        pytest.skip(f"no MNIST files at {MNIST_DIR}: set GAUNTLET_MNIST_DIR")
    return MNIST_DIR
