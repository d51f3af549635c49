"""The state folder: what is said when the disk below it fails."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gauntlet.state import VARIABLE, disk_trouble


@pytest.mark.parametrize(
    ("error", "there", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True, "no room is left"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), True, "no room is left"),
        (OSError(errno.EROFS, "Read-only file system"), True, "can be read only"),
        (RuntimeError("attempt to write a readonly database"), True, "can be read only"),
        (RuntimeError("attempt to write a readonly database"), False, "was removed while it was in use"),
        (ValueError("something else"), True, ""),
    ],
)
def test_the_disks_fault_is_named_wherever_it_is_in_the_chain(
    error: Exception, there: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    if there:
        folder.mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    outer = RuntimeError("a run could not be written")
    outer.__cause__ = error
    assert (said in disk_trouble(outer)) if said else disk_trouble(outer) == ""
