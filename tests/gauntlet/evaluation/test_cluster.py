"""Shards on workers: the same outcome as in one process, whoever is killed; and what is refused."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from gauntlet.attacks import Attack, attack
from gauntlet.checkpoint import Checkpoint
from gauntlet.data.datasets import Dataset
from gauntlet.errors import ClusterError, LimitError, SettingError
from gauntlet.evaluation import cluster, parcel
from gauntlet.evaluation.battery import Battery, Job, plan, run
from gauntlet.evaluation.cluster import Cluster, check, hands, work
from gauntlet.evaluation.parcel import packed
from gauntlet.evaluation.shards import OneByOne, made
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.state import PROJECT_ROOT
from tests.processes import HOST, free_port

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed (requirements-cluster.txt)"
)
ATTACKS = ("noise-uniform", "fgsm", "pgd:max_iter=10", "deepfool:norm=inf,max_iter=5")


@pytest.fixture(scope="module")
def job(classifier: CompiledClassifier, digits: Dataset) -> Job:
    x, y = digits.x_test, digits.y_test
    return Job(classifier, x, y, classifier.labels(x), seed=0)


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """Two workers, processes of their own."""
    workers = hands(2)
    assert isinstance(workers, Cluster)
    yield workers
    hands.cache_clear()
    workers.close()


class Counting(Checkpoint):
    """A checkpoint that counts how often a piece is kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kept: Counter[str] = Counter()

    def save(self, key: str, arrays: dict[str, Any]) -> None:
        self.kept[key] += 1
        super().save(key, arrays)


def battery(*names: str, n: int, cascade: bool = False) -> Battery:
    return Battery(attack=names, eps=(0.05, 0.15), n=n, cascade=cascade)


def first(n: int | None) -> np.ndarray:
    return np.arange(n or 0)


def assert_alike(results: Any, others: Any) -> None:
    """Up to rounding: a worker has fewer threads than this process, and sums are divided among threads."""
    facts = ["index", "label", "attack", "eps", "tried"]
    for one, other in zip(results, others, strict=True):
        assert one.frame()[facts].equals(other.frame()[facts]), one.named
        assert (one.robust != other.robust).sum() <= 1, one.named
        assert_images_alike(one.images, other.images)


def assert_images_alike(images: Any, others: Any) -> None:
    """A gradient that is almost zero may have another sign, and its pixel then another value."""
    assert np.isclose(images, others, atol=1e-5).mean() > 0.98


# --- the same as in one process -----------------------------------------------------------------------------


@needs_dask
@pytest.mark.slow
@pytest.mark.parametrize("cascade", [False, True])
def test_two_workers_make_what_one_process_makes(
    job: Job, two: Cluster, cascade: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneByOne, "size", 30)
    monkeypatch.setattr(Cluster, "size", 30)
    asked, told = battery(*ATTACKS, n=75, cascade=cascade), list[float]()
    alone = run(asked, job, first)
    assert_alike(run(asked, replace(job, hands=two), first, lambda _, share: told.append(share)), alone)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


@needs_dask
@pytest.mark.slow
def test_a_transfer_takes_two_models_along(job: Job, two: Cluster) -> None:
    flat = np.zeros((784, 10), np.float32), np.eye(10, dtype=np.float32)[0]
    import keras

    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    network.set_weights(list(flat))
    transfer = replace(job, target=CompiledClassifier(network), source=job.target)
    assert_alike(
        run(battery("fgsm", n=20), replace(transfer, hands=two), first), run(battery("fgsm", n=20), transfer, first)
    )


@needs_dask
@pytest.mark.slow
def test_what_the_checkpoint_has_is_not_sent(job: Job, two: Cluster, tmp_path: Path) -> None:
    kept = replace(job, hands=two, checkpoint=Counting(tmp_path))
    before = run(battery("fgsm", n=20), kept, first)
    again = replace(kept, checkpoint=Counting(tmp_path))
    for one, other in zip(run(battery("fgsm", n=20), again, first), before, strict=True):
        assert one.frame().equals(other.frame())
    assert sum(kept.checkpoint.kept.values()) == 2  # type: ignore[attr-defined]
    assert not again.checkpoint.kept  # type: ignore[attr-defined]


