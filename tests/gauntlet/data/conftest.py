"""Fixtures of several files of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gauntlet.data import datasets


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Forget the last data set, so that the next test reads its own."""
    yield
    datasets._load.cache_clear()
