"""Shards on many processes or machines: Dask workers, started here or already running.

Only a few shards are submitted at a time, so the scheduler's memory does not grow with the battery. A
shard whose worker dies is repeated once by another; a finished shard is never repeated.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import queue
import re
import signal
import socket
import threading
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gauntlet import limits
from gauntlet.errors import ClusterError, GauntletError, SettingError
from gauntlet.evaluation.parcel import Parcel, packed
from gauntlet.evaluation.shards import Bench, Hands, OneByOne, Piece, Shard, made
from gauntlet.quiet import load_tensorflow
from gauntlet.state import CHECKOUT

if TYPE_CHECKING:
    from distributed import Client, Future

Maker = Callable[[Parcel, Shard, str], list[Piece]]
SIZE = 256
"""Images of a shard: fewer than in one process, so that there are enough shards for all workers."""
AHEAD = 2
"""Shards under way for each worker: one is made, one is there already."""
PATIENCE = 60.0
"""Seconds without any worker, then the command fails."""
LOOK_SECONDS = 2.0
"""How often it is looked who is there."""
ADDRESS = re.compile(r"(?:tcp|tls)://(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
INSTALL = "pip install -r requirements-cluster.txt -c constraints.txt" if CHECKOUT else "pip install '.[cluster]'"
LOCAL = {
    "distributed.worker.multiprocessing-method": "spawn",  # TensorFlow hangs in a forked process
    "distributed.scheduler.allowed-failures": 1,
    # nobody listens to what only shows how it goes
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


def check(workers: int | None, address: str | None) -> None:
    """`SettingError` for workers that are not available: both kinds, a missing package, no answer at the address."""
    if workers and address:
        raise SettingError("two kinds of workers", where="--workers, --cluster", fix="give one of them")
    if (workers or address) and importlib.util.find_spec("distributed") is None:
        where = "--workers" if workers else "--cluster"
        raise SettingError("the package distributed is not installed", where=where, fix=INSTALL)
    if address:
        _check_address(address)


def _check_address(address: str) -> None:
    match = ADDRESS.fullmatch(address)
    if not match:
        fix = "give tcp://HOST:PORT or tls://HOST:PORT"
        raise SettingError("no address of a scheduler", where=f"--cluster {address[:100]!a}", fix=fix)
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(
            f"no scheduler answers: {reason}", where=f"--cluster {address}", fix="dask scheduler"
        ) from error


@lru_cache
def hands(workers: int | None = None, address: str | None = None) -> Hands:
    """Who makes shards: so many processes of this machine, the workers of a scheduler, or without both this process.

    Workers are started once a process, and end with it. `ClusterError` when none comes.
    """
    check(workers, address)
    if workers is None and address is None:
        return OneByOne()
    _hush()
    cluster = Cluster(*(_started(workers) if workers else _connected(str(address))))
    atexit.register(cluster.close)
    return cluster


def _hush() -> None:
    """Errors are reported in one line of our own."""
    import distributed  # noqa: F401  # which sets levels of its own

    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _started(workers: int) -> tuple[Client, str, Callable[[], None]]:
    """Processes of this machine that no other user can reach: the connection is encrypted, its keys are not stored."""
    import dask
    from distributed import Client, LocalCluster

    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    environment = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1"}
    with dask.config.set(LOCAL), _deaf_to_ctrl_c():
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            env=environment,
        )
        client = Client(cluster, set_as_default=False)
    return client, "this machine", cluster.close


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started inside ignore Ctrl-C, which a terminal sends to them too: their parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _connected(address: str) -> tuple[Client, str, Callable[[], None]]:
    from distributed import Client

    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, TimeoutError) as error:
        fix = "is it a scheduler of Dask, of the same version?"
        raise SettingError("no scheduler answers", where=f"--cluster {address}", fix=fix) from error
    return client, address, lambda: None


# --- in a worker --------------------------------------------------------------------------------------------

_alone = threading.Lock()
"""A worker with several threads makes one shard at a time: libraries draw from generators that threads share."""


def _arrived(parcel: Parcel) -> Parcel:
    """What shards need, where a worker keeps it; the scheduler can make it again wherever it is needed."""
    return parcel


def work(parcel: Parcel, shard: Shard, digest: str) -> list[Piece]:
    """The pieces of a shard whose data are those of `digest`; `ClusterError` when they are not."""
    if shard.digest() != digest:
        raise ClusterError("images arrived at a worker otherwise than they were sent")
    with _alone:
        load_tensorflow()
        with limits.within(f"the attack {shard.attack.name}", shard.seconds, shard.gib):
            return made(parcel.opened(), shard)


# --- in the command's process ---------------------------------------------------------------------------------


class Cluster:
    """The workers of a scheduler."""

    size, several = SIZE, True

    def __init__(self, client: Client, where: str, stop: Callable[[], None], maker: Maker = work) -> None:
        """`where` the scheduler is, in words; `stop` is called in the end; `maker` makes a shard in a worker."""
        self._client, self._where, self._stop, self._maker = client, where, stop, maker
        self._workers, self._looked, self._seen = 0, 0.0, time.monotonic()

    def close(self) -> None:
        """Let go of the workers, and end those that were started here."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for end in (lambda: self._client.close(timeout=2), self._stop):
                try:
                    end()
                except Exception as error:  # it ends with the process in any case
                    logging.getLogger(__name__).debug("closing: %s", error)

    def make(self, bench: Bench, shards: Sequence[Shard]) -> Iterator[tuple[int, list[Piece]]]:
        """As they are done; `ClusterError` when scheduler or workers are gone, `LimitError` beyond an attack's time."""
        if not shards:
            return
        parcel = packed(bench)
        try:
            yield from self._made(parcel, shards)
        except ClusterError:
            hands.cache_clear()  # whoever asks next connects anew
            self.close()
            raise

    def _made(self, parcel: Parcel, shards: Sequence[Shard]) -> Iterator[tuple[int, list[Piece]]]:
        from distributed import as_completed

        done: Any = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)
        waiting, spent, going = deque(enumerate(shards)), defaultdict[str, float](float), dict[str, tuple[int, Any]]()
        model = self._submit(_arrived, parcel)
        try:
            while waiting or going:
                self._look()
                while waiting and len(going) < AHEAD * max(1, self._workers):
                    place, shard = waiting.popleft()
                    future = self._submit(self._maker, model, shard.alone(), shard.digest())
                    going[future.key] = place, future
                    done.add(future)
                for future, result in _ready(done):
                    place, _ = going.pop(future.key)
                    pieces = self._pieces(future, result)
                    attack = shards[place].attack
                    spent[attack.id] += sum(float(piece["seconds"]) for piece in pieces)
                    limits.check_spent(f"the attack {attack.name}", spent[attack.id], shards[place].seconds)
                    yield place, pieces
        finally:
            self._forget([model, *(future for _, future in going.values())])

    def _submit(self, function: Callable[..., Any], *words: Any) -> Future:
        """A future of its own: two commands on one scheduler never share one."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            try:
                return self._client.submit(function, *words, pure=False)
            except Exception as error:
                raise self._gone() from error

    def _pieces(self, future: Future, result: Any) -> list[Piece]:
        """What a future gave; its own error when that is one of ours."""
        if future.status == "finished":
            pieces: list[Piece] = result
            return pieces
        if future.status != "error":
            raise self._gone()
        error = result[1]
        if isinstance(error, GauntletError):
            raise error
        if type(error).__name__ == "KilledWorker":
            raise ClusterError("a shard was given up: two workers died of it (is there memory enough? --max-memory)")
        if isinstance(error, ModuleNotFoundError):
            raise ClusterError(f"a worker has no module {error.name}: install Gauntlet on all machines") from error
        raise error

    def _look(self) -> None:
        """Count the workers now and then; `ClusterError` when there have been none for long, or nobody answers."""
        limits.check()
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        try:
            self._workers, self._looked = len(self._client.nthreads()), now
        except Exception as error:
            raise self._gone() from error
        self._seen = now if self._workers else self._seen
        if now - self._seen > PATIENCE:
            raise ClusterError(f"no worker is there, at the scheduler of {self._where}, for {PATIENCE:g} seconds")

    def _gone(self) -> ClusterError:
        what = f"the scheduler of {self._where} is gone; what was finished is kept"
        return ClusterError(f"{what}: the same command goes on from there")

    def _forget(self, futures: list[Future]) -> None:
        try:
            self._client.cancel(futures, force=True)
        except Exception as error:  # a scheduler that is gone has forgotten
            logging.getLogger(__name__).debug("cancelling: %s", error)


def _ready(done: Any) -> list[tuple[Future, Any]]:
    """The futures that are done, with their results: none when there is none for a while."""
    try:
        first = done.queue.get(timeout=LOOK_SECONDS)
    except queue.Empty:
        return []
    return [first, *done.next_batch(block=False)]