@needs_dask
@pytest.mark.slow
def test_a_limit_holds_in_a_worker(job: Job, two: Cluster) -> None:
    asked = battery("pgd:max_iter=10000,early_stop=False", n=20).model_copy(update={"max_seconds": 1.0})
    with pytest.raises(LimitError, match="the attack pgd took longer than the 1 seconds"):
        run(asked, replace(job, hands=two), first)


@needs_dask
@pytest.mark.slow
def test_nobody_else_of_the_machine_can_send_work(two: Cluster) -> None:
    from distributed import Client

    address = two._client.scheduler_info()["address"]
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises((OSError, TimeoutError)):
        Client(address.replace("tls", "tcp"), timeout=5, set_as_default=False)


# --- kills --------------------------------------------------------------------------------------------------


@needs_dask
@pytest.mark.slow
def test_a_shard_whose_worker_is_killed_is_made_again_and_counted_once(
    job: Job, two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "size", 60)
    pgd = "pgd:max_iter=200,early_stop=False"
    shards = plan(attack(pgd), replace(job, hands=two), np.arange(360), (0.05,)).shards
    client: Any = two._client
    making = two.make(job.bench, shards)
    done = [next(making)]
    pids, under_way = client.run(os.getpid), client.processing()
    victim = max(under_way, key=lambda worker: len(under_way[worker]))
    assert under_way[victim], "nobody was at work"
    os.kill(pids[victim], signal.SIGKILL)
    done += list(making)
    assert sorted(place for place, _ in done) == list(range(len(shards)))
    assert set(client.run(os.getpid).values()) != set(pids.values())
    for place, pieces in done:
        for piece, expected in zip(pieces, made(job.bench, shards[place]), strict=True):
            assert_images_alike(piece["images"], expected["images"])
            np.testing.assert_array_equal(piece["calls"], expected["calls"])


