"""The loaders, fuzzed for seconds; `python -m tests.hostile.fuzz --minutes 10` does it for long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import fuzz

ROOT = Path(__file__).parents[2]
edits = st.lists(st.tuples(st.sampled_from(fuzz.EDITS), st.floats(0, 1), st.integers(0, 2**16)), min_size=1, max_size=4)
KINDS = ("npz", "npz, compressed", "npy header", "zip", "idx", "idx, gzipped")
KINDS += ("png", "jpeg", "zip of images", "parquet", "arrow", "mat", "csv")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    """The files that are spoilt."""
    return fuzz.seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=edits)
def test_spoilt_files_are_read_or_refused(
    kind: str, edits: list[fuzz.Edit], seeds: dict[str, tuple[str, bytes]], tmp_path: Path
) -> None:
    name, data = seeds[kind]
    assert fuzz.outcome(kind, name, fuzz.spoil(data, edits), tmp_path) in ("read", "refused")


def test_whole_files_are_read(seeds: dict[str, tuple[str, bytes]], tmp_path: Path) -> None:
    for kind, (name, data) in seeds.items():
        whole = "refused" if kind in ("zip", "idx", "idx, gzipped") else "read"  # small MNIST is none
        assert fuzz.outcome(kind, name, data, tmp_path) == whole, kind


def test_the_long_run_finds_what_is_broken() -> None:
    code = (
        "import sys\nfrom gauntlet.data import readers\nfrom tests.hostile import fuzz\n"
        "readers.check_size = lambda *_: None\n"  # no longer held to its size, an array is reshaped to what it is not
        "readers.reading = __import__('contextlib').nullcontext\n"
        "sys.argv = ['fuzz', '--minutes', '0.05']\nfuzz.main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    assert b'"finds": [\n' in done.stdout
