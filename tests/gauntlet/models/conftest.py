"""Fixtures of several files of this room."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.data.datasets import Dataset
from tests.gauntlet.models.bench import Bench


@pytest.fixture(scope="module")
def bench(digits: Dataset, centroids: tuple[np.ndarray, np.ndarray]) -> Bench:
    return Bench(digits, *centroids)
