"""Verify or show the audit log: who did what, when, with which code, settings and inputs, and what came out.

One JSON object a line, appended and never changed. Each entry carries the SHA-256 of the line before (`previous`)
and of itself (`hash`), so that a line changed, removed or moved breaks the chain at that place. A second file,
`audit.jsonl.head`, stores the newest entry, so that a cut-off end is detected too.

Limits of the chain: whoever can write to the folder can rewrite the log and its head, from any entry on, and a new
chain is as consistent as the old one. Two things help, and both are kept elsewhere:

- Every MLflow run carries the log's name and its entry's number and hash as tags. Store and log must then be forged
  together; `verify(anchors=)` compares them.
- With GAUNTLET_AUDIT_KEY set, `hash` is an HMAC-SHA256: without the key no valid entry can be made. Whoever can
  read the key (the same user, a flow that the worker runs) can.

An entry says what a run claimed, not that the claim is true.

`python -m gauntlet.assurance.audit.trail [FILE]` verifies: 0 whole, 1 broken, 2 the user's input.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import hmac
import json
import os
import socket
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gauntlet.assurance.audit import journal
from gauntlet.assurance.audit.secrets import masked
from gauntlet.commandline import Parser
from gauntlet.errors import GauntletError, InputError, SettingError
from gauntlet.quiet import printable
from gauntlet.state import state_dir

VARIABLE, KEY = "GAUNTLET_AUDIT", "GAUNTLET_AUDIT_KEY"
NOTHING = "0" * 64
"""`previous` of the first entry."""
HEADLESS = "the head file was missing"
"""The event of an entry that follows a log whose head was gone."""
TORN = "half-written line set aside"

Entry = dict[str, Any]
"""seq, time (UTC), log, user, host, event, commit, config, inputs, outputs, previous, hash; `keyed` with a key."""


_FIELDS = {"seq": int} | dict.fromkeys(("time", "log", "user", "host", "event", "previous", "hash"), str)


@dataclass(frozen=True)
class Receipt:
    """The position of an entry: log, number and hash. Kept elsewhere, it anchors the log."""

    log: str
    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.log}:{self.sequence}:{self.hash}"


def log_path() -> Path:
    """GAUNTLET_AUDIT, else `audit.jsonl` in the state folder."""
    chosen = os.environ.get(VARIABLE, "").strip()
    return Path(chosen).expanduser().absolute() if chosen else state_dir() / "audit.jsonl"


def append(event: str, path: Path | None = None, **facts: Any) -> Receipt:
    """Write one entry to disk and return its position; secrets in it are masked.

    `facts` are commit, config, inputs, outputs: plain data. Safe between processes. Raises `OSError` when the entry
    cannot be written (a full disk, a read-only folder, a keyed log without its key); then the log is as it was.
    """
    path = path or log_path()
    with journal.locked(path) as file:
        if torn := journal.set_aside_torn(file, _beside(path, "torn")):
            damage = {
                "bytes": len(torn),
                "sha256": hashlib.sha256(torn).hexdigest(),
                "file": _beside(path, "torn").name,
            }
            _write(file, path, {"event": TORN, "outputs": damage})
        if journal.last_line(file) and read_head(path) is None:
            _write(file, path, {"event": HEADLESS})
        return _write(file, path, {"event": event, **facts})


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _write(file: int, path: Path, facts: Mapping[str, Any]) -> Receipt:
    entry = _entry(facts, journal.last_line(file), read_head(path))
    receipt = Receipt(entry["log"], entry["seq"], entry["hash"])
    with journal.appended(file, _canonical(entry)):
        journal.replace(_beside(path, "head"), json.dumps(asdict(receipt)))
    return receipt


def _entry(facts: Mapping[str, Any], last: bytes, head: Receipt | None) -> Entry:
    """The next entry. Where the head is ahead of the log, numbers go on from it: a cut-off end stays a gap."""
    before, key = _parsed(last) or {}, os.environ.get(KEY, "")
    if before.get("keyed") and not key:
        raise OSError(f"the log is keyed and {KEY} is not set")
    entry = masked({name: value for name, value in facts.items() if value}) | {
        "seq": max(before.get("seq", 0), head.sequence if head else 0) + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "log": before.get("log") or (head.log if head else uuid.uuid4().hex[:12]),
        "user": _user(),
        "host": socket.gethostname(),
        "previous": hashlib.sha256(last).hexdigest() if last else NOTHING,
    }
    if key:
        entry["keyed"] = True
    # as a reader will find it: paths and NumPy's numbers are text before they are hashed
    entry = json.loads(json.dumps(entry, default=str))
    return entry | {"hash": _hash(entry, key)}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def _canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def _hash(entry: Mapping[str, Any], key: str) -> str:
    """SHA-256 of an entry without its `hash`, sorted and without spaces; HMAC-SHA256 for a keyed one."""
    text = _canonical({name: value for name, value in entry.items() if name != "hash"})
    return (hmac.new(key.encode(), text, "sha256") if entry.get("keyed") else hashlib.sha256(text)).hexdigest()


def _parsed(line: bytes) -> Entry | None:
    with suppress(ValueError, RecursionError):  # a line may nest as deep as its writer likes
        entry = json.loads(line)
        if isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in _FIELDS.items()):
            return entry
    return None


def read_head(path: Path) -> Receipt | None:
    """The newest entry as the head file has it; None where it says nothing."""
    with suppress(OSError, ValueError, TypeError):
        receipt = Receipt(**json.loads(_beside(path, "head").read_text()))
        return receipt if isinstance(receipt.sequence, int) else None
    return None


# Verification


@dataclass(frozen=True)
class LogState:
    """What `verify` found: the entries before the first broken one, and what is wrong there, if anything."""

    entries: tuple[Entry, ...]
    problem: str = ""
    unchecked: int = 0
    """Keyed entries whose hash was not checked, for want of the key; their chain was."""

    def __str__(self) -> str:
        count = f"{len(self.entries)} {'entry' if len(self.entries) == 1 else 'entries'}"
        if self.problem:
            return f"broken: {self.problem}; {count} before it whole"
        if not self.entries:
            return "0 entries"
        first, last = self.entries[0], self.entries[-1]
        note = f"; {self.unchecked} keyed, unchecked: set {KEY}" if self.unchecked else ""
        return f"{count}, {first['time']} to {last['time']}, head {last['seq']}:{last['hash']}{note}"


def verify(path: Path | None = None, anchors: Sequence[Receipt] = (), *, alone: bool = False) -> LogState:
    """Follow the chain from the first line to the head and to what others know of it (`anchors`).

    Anchors of other logs are passed over, unless the store is this log's `alone`: then another log was begun anew in
    the place of the one that the store knows. Raises `InputError` when there is no such log.
    """
    path, key = path or log_path(), os.environ.get(KEY, "")
    head = read_head(path)
    lines = _lines(path, head)
    whole: list[Entry] = []
    problem = ""
    for number, line in enumerate(lines, start=1):
        entry = _parsed(line)
        problem = _flaw(entry, whole, lines, number, key)
        if problem or entry is None:
            break
        whole.append(entry)
    problem = problem or _end_flaw(whole, head, anchors, key) or _gap_flaw(whole, anchors, alone)
    return LogState(tuple(whole), problem, 0 if key else sum(bool(entry.get("keyed")) for entry in whole))


def _lines(path: Path, head: Receipt | None) -> list[bytes]:
    try:
        content = journal.read(path)
    except FileNotFoundError:
        if head is None:
            raise InputError("there is no such audit log", where=str(path), fix="a run makes it") from None
        return []
    except OSError as error:
        raise InputError(f"cannot be read: {(error.strerror or str(error)).lower()}", where=str(path)) from error
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _flaw(entry: Entry | None, whole: Sequence[Entry], lines: Sequence[bytes], number: int, key: str) -> str:
    """What is wrong with an entry, given those before it; nothing when it is whole."""
    if entry is None:
        return f"line {number} is no entry" + (" (half-written?)" if number == len(lines) else "")
    before = whole[-1] if whole else {}
    expected = before.get("seq", 0) + 1
    if (key or not entry.get("keyed")) and entry.get("hash") != _hash(entry, key):
        return f"entry {entry['seq']} in line {number} was changed"
    if entry["seq"] != expected:
        moved = any((other := _parsed(line)) and other["seq"] == expected for line in lines)
        return f"entry {expected} {'is out of order' if moved else 'is missing'}: line {number} holds {entry['seq']}"
    if entry.get("previous") != (hashlib.sha256(lines[number - 2]).hexdigest() if whole else NOTHING):
        return f"entry {expected} does not follow the line before it, which was changed or replaced"
    if entry.get("log") != before.get("log", entry.get("log")):
        return f"entry {expected} belongs to another log"
    return f"entry {expected} carries no key" if before.get("keyed") and not entry.get("keyed") else ""


def _end_flaw(whole: Sequence[Entry], head: Receipt | None, anchors: Sequence[Receipt], key: str) -> str:
    """What is wrong with a chain that is whole as far as it goes."""
    if whole and head is None:
        return "the head file is missing, so an end cut off could not be seen"
    if key and whole and not whole[-1].get("keyed"):
        return f"{KEY} is set and the last entry carries no key"
    own = {entry["log"] for entry in whole} or ({head.log} if head else set())
    for known, who in [(head, "the head file"), *((anchor, "MLflow") for anchor in anchors)]:
        if known and (known.log in own or who == "the head file"):
            if known.sequence > len(whole):
                return f"the end was cut off: {who} knows entry {known.sequence}"
            if known.sequence < 1 or whole[known.sequence - 1]["hash"] != known.hash:
                return f"entry {known.sequence} is not the one {who} knows"
    return ""


def _gap_flaw(whole: Sequence[Entry], anchors: Sequence[Receipt], alone: bool) -> str:
    """What a whole chain cannot show by itself: that it was begun anew, or that its head was taken away before."""
    if gap := next((entry["seq"] for entry in whole if entry["event"] == HEADLESS), None):
        return f"before entry {gap} the head file was missing, so an end cut off there could not be seen"
    own = {entry["log"] for entry in whole}
    others = [anchor for anchor in anchors if anchor.log not in own]
    if alone and others:
        other = max(others, key=lambda anchor: anchor.sequence)
        return f"the log was begun anew: MLflow knows entry {other.sequence} of another one ({other.log})"
    return ""


# The command


def _parser(*, store: bool = False) -> argparse.ArgumentParser:
    parse = Parser("gauntlet audit", description="Verify the audit log.")
    parse.add_argument("file", nargs="?", type=Path, help=f"the log (default: {VARIABLE}, else the state folder's)")
    parse.add_argument("--tail", type=int, metavar="N", help="show the last N entries")
    parse.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="LOG:SEQ:HASH",
        help="what a run in MLflow knows: its tag gauntlet.audit_head (repeatable)",
    )
    if store:
        store_help = "compare with every anchor in MLflow: in the store of this URI, else the usual one"
        parse.add_argument("--store", nargs="?", const="", metavar="URI", help=store_help)
    return parse


def anchor(text: str) -> Receipt:
    """The receipt that `LOG:SEQ:HASH` spells, as runs carry it. Raises `SettingError`."""
    log, _, rest = text.partition(":")
    sequence, _, digest = rest.partition(":")
    if not (log and sequence.isdigit() and digest):
        raise SettingError(f"not LOG:SEQ:HASH: {text!r}", where="--anchor", fix="copy a run's tag gauntlet.audit_head")
    return Receipt(log, int(sequence), digest)


def show(entries: Sequence[Entry]) -> None:
    """Print entries as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "time (UTC)", "who", "event", "commit", "outcome", box=None, pad_edge=False)
    for entry in entries:
        outputs = entry.get("outputs") or {}
        results = ", ".join(f"{name} {value}" for name, value in outputs.items() if not isinstance(value, dict | list))
        who, commit = f"{entry['user']}@{entry['host']}", entry.get("commit", "")[:8]
        cells = str(entry["seq"]), entry["time"][:19], who, entry["event"], commit, results
        table.add_row(*(" ".join(printable(cell).split()) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160, markup=False).print(table)


def main(words: Sequence[str] | None = None, known: Callable[[str], tuple[list[Receipt], bool]] | None = None) -> int:
    """Run the command line: 0 the log is whole, 1 it is broken, 2 the user's input.

    `known` gives the anchors of a store by its URI, and whether that store is this log's alone.
    """
    options = _parser(store=known is not None).parse_args(words)
    try:
        if options.tail is not None and options.tail < 1:
            raise SettingError(f"must be 1 or more, got {options.tail}", where="--tail")
        anchors, alone = [anchor(text) for text in options.anchor], False
        if known and options.store is not None:
            stored, alone = known(options.store)
            anchors += stored
        verdict = verify(options.file, anchors, alone=alone)
    except GauntletError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return error.exit_status
    if options.tail:
        show(verdict.entries[-options.tail :])
    print(printable(str(verdict)))
    return 1 if verdict.problem else 0


if __name__ == "__main__":
    raise SystemExit(main())
