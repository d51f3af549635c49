"""Flows without a Prefect server: Prefect's engine, its states kept in the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed

from flows.local import local_engine
from tasks.recorded import recorded

tries: list[int] = []


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    """No address of a server, and none that is started: asking for one would raise."""
    tries.clear()
    with temporary_settings(restore_defaults={PREFECT_API_URL}), local_engine():
        yield


@task(retries=2, cache_policy=NO_CACHE)
def flaky(fails: int) -> int:
    tries.append(1)
    if len(tries) <= fails:
        raise OSError("not yet")
    return len(tries)


@flow
def work(fails: int) -> tuple[int, bool]:
    return flaky(fails), recorded()


@flow
def undecided() -> object:
    return Completed(name="Inconclusive", data={"exit_status": 3})


def test_a_task_is_retried_and_nothing_is_recorded() -> None:
    assert work(2) == (3, False)


def test_the_error_of_a_flow_is_raised() -> None:
    with pytest.raises(OSError, match="not yet"):
        work(3)


def test_the_data_of_a_state_is_the_result() -> None:
    assert undecided() == {"exit_status": 3}


def test_trust_needs_no_server() -> None:
    from flows.attack import AttackConfig
    from flows.command import _check_trust

    @flow
    def trusting() -> None:
        _check_trust(AttackConfig(model="json:loads", trust=True))

    trusting()
