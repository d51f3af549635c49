"""A hostile model, endless, growing, or giving nonsense, is stopped by limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gauntlet import limits
from gauntlet.attacks import Square
from gauntlet.errors import LimitError, ModelError
from gauntlet.evaluation.battery import Battery, Job, run
from gauntlet.models.blackbox import BlackBox, open_blackbox

STOPPED = 60.0
"""Seconds by which it must be over on a busy machine: the first attack imports TensorFlow."""
FLAG = r"^--max-seconds: .* took longer than the 0.3 seconds allowed \(.*raise --max-seconds\)$"
x = np.random.default_rng(0).random((60, 4, 4, 1), np.float32)
y = np.arange(60) % 3


def bright(images: Any) -> Any:
    """A classifier of no merit."""
    return np.stack([np.asarray(images).reshape(len(images), -1)[:, k] for k in range(3)], axis=1)


def after(calls: int, then: Callable[[int], Any]) -> Callable[[Any], Any]:
    """The same, but from so many calls on."""
    count = iter(range(10**9))
    return lambda images: bright(images) if next(count) < calls else then(len(images))


def endless(_: int = 0) -> None:
    """Never answer, as far as a test can wait."""
    threading.Event().wait(2 * STOPPED)


def job(function: Callable[[Any], Any]) -> Job:
    return Job(BlackBox(function, (4, 4, 1), 3), x, y, bright(x).argmax(axis=1), seed=0)


def battery(**limited: Any) -> Battery:
    return Battery(attack=(Square(max_iter=10_000),), eps=(0.1,), **limited)


def test_a_model_that_never_answers_is_left_behind() -> None:
    started = time.monotonic()
    with pytest.raises(LimitError, match=FLAG), limits.within("loading the model", 0.3):
        open_blackbox(endless, x, y, 3)
    assert time.monotonic() - started < STOPPED


def test_one_that_stops_answering_during_an_attack_too() -> None:
    started = time.monotonic()
    with pytest.raises(LimitError, match=FLAG):
        run(battery(max_seconds=0.3), job(after(3, endless)), lambda _: np.arange(len(x)))
    assert time.monotonic() - started < STOPPED


def test_an_attack_of_many_quick_calls_is_stopped_between_them() -> None:
    started = time.monotonic()
    with pytest.raises(LimitError, match=r"the attack square took longer than the 0\.3 seconds allowed"):
        run(
            battery(max_seconds=0.3),
            job(lambda images: np.tile([3.0, 2.0, 1.0], (len(images), 1))),
            lambda _: np.arange(60),
        )
    assert time.monotonic() - started < STOPPED


def test_memory_that_grows_is_noticed() -> None:
    hoard: list[np.ndarray] = []

    def grow() -> Any:
        hoard.append(np.ones(2**22))  # 32 MiB
        return bright(x)

    room = limits._resident() / 2**30 + 0.25
    with pytest.raises(LimitError, match=r"--max-memory: the attack square holds .* GiB of memory, more than"):
        run(battery(max_memory=room), job(lambda images: (grow(), bright(images))[1]), lambda _: np.arange(len(x)))
    assert len(hoard) < 20


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n: np.full((n, 3), np.nan), "NaN or infinite scores"),
        (lambda n: np.full((n, 3), np.inf), "NaN or infinite scores"),
        (lambda n: np.zeros((n, 4)), "4 scores, the data set has 3 classes"),
        (lambda _: np.zeros((1, 3)), "1 rows for"),
        (lambda _: np.broadcast_to(np.float32(0), (10**9, 3)), "1000000000 rows for"),
        (lambda n: n / 0, "ZeroDivisionError"),
        (lambda _: exit_(0), "SystemExit: 0"),
        (lambda _: None, "the model gives"),
    ],
)
def test_nonsense_during_an_attack_is_refused(answer: Callable[[int], Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        run(battery(), job(after(1, answer)), lambda _: np.arange(len(x)))


def test_nothing_is_limited_outside() -> None:
    limits.check()
    assert limits.call(lambda: threading.current_thread()) is threading.current_thread()


def test_inside_a_call_has_a_thread_and_its_errors_are_its_own() -> None:
    with limits.within("it", 60):
        assert limits.call(lambda word: (word, threading.current_thread().daemon), "a") == ("a", True)
        with pytest.raises(SystemExit, match="3"):
            limits.call(exit_, 3)
    limits.check()


def exit_(status: int) -> None:
    raise SystemExit(status)


def test_limits_nest() -> None:
    with limits.within("outer", 60), pytest.raises(LimitError, match="inner"), limits.within("inner", 1e-9):
        limits.check()
    with limits.within("outer", 60):
        with pytest.raises(LimitError, match="inner"), limits.within("inner", 1e-9):
            limits.call(limits.check)
        limits.check()


def test_time_that_was_spent_elsewhere_counts() -> None:
    limits.check_spent("the attack pgd", 0.2, 0.3)
    with pytest.raises(LimitError, match=FLAG):
        limits.check_spent("the attack pgd", 0.4, 0.3)
