"""Prefect answers its own pages and clients, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows.attack import AttackConfig
from flows.command import TRUST, _check_trust
from gauntlet.errors import SettingError
from mlflow_server.orchestrator import HOSTS, OWN, OwnPagesOnly, hosts


def asked(kind: str = "http", **headers: str) -> list[dict[str, Any]]:
    """What is sent back for a request with these headers; "passed" where it reached the server."""
    sent: list[dict[str, Any]] = []

    async def inner(*_: Any) -> None:
        sent.append({"passed": True})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(OwnPagesOnly(inner)({"type": kind, "headers": raw}, None, send))
    return sent


FOREIGN = [
    {"host": "evil.example:4200"},
    {"host": "127.0.0.1.evil.example:4200"},
    {"host": "localhost.evil.example"},
    {"host": ""},
    {},
    {"host": "127.0.0.1:4200", "origin": "http://evil.example"},
    {"host": "127.0.0.1:4200", "origin": "http://127.0.0.1:9999"},
    {"host": "127.0.0.1:4200", "origin": "null"},
    {"host": "evil.example:4200", "origin": "http://evil.example:4200"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_foreign_hosts_and_origins_are_refused(headers: dict[str, str]) -> None:
    assert asked(**headers)[0].get("status") == 403
    assert asked("websocket", **headers) == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "[::1]:4200", "localhost", "LOCALHOST:4200"])
def test_own_pages_and_clients_pass(host: str) -> None:
    assert asked(host=host) == [{"passed": True}]
    assert asked(host=host, origin=f"http://{host}") == [{"passed": True}]
    assert asked("lifespan") == [{"passed": True}]


def test_more_names_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS, "prefect.example, ")
    assert hosts() == (*OWN, "prefect.example")


def test_trust_over_the_api_needs_the_workers_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.runtime import deployment
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.delenv(TRUST, raising=False)
    trusting = AttackConfig(model="models:/m/1", trust=True)
    _check_trust(trusting)  # a person at a terminal
    monkeypatch.setattr(deployment, "id", "a deployment", raising=False)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api"}):
        _check_trust(AttackConfig(model="models:/m/1"))
        with pytest.raises(SettingError, match="a deployment may not run code"):
            _check_trust(trusting)
        monkeypatch.setenv(TRUST, "1")
        _check_trust(trusting)
