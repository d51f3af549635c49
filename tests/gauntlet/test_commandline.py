"""What every command line shares: one line for a mistake, and files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.commandline import Parser, check_output, write_text
from gauntlet.errors import InputError, SettingError


def test_a_mistake_is_one_line_without_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("gauntlet nothing")
    parser.add_argument("--keep", type=int)
    with pytest.raises(SystemExit) as done:
        parser.parse_args(["--keep", "soon"])
    shown = capsys.readouterr()
    assert (done.value.code, shown.out) == (2, "")
    assert shown.err == "error: argument --keep: invalid int value: 'soon' (see --help)\n"


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere/x.md", "no such file"), ("folder", "it is a folder"), ("file/x.md", "not a directory")]
)
def test_a_file_that_cannot_be_written_is_told_before_any_work(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=f"--write .*{name}: cannot be written: .*{says}"):
        check_output(str(tmp_path / name), "--write")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / name, "text")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("old")
    for name in ("old.md", "new.md"):
        check_output(str(tmp_path / name), "--write")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.md": "old"}
