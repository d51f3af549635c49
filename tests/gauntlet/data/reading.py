"""Read data of one's own as stated, or expect one line that refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.data.stated import Stated
from gauntlet.errors import GauntletError

quick = settings(max_examples=40, deadline=None, database=None)


def read(path: Path, **stated: Any) -> Dataset:
    return read_dataset(str(path), stated=Stated(**stated))


def refused(path: Path, *words: str, **stated: Any) -> str:
    """Read, expect one printable line with these words."""
    with pytest.raises(GauntletError) as caught:
        read(path, **stated)
    message = str(caught.value)
    assert message.isprintable()
    assert [word for word in words if word not in message] == []
    return message
