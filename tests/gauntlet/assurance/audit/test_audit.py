"""The audit log: what breaks its chain is named, and what cannot be written is not half-written."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gauntlet.assurance.audit import journal, trail
from gauntlet.assurance.audit.trail import KEY, append, main, verify
from gauntlet.errors import InputError, SettingError
from gauntlet.state import PROJECT_ROOT

Lines = list[bytes]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six entries, in a folder that does not exist yet."""
    path = tmp_path / "new" / "audit.jsonl"
    monkeypatch.setenv(trail.VARIABLE, str(path))
    monkeypatch.delenv(KEY, raising=False)
    for number in range(6):
        append("run ended", config={"seed": number}, inputs={"dataset": "digits"}, outputs={"run": f"r{number}"})
    return path


def rewrite(path: Path, change: Callable[[Lines], Lines]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def forged(line: bytes, key: str = "", **facts: object) -> bytes:
    """An entry with other facts and a hash that fits them."""
    entry = json.loads(line) | facts
    return trail._canonical(entry | {"hash": trail._hash(entry, key)}) + b"\n"


def python(code: str, **options: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", f"from gauntlet.assurance.audit.trail import append\n{code}"]
    return subprocess.Popen(words, cwd=PROJECT_ROOT, text=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def test_entries_say_who_what_when_and_follow_each_other(log: Path) -> None:
    verdict = verify(log)
    assert (len(verdict.entries), verdict.problem) == (6, "")
    first, second = verdict.entries[:2]
    assert first["config"] == {"seed": 0}
    assert first["previous"] == trail.NOTHING
    assert second["seq"] == 2
    assert {"time", "user", "host", "event", "inputs", "outputs"} <= set(first)
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "problem", "whole"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"digits", b"mnist!"), *lines[3:]], "entry 3 in line 3 was", 2),
        (lambda lines: [*lines[:2], forged(lines[2], user="nobody"), *lines[3:]], "entry 4 does not follow", 3),
        (lambda lines: [*lines[:2], *lines[3:]], "entry 3 is missing: line 3 holds 4", 2),
        (lambda lines: [*lines[:2], *lines[4:]], "entry 3 is missing: line 3 holds 5", 2),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "entry 3 is out of order: line 3 holds 4", 2),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], "line 3 is no entry", 2),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "entry 4 is out of order: line 4 holds 3", 3),
        (lambda lines: [*lines[:5], b'{"seq": 6}\n'], "line 6 is no entry", 5),
        (lambda lines: [*lines[:5], b"\xff\xfe\n"], "line 6 is no entry", 5),
        (lambda lines: lines[:4], "the end was cut off: the head file knows entry 6", 4),
        (lambda lines: lines[:0], "the end was cut off: the head file knows entry 6", 0),
        (lambda lines: [*lines[:5], forged(lines[5], user="nobody")], "entry 6 is not the one the head file knows", 6),
        (lambda lines: [forged(line, log="another") for line in lines[:1]] + lines[1:], "entry 2 does not follow", 1),
    ],
    ids=[
        *("changed", "rehashed", "removed", "two-removed", "swapped", "blank", "twice", "no-entry", "no-text"),
        *("cut", "emptied", "last-rehashed", "other-log"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named(log: Path, change: Callable[[Lines], Lines], problem: str, whole: int) -> None:
    rewrite(log, change)
    verdict = verify(log)
    assert verdict.problem.startswith(problem)
    assert len(verdict.entries) == whole


def test_every_single_byte_counts(log: Path) -> None:
    content = log.read_bytes()
    for at in range(0, len(content), 37):
        log.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert verify(log).problem, at
    log.write_bytes(content)
    assert not verify(log).problem


def test_a_removed_log_or_head_is_seen(log: Path) -> None:
    head = log.with_name("audit.jsonl.head")
    log.rename(log.with_name("moved"))
    assert "knows entry 6" in verify(log).problem
    log.with_name("moved").rename(log)
    head.unlink()
    assert "head file is missing" in verify(log).problem


def test_a_cut_end_stays_visible_when_the_log_goes_on(log: Path) -> None:
    rewrite(log, lambda lines: lines[:4])
    assert append("run ended").sequence == 7
    assert verify(log).problem == "entry 5 is missing: line 5 holds 7"


def test_a_log_forged_with_its_head_is_caught_by_the_anchors_of_mlflow(log: Path) -> None:
    known = append("run ended", config={"seed": 7})
    head = log.with_name("audit.jsonl.head")
    before = log.read_bytes(), head.read_bytes()
    log.unlink()
    head.unlink()
    for _ in range(7):
        append("run ended")
    rewrite(log, lambda lines: relinked(lines, known.log))
    head.write_text(
        json.dumps({"log": known.log, "sequence": 7, "hash": json.loads(log.read_bytes().splitlines()[6])["hash"]})
    )
    assert not verify(log).problem, "a chain alone cannot see this"
    assert verify(log, [known]).problem == "entry 7 is not the one MLflow knows"
    other = trail.Receipt("another log", 99, "0")
    log.write_bytes(before[0])
    head.write_bytes(before[1])
    assert not verify(log, [known, other]).problem
    later = trail.Receipt(known.log, 8, "0")
    assert verify(log, [known, later]).problem == "the end was cut off: MLflow knows entry 8"


def relinked(lines: Lines, log: str) -> Lines:
    """A chain made anew by someone who knows how."""
    import hashlib

    made: Lines = []
    for line in lines:
        previous = hashlib.sha256(made[-1][:-1]).hexdigest() if made else trail.NOTHING
        made.append(forged(line, log=log, previous=previous))
    return made


def test_a_key_makes_forging_need_the_key(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "a key that flows do not know")
    assert "carries no key" in verify(log).problem
    append("run ended", config={"seed": 6})
    assert not verify(log).problem
    rewrite(log, lambda lines: [*lines[:6], forged(lines[6], "another key", user="nobody")])
    assert verify(log).problem == "entry 7 in line 7 was changed"
    rewrite(log, lambda lines: [*lines[:6], forged(lines[6], keyed=False)])
    assert verify(log).problem


def test_a_keyed_log_takes_no_entry_without_the_key(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "some key")
    append("run ended")
    monkeypatch.delenv(KEY)
    with pytest.raises(OSError, match=f"{KEY} is not set"):
        append("run ended")
    verdict = verify(log)
    assert (verdict.unchecked, verdict.problem) == (1, "")
    assert "1 keyed, unchecked" in str(verdict)


def test_processes_take_turns(log: Path) -> None:
    several = [python("for i in range(20): append('run ended', config={'i': i, 'more': 'x' * 6000})") for _ in range(4)]
    assert [process.wait(60) for process in several] == [0] * 4
    for process in several:
        process.communicate()
    assert (len(verify(log).entries), verify(log).problem) == (86, "")


def test_a_log_that_another_holds_for_ever_is_not_waited_for(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.1)
    with journal.locked(log), pytest.raises(OSError, match="another process has held"):
        append("run ended")
    with journal.locked(log), pytest.raises(InputError, match="another process has held"):
        verify(log)
    assert append("run ended").sequence == 7


def test_half_a_line_of_a_killed_process_is_set_aside_and_recorded(log: Path) -> None:
    torn = b'{"seq":7,"event":"run en'
    with log.open("ab") as file:
        file.write(torn)
    assert "half-written" in verify(log).problem
    append("run ended")
    verdict = verify(log)
    assert verdict.problem == ""
    assert [entry["event"] for entry in verdict.entries[6:]] == [trail.TORN, "run ended"]
    assert verdict.entries[6]["outputs"]["bytes"] == len(torn)
    assert log.with_name("audit.jsonl.torn").read_bytes() == torn + b"\n"


def test_killed_at_any_moment_the_log_stays_whole_or_says_so(log: Path) -> None:
    """Processes that do nothing but append are killed; what they left is repaired by the next entry."""
    for number in range(5):
        process = python(
            "print(flush=True)\nwhile True: append('run ended', config={'x': 'y' * 5000})", stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.02 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        append("run ended")
        assert verify(log).problem == ""


def test_a_full_disk_leaves_the_log_as_it_was(log: Path) -> None:
    before = log.read_bytes()
    limit = len(before) + 100

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = python("append('run ended', config={'x': 'y' * 5000})", preexec_fn=full)
    _, told = process.communicate(timeout=60)
    assert "OSError: [Errno 27] File too large" in told
    assert log.read_bytes() == before
    assert verify(log).problem == ""


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(log: Path) -> None:
    with pytest.raises(NotADirectoryError):
        append("run ended", log / "below" / "a-file")


def test_secrets_never_reach_the_log(log: Path) -> None:
    store = "postgresql://gauntlet:hunter2@db/mlflow"
    append("run failed", config={"a": {"api_key": "hunter2"}, "uri": store}, outputs={"error": f"no store {store}"})
    assert b"hunter2" not in log.read_bytes()
    assert verify(log).entries[-1]["config"] == {"a": {"api_key": "***"}, "uri": "postgresql://gauntlet:***@db/mlflow"}


def test_the_command_says_what_it_found(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = trail.read_head(log)
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("6 entries, 20")
    assert main([str(log), "--tail", "2", "--anchor", str(head)]) == 0
    table = capsys.readouterr().out
    assert "run r5" in table
    assert "run r3" not in table
    rewrite(log, lambda lines: lines[:2] + lines[3:])
    assert main([]) == 1
    assert capsys.readouterr().out == "broken: entry 3 is missing: line 3 holds 4; 2 entries before it whole\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.jsonl"], "there is no such audit log"),
        (["--tail", "0"], "--tail: must be 1 or more"),
        (["--anchor", "7"], "not LOG:SEQ:HASH"),
        (["."], "cannot be read"),
    ],
)
@pytest.mark.usefixtures("log")
def test_the_users_mistakes_are_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_an_anchor_is_spelt_as_runs_carry_it(log: Path) -> None:
    receipt = append("run ended")
    assert trail.anchor(str(receipt)) == receipt
    with pytest.raises(SettingError):
        trail.anchor("a:b:c")
    with pytest.raises(InputError):
        verify(log.with_name("none"))


def test_a_log_begun_anew_is_caught_by_a_store_of_its_own(log: Path) -> None:
    known = trail.Receipt(verify(log).entries[0]["log"], 6, verify(log).entries[5]["hash"])
    for path in (log, log.with_name("audit.jsonl.head")):
        path.unlink()
    append("run started")
    assert verify(log, [known]).problem == ""  # of another log, maybe another machine's
    assert "begun anew: MLflow knows entry 6" in verify(log, [known], alone=True).problem


def test_a_head_that_was_taken_away_stays_visible_when_the_log_goes_on(log: Path) -> None:
    rewrite(log, lambda lines: lines[:4])
    log.with_name("audit.jsonl.head").unlink()
    append("run started")
    assert "before entry 5 the head file was missing" in verify(log).problem


def test_a_line_as_deep_as_its_writer_likes_is_no_entry(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"[" * 200_000 + b"\n")
    assert "line 7 is no entry" in verify(log).problem


def test_what_is_shown_drives_no_terminal(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append("run \x1b[2J\u202e started", outputs={"x": "\x1b]0;title\x07"})
    assert main([str(log), "--tail", "1"]) == 0
    shown = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\x07"} & set(shown)
