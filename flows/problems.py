"""Failed stages of a flow: stages that do not depend on them still run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Problems:
    """Failed stages: stages that do not depend on them still run, then the flow fails."""

    def __init__(self) -> None:
        """None yet."""
        self._errors: list[tuple[str, Exception]] = []

    @property
    def lines(self) -> list[str]:
        """One line a failed stage."""
        return [f"stage failed: {stage}: {error}" for stage, error in self._errors]

    def caught(self, stage: str, run: Callable[..., Any], *words: Any, **named: Any) -> Any:
        """What `run` returns, or None when it fails."""
        try:
            return run(*words, **named)
        except Exception as error:
            self._errors.append((stage, error))
            return None

    def raise_first(self) -> None:
        """Fail with the first error, if there was one."""
        if self._errors:
            raise self._errors[0][1]
