"""How long a tracking server may be away: MLflow asks again with growing pauses, and this says for how long."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from gauntlet.errors import SettingError

VARIABLE, RETRIES = "GAUNTLET_PATIENCE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
USUAL = 240.0
AT_FIRST = 10.0
"""Seconds for the first contact: who mistypes an address should not wait for minutes."""
FACTOR, LONGEST, MOST = 2.0, 120.0, 10
"""Of the pauses (urllib3: FACTOR · 2^i seconds, at most LONGEST), and the most retries that MLflow allows."""


def patience() -> float:
    """Seconds that a server may be away, from GAUNTLET_PATIENCE; `SettingError` when that is no number."""
    text = os.environ.get(VARIABLE, str(USUAL))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SettingError(f"expected seconds, got {text!r}", where=VARIABLE, fix="a number such as 240")
    return seconds


def retries(seconds: float) -> int:
    """The retries whose pauses last at least so long, or as many as MLflow allows."""
    waited = 0.0
    for count in range(MOST):
        if waited >= seconds:
            return count
        waited += min(FACTOR * 2**count, LONGEST)
    return MOST


@contextmanager
def first_contact() -> Iterator[None]:
    """Short patience inside, the configured one from then on; a number of retries set for MLflow itself is kept.

    Later pauses are logged, as they explain why nothing moves; these end soon, and in a message of their own.
    """
    configured, logger = retries(patience()), logging.getLogger("urllib3.connectionpool")
    ours, level = os.environ.get(RETRIES) in (None, _ours.get(RETRIES)), logger.level
    try:
        logger.setLevel(logging.ERROR)
        if ours:
            os.environ[RETRIES] = str(min(retries(AT_FIRST), configured))
        yield
    finally:
        logger.setLevel(level)
        if ours:
            os.environ[RETRIES] = _ours[RETRIES] = str(configured)


_ours: dict[str, str] = {}
