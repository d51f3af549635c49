"""How much an untrusted data set or model may use: bytes, images, weights, time, memory.

Sizes are checked before anything of that size is allocated. Time and memory are checked between batches; a black-box
model is called with a timeout, so that one that never answers ends too. Code that keeps the interpreter's lock
forever (a hung extension module) cannot be stopped from within: it needs a limit of the operating system.
"""

from __future__ import annotations

import contextvars
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gauntlet.errors import LimitError

MAX_NPZ_BYTES = 8 * 2**30
"""Of the wanted arrays of an .npz together, as declared; of the images of any other data set, and of a table."""
SUSPICIOUS_BYTES, SUSPICIOUS_RATIO = 2**30, 100
"""Images compress well, but not a gibibyte a hundredfold."""
MAX_NPY_HEADER = 2**16
"""Bytes; NumPy itself refuses headers above 10,000 characters."""
MAX_TAR_MEMBERS, MAX_ZIP_MEMBERS = 100, 10_000
MAX_FILES = 2_000_000
"""Of a folder of images, or of a zip of one."""
MAX_DEPTH = 6
"""Folders within folders that are inspected."""
MAX_PICTURE_BYTES = 64 * 2**20
"""Of one encoded image."""
MAX_JPEG_SCANS = 64
"""Of a progressive JPEG: each takes the time of a whole image, and a few bytes."""
MAX_COLUMNS = 200_000
"""Of a table."""
MAX_IMAGES = 10_000_000
"""Of a training or test set."""
MAX_SIDE = 4_096
"""Pixels: height or width of an image."""
MAX_CLASSES = 10_000
MAX_CLASS_NAME = 100
"""Characters."""
MAX_MODEL_BYTES = 4 * 2**30
"""Of a model's file, and of all that is packed in it."""
MAX_CONFIG_BYTES = 32 * 2**20
"""Of the JSON that describes a Keras model."""
MAX_WEIGHTS = 2**30
"""Numbers that a model learns: 4 GiB of float32."""
MAX_ACTIVATION = 2**24
"""Numbers that one layer gives for one image."""
MAX_TEXT = 1_000
"""Characters of anything that is typed."""
SECONDS, MAX_SECONDS = 6 * 3600.0, 30 * 86_400.0
"""Of one attack, and of whatever else a model is asked in one go: when nothing is said, and at most."""
GIB, MAX_GIB = 16.0, 4_096.0
"""Memory of the whole process, in GiB, above which a model is asked nothing more."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Clock:
    what: str
    seconds: float
    gib: float
    end: float


_clock: contextvars.ContextVar[_Clock | None] = contextvars.ContextVar("clock", default=None)


@contextmanager
def within(what: str, seconds: float = SECONDS, gib: float = GIB) -> Iterator[None]:
    """Hold what is asked of models inside to so many seconds and GiB of memory; `LimitError` when it takes more."""
    token = _clock.set(_Clock(what, seconds, gib, time.monotonic() + seconds))
    try:
        yield
    finally:
        _clock.reset(token)


def check() -> None:
    """Raise `LimitError` when the time is over or too much memory is used; called between batches."""
    if clock := _clock.get():
        if time.monotonic() > clock.end:
            raise _late(clock)
        _check_memory(clock)


def check_spent(what: str, seconds: float, allowed: float) -> None:
    """Raise `LimitError` when what was asked of a model elsewhere took more than is allowed."""
    if seconds > allowed:
        raise _late(_Clock(what, allowed, GIB, 0.0))


def _check_memory(clock: _Clock) -> None:
    resident = _resident() / 2**30
    if resident > clock.gib:
        what = f"{clock.what} holds {resident:.1f} GiB of memory, more than the {clock.gib:g} allowed"
        raise LimitError(what, where="--max-memory", fix="ask for fewer images, or raise --max-memory")


def _resident() -> int:
    """Bytes of this process that are in memory now; elsewhere than on Linux the most that ever were."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _late(clock: _Clock) -> LimitError:
    what = f"{clock.what} took longer than the {clock.seconds:g} seconds allowed"
    return LimitError(what, where="--max-seconds", fix="ask for fewer images or iterations, or raise --max-seconds")


def call(function: Callable[..., T], *words: Any) -> T:
    """What `function` returns, while the time lasts; whoever is still busy then is left behind. `LimitError` then.

    Without limits (see `within`) it is simply called.
    """
    check()
    clock = _clock.get()
    if clock is None:
        return function(*words)
    answer = _beside(function, words, clock)
    check()
    return answer


def _beside(function: Callable[..., T], words: tuple[Any, ...], clock: _Clock) -> T:
    """Run in a thread that does not keep the process alive."""
    done: dict[str, Any] = {}

    def work() -> None:
        try:
            done["answer"] = function(*words)
        except BaseException as error:  # anyone's, SystemExit too: raised again below
            done["error"] = error

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(min(0.2, max(0.0, clock.end - time.monotonic())) or 0.001)
        if thread.is_alive() and time.monotonic() > clock.end:
            raise _late(clock)
        _check_memory(clock)
    if "error" in done:
        raise done["error"]
    answer: T = done["answer"]
    return answer
