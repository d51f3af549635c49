"""A night for each model of a list: so many at once, each a process of its own; one that fails stops no other."""

from __future__ import annotations

import os
import subprocess  # nosec B404: the command is this module
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.command import checked
from gauntlet import yamlfile
from gauntlet.errors import InputError, SettingError, one_line
from gauntlet.state import PROJECT_ROOT, state_dir

if TYPE_CHECKING:
    from flows.night import NightlyConfig
    from tasks.nights import Ended

OF_THE_LIST = ("models", "at_once", "parent", "tracking_uri")
"""Settings that one night of a list cannot have of its own."""
OF_A_NIGHT = ("name", "candidate", "champion")
"""Settings that a whole list cannot have."""
FIX = "write a list of a nightly's settings, each with a `name`"
EVERY_SECONDS = 0.2
"""How often it is looked whether a night ended."""


def listed(config: NightlyConfig) -> list[NightlyConfig]:
    """The nights of the file `config.models`: what an entry does not say is as `config` says.

    Raises `SettingError`, naming the entry, for what is no list of nights, or no night's settings.
    """
    path = Path(str(config.models))
    fields = type(config).model_fields
    content, common = yamlfile.read(path, FIX), {name: getattr(config, name) for name in fields}
    for name in OF_A_NIGHT:
        if common.pop(name) != fields[name].default:
            raise SettingError("is said of a whole list", where=f"--{name}", fix=f"say it in {path.name}, of one model")
    if not isinstance(content, list) or not content:
        raise SettingError("no list of models", where=path.name, fix=FIX)
    nights = [_night(type(config), path.name, number, entry, common) for number, entry in enumerate(content, 1)]
    for number, one in enumerate(nights, 1):
        if one.name in [before.name for before in nights[: number - 1]]:
            raise SettingError("the name is taken by an entry before", where=_entry(path.name, number, one.name))
    return nights


def check(config: NightlyConfig) -> None:
    """Refuse a list with an entry that no night could start with: before any of them starts."""
    for number, one in enumerate(listed(config), 1):
        try:
            one.check()
        except InputError as error:
            where = f"{_entry(Path(str(config.models)).name, number, one.name)}{error.where and ': '}{error.where}"
            raise type(error)(error.what, where=where, fix=error.fix) from error


def _night(config: type[NightlyConfig], file: str, number: int, entry: Any, common: dict[str, Any]) -> NightlyConfig:
    named = entry.get("name") if isinstance(entry, dict) else None
    where = _entry(file, number, named)
    if not isinstance(named, str):
        raise SettingError("no settings with a name", where=where, fix=FIX)
    for key in entry:
        if key in OF_THE_LIST or not isinstance(key, str):
            raise SettingError("is no setting of one night", where=f"{where}: {one_line(key, 80)}", fix=FIX)
    given = common | {"models": None, "at_once": 1}
    try:
        return checked(config, given | entry, lambda key: f"{where}: {key}", "see `gauntlet nightly --help`")
    except InputError as error:
        known = error.where if error.where.startswith(where) else f"{where}: {error.where}"
        raise type(error)(error.what, where=known, fix=error.fix) from error


def _entry(file: str, number: int, name: object) -> str:
    return f"{file}: entry {number}{f' ({one_line(name, 80)})' if name else ''}"


def run(nights: Sequence[NightlyConfig], at_once: int) -> Generator[Ended, None, None]:
    """Start the nights, at most `at_once` at a time; each as it ends. Closed, it stops those that go on."""
    from tasks.nights import Ended

    waiting, going = list(nights), dict[str, tuple[subprocess.Popen[bytes], float]]()
    try:
        while waiting or going:
            while waiting and len(going) < at_once:
                night = waiting.pop(0)
                going[night.name] = _start(night), time.monotonic()
            over = [name for name, (process, _) in going.items() if process.poll() is not None]
            for name in over:
                process, begun = going.pop(name)
                seconds = time.monotonic() - begun
                yield Ended(name=name, status=process.returncode, seconds=seconds, log=str(log_of(name)))
            time.sleep(0 if over else EVERY_SECONDS)
    finally:
        for process, _ in going.values():
            process.terminate()
        for process, _ in going.values():
            process.wait()


def log_of(name: str) -> Path:
    """The file that a night's output goes to."""
    return state_dir() / "logs" / f"nightly-{name}.log"


def _start(night: NightlyConfig) -> subprocess.Popen[bytes]:
    """`flows.one_night`, with the settings on its standard input: they may hold a store's password."""
    log_of(night.name).parent.mkdir(parents=True, exist_ok=True)
    # not part of the flow run that this process may be for a Prefect worker
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT_ROOT), environment.get("PYTHONPATH"))))
    with log_of(night.name).open("wb") as log:
        words = [sys.executable, "-m", "flows.one_night"]
        process = subprocess.Popen(  # nosec B603
            words, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin:  # of one that has ended already
            process.stdin.write(night.model_dump_json().encode())
    return process
