"""Secrets that must not be stored: masked before they are logged, and searched for in what was logged.

Detected are values under a secret name (`password`, `api_key`, `MLFLOW_TRACKING_TOKEN`), the password of
a URL (`scheme://user:password@host`), and key formats that their issuers made recognisable. Not detected is a password
under a harmless name that looks like any other word. Entropy is not measured, because a suite's params and
tags are full of digests, which look as random as keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MASK = "***"

_NAMES = re.compile(
    r"(?:^|[._\-\s])(?:\w*passw(?:or)?d|passphrase|pwd|secret|token|credentials?|auth[_\-]?string"
    r"|(?:api|access|secret|private|audit|signing|encryption)[_\-]?key)(?:$|[._\-\s])",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

FORMATS: Mapping[str, re.Pattern[str]] = {
    "password in a URL": re.compile(r"(?<=://)[^\s/?#@:'\"]*:(?!\*\*\*@)(?!\d{1,5}/)[^\s'\"]+(?=@)"),
    "secret in a query": re.compile(
        r"(?i)(?<=[?&])(?:[\w-]*(?:token|secret|passw(?:or)?d|pwd|signature|api[_-]?key|access[_-]?key)|sig|code)"
        r"=(?!\*\*\*)[^&#\s'\"]+"
    ),
    "password in a text": re.compile(
        r"(?i)(?<![\w?&])(?:passw(?:or)?d|passphrase|pwd|secret|api[_-]?key|account_?key|shared_?access_?key"
        r"|access_?token)\s*[=:]\s*(?!\*\*\*)['\"]?[^\s'\";,]{3,}"
    ),
    "private key": re.compile(
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:[\s\S]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----)?"
    ),
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"),
    "GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "Slack webhook": re.compile(r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]{10,}"),
    "Azure storage key": re.compile(r"(?i)(?<=accountkey=)[A-Za-z0-9+/=]{40,}"),
    "Azure client secret": re.compile(r"\b[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{31,34}"),
    "Stripe key": re.compile(r"\b(?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}"),
    "npm token": re.compile(r"\bnpm_[A-Za-z0-9]{36}"),
    "Databricks token": re.compile(r"\bdapi[0-9a-f]{32}(?:-\d)?"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "OpenAI or Anthropic key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "PyPI token": re.compile(r"\bpypi-[A-Za-z0-9_-]{50,}"),
    "Prefect API key": re.compile(r"\bpn[ub]_[A-Za-z0-9]{30,}"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "authorization header": re.compile(r"(?i)(?<=\bauthorization: )(?:basic|bearer) [A-Za-z0-9._~+/=-]{8,}"),
}
"""What each kind of secret looks like; only what is matched is masked."""


@dataclass(frozen=True)
class Leak:
    """A secret that was found: where, of which kind, and its surroundings with the secret masked."""

    where: str
    kind: str
    excerpt: str


def names_a_secret(name: str) -> bool:
    """Whether the values kept under a name should not be kept in the clear.

    >>> names_a_secret("store.adminPassword"), names_a_secret("max_tokens"), names_a_secret("gauntlet.key")
    (True, False, False)
    """
    return bool(_NAMES.search(_CAMEL.sub("_", name)))


def mask(text: str) -> str:
    """The text with every recognised secret replaced; a URL keeps its user, so that one sees whose it was.

    >>> mask("postgresql://gauntlet:hunter2@db/mlflow")
    'postgresql://gauntlet:***@db/mlflow'
    """
    for kind, pattern in FORMATS.items():
        text = pattern.sub(_KEPT.get(kind, lambda _: MASK), text)
    return text


def _user(match: re.Match[str]) -> str:
    return f"{match.group().partition(':')[0]}:{MASK}"


def _name(match: re.Match[str]) -> str:
    """`name=***`: one sees what it was."""
    name, sign, _ = re.split(r"([=:])", match.group(), maxsplit=1)
    return f"{name}{sign}{MASK}"


_KEPT = {"password in a URL": _user, "secret in a query": _name, "password in a text": _name}
"""What of a secret's surroundings stays readable."""


def masked(value: Any, name: str = "") -> Any:
    """A copy of plain data (mappings, lists, values) without secrets; `name` is what the value is called."""
    if isinstance(value, Mapping):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked(item, name) for item in value)
    if value not in (None, "", MASK) and not isinstance(value, bool) and names_a_secret(name):
        return MASK
    return mask(value) if isinstance(value, str) else value


def scan(texts: Mapping[str, str]) -> list[Leak]:
    """The secrets in texts by their names (a param, a tag, a file), in order."""
    secrets = []
    for where, text in texts.items():
        if text.strip() not in ("", MASK, "None", "True", "False") and names_a_secret(where):
            secrets.append(Leak(where, "value of a secret name", MASK))
        secrets += [
            Leak(where, kind, _excerpt(text, at)) for kind, pattern in FORMATS.items() for at in pattern.finditer(text)
        ]
    return secrets


def _excerpt(text: str, at: re.Match[str], around: int = 20) -> str:
    """Some characters on both sides, on one line, with every secret in them masked."""
    before, after = text[max(0, at.start() - around) : at.start()], text[at.end() : at.end() + around]
    return " ".join(mask(f"{before}{MASK}{after}").split())
