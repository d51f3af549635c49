"""Signatures of evaluation cards: made with the private key, checked with the public one.

Ed25519 (Bernstein et al., J. Cryptogr. Eng. 2, 2012, 77-89), by the package `cryptography`. A digest shows that a card
was not changed by mistake; whoever may write to the store can forge it, and a signature only with the key.

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gauntlet.errors import GateError, SettingError

PRIVATE, PUBLIC = "GAUNTLET_SIGNING_KEY", "GAUNTLET_VERIFY_KEY"
"""Environment variables that name PEM files: of who signs, and of who accepts signed cards only."""


def sign(content: bytes) -> str:
    """The signature of `content` in hex, or "" where GAUNTLET_SIGNING_KEY names no key."""
    path = _named(PRIVATE)
    if path is None:
        return ""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _read(PRIVATE, path, lambda pem: load_pem_private_key(pem, password=None))
    return str(key.sign(content).hex())


def check(content: bytes, signature: str) -> None:
    """`GateError` unless `signature` is one by the key of GAUNTLET_VERIFY_KEY; without such a key nothing is asked."""
    path = _named(PUBLIC)
    if path is None:
        return
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _read(PUBLIC, path, load_pem_public_key)
    if not signature:
        raise GateError(f"the card is not signed, and {PUBLIC} asks for a signature")
    try:
        key.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError) as error:
        raise GateError(f"the card's signature is not by the key that {PUBLIC} names") from error


def _named(variable: str) -> str | None:
    """The file that a variable names; `SettingError` for one that is set to nothing, which looks like safety."""
    path = os.environ.get(variable)
    if path is not None and not path.strip():
        raise SettingError("is set, but empty", where=variable, fix="name a PEM file, or unset it")
    return path


def _read(variable: str, path: str, load: Any) -> Any:
    """An Ed25519 key from a PEM file; `SettingError` when there is none."""
    try:
        key = load(Path(path).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise SettingError(f"{path} is no readable PEM key", where=variable, fix="openssl genpkey makes one") from error
    if "Ed25519" not in type(key).__name__:
        raise SettingError(f"{path} holds no Ed25519 key", where=variable, fix="openssl genpkey -algorithm ed25519")
    return key
