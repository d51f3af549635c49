"""Randomness by image: whatever the shard or batch an image is attacked in, it draws the same numbers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Streams:
    """One generator an image, seeded by (seed, purpose, position of the image in its test set)."""

    def __init__(self, seed: int, index: Rows, purpose: str = "") -> None:
        """`index` are positions in the test set, (n,); `purpose`, such as an attack's name, sets draws apart."""
        salt = zlib.crc32(purpose.encode())
        self._generators = [np.random.default_rng([seed, salt, int(position)]) for position in index]

    def __len__(self) -> int:
        """The number of images."""
        return len(self._generators)

    def uniform(self, rows: Rows, low: float, high: float, shape: Sequence[int] = ()) -> NDArray[np.float32]:
        """Uniform numbers in [low, high) for the images `rows`: float32 (len(rows), *shape)."""
        drawn = [self._generators[row].random(shape, dtype=np.float32) for row in rows]
        return (low + (high - low) * np.asarray(drawn, np.float32)).reshape(len(rows), *shape)

    def normal(self, rows: Rows, shape: Sequence[int]) -> NDArray[np.float32]:
        """Standard normal numbers for the images `rows`: float32 (len(rows), *shape)."""
        drawn = [self._generators[row].standard_normal(shape, dtype=np.float32) for row in rows]
        return np.asarray(drawn, np.float32).reshape(len(rows), *shape)

    def seeds(self, rows: Rows) -> Rows:
        """A seed in [0, 2**31) for each of the images `rows`, for libraries that want one."""
        return np.array([self._generators[row].integers(2**31) for row in rows], np.int64)