class Deadly(Attack):
    """Kills whoever makes it."""

    name: Literal["deadly"] = "deadly"
    norm: str = "inf"

    def craft(self, model: Any, x: Any, y: Any, eps: float, streams: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@needs_dask
@pytest.mark.slow
def test_a_shard_that_kills_two_workers_is_given_up_in_a_line(job: Job) -> None:
    workers = Cluster(*cluster._started(2))
    shards = plan(Deadly(), replace(job, hands=workers), np.arange(10), (0.1,)).shards
    with pytest.raises(ClusterError, match="a shard was given up: two workers died of it") as caught:
        list(workers.make(job.bench, shards))
    assert "\n" not in str(caught.value)


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler of Dask with one worker, as people start them; killed at the end."""
    address = f"tcp://{HOST}:{free_port()}"
    told = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    dask = [sys.executable, "-m", "dask"]
    words = [*dask, "scheduler", "--host", HOST, "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
    with (folder / "log.txt").open("ab") as log:
        first, second = (
            subprocess.Popen(command, env=told, cwd=PROJECT_ROOT, stdout=log, stderr=log, start_new_session=True)
            for command in (words, worker)
        )
    try:
        deadline = time.monotonic() + 120
        while first.poll() is None and time.monotonic() < deadline:
            try:
                check(None, address)
                break
            except SettingError:
                time.sleep(0.2)
        yield address, first
    finally:
        for process in (first, second):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@needs_dask
@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_one_line_and_the_next_run_goes_on(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "size", 60)
    asked = battery("pgd:max_iter=100,early_stop=False", n=300)
    folder = tmp_path / "pieces"

    class Killing(Counting):
        def save(self, key: str, arrays: dict[str, Any]) -> None:
            super().save(key, arrays)
            if sum(self.kept.values()) == 2:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    with scheduler(tmp_path) as (address, process):
        killed = Killing(folder)
        begun = time.monotonic()
        with pytest.raises(
            ClusterError, match=f"the scheduler of {address} is gone; what was finished is kept"
        ) as caught:
            run(asked, replace(job, hands=hands(None, address), checkpoint=killed), first)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 300
    with scheduler(tmp_path) as (address, process):
        after = Counting(folder)
        results = run(asked, replace(job, hands=hands(None, address), checkpoint=after), first)
        hands.cache_clear()
    assert sum(killed.kept.values()) >= 2
    assert not set(killed.kept) & set(after.kept)
    assert len(killed.kept) + len(after.kept) == 2 * 5
    monkeypatch.setattr(OneByOne, "size", 60)
    assert_alike(results, run(asked, job, first))


class NobodyThere:
    """A client whose scheduler has no workers."""

    loop = None

    def nthreads(self) -> dict[str, int]:
        return {}


def test_a_scheduler_without_workers_is_waited_for_and_then_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: Any = NobodyThere()
    waiting = Cluster(alone, "tcp://somewhere", lambda: None)
    waiting._look()
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "PATIENCE", 0.0)
    with pytest.raises(ClusterError, match="no worker is there, at the scheduler of tcp://somewhere, for 0 seconds"):
        waiting._look()


# --- what is checked on arrival -----------------------------------------------------------------------------


def test_a_parcel_is_opened_as_the_model_that_was_packed(job: Job) -> None:
    opened = packed(job.bench).opened()
    assert opened.source is None
    np.testing.assert_array_equal(opened.target.predict(job.x[:5]), job.target.predict(job.x[:5]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: replace(p, files=(replace(p.files[0], sha256="0" * 64),)), "other bytes than were sent"),
        (lambda p: replace(p, files=(replace(p.files[0], digest="0" * 64),)), "a model is another at a worker"),
        (lambda p: replace(p, code="0" * 64), "other code of Gauntlet"),
        (lambda p: replace(p, versions=p.versions | {"numpy": "1.0"}), "a worker has numpy .*, here it is 1.0"),
    ],
)
def test_what_arrives_otherwise_is_refused(job: Job, change: Any, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        change(packed(job.bench)).opened()


def test_another_kind_of_machine_is_not_refused(job: Job) -> None:
    sent = packed(job.bench)
    assert replace(sent, versions=dict(sent.versions) | {"machine": "another"}).opened().seed == 0


def test_images_that_arrive_otherwise_are_refused(job: Job) -> None:
    (shard,) = plan(attack("fgsm"), job, np.arange(3, 9), (0.1,)).shards
    sent = shard.alone()
    assert sent.digest() == shard.digest()
    assert len(sent.data[0]) == 6
    changed = replace(sent, data=(sent.data[0] + np.float32(1e-6), sent.data[1]))
    with pytest.raises(ClusterError, match="otherwise than they were sent"):
        work(packed(job.bench), changed, shard.digest())
    (piece,) = work(packed(job.bench), sent, shard.digest())
    np.testing.assert_array_equal(piece["images"], made(job.bench, shard)[0]["images"])


# --- what is refused before anything is started -------------------------------------------------------------


def test_a_model_that_is_no_file_cannot_be_sent() -> None:
    from gauntlet.models.blackbox import BlackBox

    box = BlackBox(lambda x: np.zeros((len(x), 2)), (2, 2, 1), 2)
    with pytest.raises(SettingError, match="--workers: only Keras and ONNX models can be sent"):
        parcel.check(box)


def test_both_kinds_of_workers_are_refused() -> None:
    with pytest.raises(SettingError, match="two kinds of workers"):
        check(2, "tcp://127.0.0.1:1")


@pytest.mark.parametrize(("workers", "address", "flag"), [(2, None, "--workers"), (None, "tcp://x:1", "--cluster")])
def test_without_the_package_the_line_that_installs_it(
    workers: int | None, address: str | None, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingError, match=f"{flag}: the package distributed is not installed .*requirements-cluster"):
        check(workers, address)


@needs_dask
@pytest.mark.parametrize(
    "address", ["x", "http://127.0.0.1:80", "tcp://127.0.0.1", "tcp://a b:1", "tcp://[::1:5", "tcp://h:1/x"]
)
def test_what_is_no_address_of_a_scheduler_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match="no address of a scheduler"):
        check(None, address)


@needs_dask
@pytest.mark.parametrize("port", [free_port(), 99_999], ids=["free", "impossible"])
def test_where_nobody_listens_no_scheduler_answers(port: int) -> None:
    with pytest.raises(SettingError, match="no scheduler answers"):
        check(None, f"tcp://{HOST}:{port}")


def test_without_workers_it_is_this_process_and_dask_is_not_imported() -> None:
    code = "import sys, gauntlet.evaluation.cluster as c\nassert type(c.hands()).__name__ == 'OneByOne'\n"
    code += "assert not {'distributed', 'dask'} & set(sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_workers_leave_ctrl_c_to_the_command() -> None:
    """A terminal sends it to them too: each would print its own stack trace."""
    before = signal.getsignal(signal.SIGINT)
    ask = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    with cluster._deaf_to_ctrl_c():
        deaf = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert deaf.stdout == "True\n"
    assert signal.getsignal(signal.SIGINT) == before
