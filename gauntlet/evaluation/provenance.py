"""Which code and which model made a number, so that the results of others are never taken for theirs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gauntlet.declare import plugins

if TYPE_CHECKING:
    from gauntlet.models.access import Target


@lru_cache
def code_digest() -> str:
    """SHA-256 of every source file and study of `gauntlet/`, by path and content."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.yaml"), *root.rglob("*.j2")]):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


ISAS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""Instruction sets for which the libraries have kernels of their own, the newest first."""
SWITCHES = ("ONEDNN_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS", "TF_DETERMINISTIC_OPS")
"""Environment variables that choose other kernels."""


@lru_cache
def machine() -> str:
    """The kind of machine: results of two kinds agree up to rounding, not to the last bit.

    >>> machine().split()[0] in ("x86_64", "aarch64", "arm64", "AMD64")
    True
    """
    info = Path("/proc/cpuinfo")
    flags = (
        set(re.findall(r"\w+", info.read_text().partition("flags")[2].partition("\n")[0])) if info.exists() else set()
    )
    isa = next((name for name in ISAS if name in flags), "")
    switches = [f"{name}={os.environ[name]}" for name in SWITCHES if name in os.environ]
    return " ".join(part for part in (platform.machine(), isa, *switches) if part)


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on: libraries, packages that declare attacks or the like, the machine."""
    packages = ("tensorflow", "keras", "adversarial-robustness-toolbox", "foolbox", "numpy", "scipy", "scikit-learn")
    installed = {package: importlib.metadata.version(package) for package in packages}
    return installed | plugins() | {"machine": machine()}


def identity(model: Target) -> str | None:
    """The digest of a white-box model's graph and weights; None for a black box, which any other may resemble."""
    from gauntlet.models.classifier import WhiteBox

    return model.digest() if isinstance(model, WhiteBox) else None
