"""How long work tells that it is alive: one callable, handed down."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with a few words on what is being done and the finished share in [0, 1]."""


def silent(what: str, share: float) -> None:
    """Say nothing."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """A progress for a part of the work: its 0..1 becomes `start`..`end` of the whole."""
    return lambda what, share: progress(what, start + (end - start) * share)
