"""A stranger's model is built and asked for the first time in a process of its own, with limits of time and memory.

The allow-list keeps code out; what a description can still do is cost: layers that allocate gigabytes, graphs that do
not end. The child has no secrets in its environment, may write no file, and is killed when it takes too much. It is
started ahead, so that it runs beside the parent's own imports, and a file that passed is remembered by its digest.

    python -m gauntlet.models.trial FILE SHA256      the child
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import resource
import signal
import subprocess  # nosec B404: the command is this module
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gauntlet.errors import ModelError
from gauntlet.models.build import build
from gauntlet.models.container import Copy, copied, format_of, suffix_of
from gauntlet.models.device import NONE, VISIBLE
from gauntlet.state import PROJECT_ROOT, state_dir

SECONDS = 60
"""Of the wall clock and of the processor."""
MEMORY = 4 << 30
"""Bytes that building and asking may allocate, beyond what the libraries have."""
IMAGES = 2
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "KERAS_HOME")
"""Of the environment: what Python and TensorFlow need, nothing secret."""
_running: dict[str, subprocess.Popen[str]] = {}


def ahead(file: Path, sha256: str) -> None:
    """Start the trial of a file, unless it passed before; `passed` waits for it."""
    if not _mark(sha256).is_file() and sha256 not in _running:
        _running[sha256] = _started(file, sha256)
        atexit.register(_kill, _running[sha256])


def passed(file: Path, sha256: str) -> None:
    """Return when the model could be built and asked within the limits; `ModelError` says why not."""
    if _mark(sha256).is_file():
        return
    ahead(file, sha256)
    process = _running.pop(sha256)
    try:
        output, _ = process.communicate(timeout=SECONDS + 30)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise ModelError(f"it was not built and asked within {SECONDS} s: refused") from None
    if process.returncode != 0:
        raise ModelError(_reason(process.returncode, output))
    remember(sha256)


def _started(file: Path, sha256: str) -> subprocess.Popen[str]:
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", VISIBLE: NONE, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-m", "gauntlet.models.trial", str(file), sha256]
    return subprocess.Popen(  # nosec B603
        command,
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[str]) -> None:
    """End a child that was started ahead in vain, with all that it started, and close its pipe."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdout and not process.stdout.closed:
        process.communicate()


def _reason(status: int, output: str) -> str:
    if line := next((line for line in output.splitlines() if line.startswith("error: ")), ""):
        return line.removeprefix("error: ")
    why = {-signal.SIGXCPU: f"more than {SECONDS} s", -signal.SIGKILL: "too much memory or time"}
    return f"it takes {why.get(status, 'too much, or breaks the process')} to build and ask: refused"


@lru_cache
def _version() -> str:
    """What a verdict depends on besides the file."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for library in ("keras", "tensorflow", "torch", "onnx"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()[:16]


def _mark(sha256: str) -> Path:
    return state_dir() / "checked" / f"{sha256}-{_version()}"


def remember(sha256: str) -> None:
    """No trial from now on: the file passed, or was written here. Kept in the state folder, if there is room."""
    with contextlib.suppress(OSError):
        _mark(sha256).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _mark(sha256).touch(mode=0o600)


# --- the child ----------------------------------------------------------------------------------------------


def _limit() -> None:
    """From here on: so many seconds, so much more address space, and no file of any size."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _try(copy: Copy) -> None:
    """Build the model and ask it about grey images."""
    import keras
    import numpy as np

    model = build(copy)
    if not isinstance(model, keras.Model):
        model.ask(IMAGES)
        return
    shapes = [tuple(n or 32 for n in tensor.shape[1:]) for tensor in model.inputs or ()]
    images = [np.full((IMAGES, *shape), 0.5, np.float32) for shape in shapes]
    if images:
        model(images[0] if len(images) == 1 else images, training=False)


def main(words: list[str] | None = None) -> int:
    """Try the file of this digest: 0 it could be built and asked, 1 it could not."""
    from gauntlet.quiet import load_tensorflow

    name, sha256 = sys.argv[1:] if words is None else words
    load_tensorflow()
    import keras  # noqa: F401

    try:
        with copied(Path(name)) as copy:
            if copy.sha256 != sha256:  # the verdict is about these bytes, not about this path
                raise ModelError("the file changed while it was checked")
            _load_library(copy)
            if Path("/proc/self/statm").exists():
                _limit()
            _try(copy)
    except ModelError as error:
        _tell(error.what)
        return 1
    except BaseException as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _tell(f"not a readable {format_of(suffix_of(Path(name)))}: {reason}")
        return 1
    return 0


def _load_library(copy: Copy) -> None:
    """What a format needs is loaded before memory is limited."""
    if copy.kind in ("exported", "torchscript"):
        from gauntlet.models.pytorch.library import import_torch

        import_torch()


def _tell(line: str) -> None:
    print(f"error: {line[:300]}", flush=True)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # nothing of the model outlives it
