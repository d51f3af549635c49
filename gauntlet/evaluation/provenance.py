"""Which code and which model made a number, so that the results of others are never taken for theirs."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gauntlet.models.access import Target


@lru_cache
def code_digest() -> str:
    """SHA-256 of every source file and study of `gauntlet/`, by path and content."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.yaml"), *root.rglob("*.j2")]):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def identity(model: Target) -> str | None:
    """The digest of a white-box model's graph and weights; None for a black box, which any other may resemble."""
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.models.digest import digest

    return digest(model.model) if isinstance(model, CompiledClassifier) else None
