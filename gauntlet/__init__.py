"""Gauntlet: measure how robust an image classifier is, and whether the number is valid.

This package is pure computation on NumPy, Keras and ART. It never imports Prefect or MLflow.

>>> import gauntlet
>>> report = gauntlet.evaluate(model, x_test, y_test, eps=8/255)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gauntlet.api import Report, assert_robust, evaluate

__all__ = ["Report", "assert_robust", "evaluate"]


def __getattr__(name: str) -> Any:
    """What `gauntlet.api` offers, imported when it is asked for: `import gauntlet` alone loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'gauntlet' has no attribute {name!r}")
    from gauntlet import api

    return getattr(api, name)
