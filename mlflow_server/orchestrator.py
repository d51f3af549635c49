"""Prefect's server for its own pages and clients only.

A page of another site can make a browser send requests to this machine: under its own name that resolves to it
(DNS rebinding), or as a form that needs no permission. Prefect looks at neither `Host` nor `Origin`, so both are
checked in front of it: the host must be one of GAUNTLET_PREFECT_HOSTS (this machine's names where it is not set), and
an origin, where there is one, must be the host itself.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

HOSTS = "GAUNTLET_PREFECT_HOSTS"
OWN = ("127.0.0.1", "localhost", "[::1]")
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


class OwnPagesOnly:
    """ASGI middleware: 403 for a foreign `Host` or `Origin`."""

    def __init__(self, app: App, hosts: tuple[str, ...] = OWN) -> None:
        """`hosts` are names without ports, as they stand in a Host header."""
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Pass on what comes from the server's own pages, and from clients that are no browsers."""
        if scope["type"] == "lifespan" or self.allows(dict(scope["headers"])):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"foreign host or origin"})

    def allows(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the host is one of ours, and the origin, where there is one, that host."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host.rpartition(":")[0] not in self.hosts and host not in self.hosts:
            return False
        origin = headers.get(b"origin")
        return origin is None or urlsplit(origin.decode("latin-1").lower()).netloc == host


def hosts() -> tuple[str, ...]:
    """The names under which the server answers: this machine's, and those of GAUNTLET_PREFECT_HOSTS."""
    named = [name.strip().lower() for name in os.environ.get(HOSTS, "").split(",")]
    return (*OWN, *(name.partition(":")[0] for name in named if name))


def create_app() -> Any:
    """Prefect's server behind the check; for `uvicorn --factory`."""
    from prefect.server.api.server import create_app as make

    app = make(final=True)
    app.add_middleware(OwnPagesOnly, hosts=hosts())
    return app
