"""Where a run comes from: process, commit, code, and the versions that its numbers depend on."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from gauntlet.evaluation.provenance import versions
from gauntlet.state import CHECKOUT, PROJECT_ROOT

__all__ = ["alive", "git_commit", "process", "tasks_digest", "versions"]


def process() -> str:
    """This process as `pid:start time`, since pids come again."""
    import psutil

    return f"{os.getpid()}:{psutil.Process().create_time():.0f}"


def alive(process: str) -> bool:
    import psutil

    pid, _, started = process.partition(":")
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == started
    except (ValueError, psutil.NoSuchProcess):
        return False


@lru_cache
def git_commit() -> str:
    """The commit of the project's own code, or nothing outside a checkout."""
    from mlflow.utils.git_utils import get_git_commit

    return (get_git_commit(str(PROJECT_ROOT)) or "") if CHECKOUT else ""


@lru_cache
def tasks_digest() -> str:
    """SHA-256 of the code that logs."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
