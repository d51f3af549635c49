"""Fixtures of the shared stores: started once a module, skipped with the reason where a program is absent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores import postgres as database
from tests.stores import swift as bucket


@pytest.fixture(scope="module")
def postgres() -> Iterator[database.Postgres]:
    """A Postgres with nothing in it."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: make test-all installs it")
    if reason := database.absent():
        pytest.skip(reason)
    with database.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def swift() -> Iterator[bucket.Swift]:
    """An S3 store with nothing in it."""
    pytest.importorskip("boto3", reason="boto3 is not installed: make test-all installs it")
    if reason := bucket.absent():
        pytest.skip(reason)
    with bucket.swift() as server:
        yield server
