"""Requests that a page of another site can make a browser send: each must be refused, with users and without."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass, field

HOST, EVIL = "127.0.0.1", "evil.example.org"
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "eHh4eHh4eHh4eHh4eHh4eA==",
}


@dataclass(frozen=True)
class Request:
    """One request; without a `Host` of its own it names the server."""

    name: str
    port: int
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None

    def status(self) -> int:
        """What the server answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            connection.putrequest(self.method, self.path, skip_host="Host" in self.headers)
            length = {"Content-Length": str(len(self.body))} if self.body is not None else {}
            for name, value in (self.headers | length).items():
                connection.putheader(name, value)
            connection.endheaders((self.body or "").encode())
            return connection.getresponse().status
        finally:
            connection.close()


def requests(mlflow: int, prefect: int) -> Iterator[Request]:
    """All of them, for the servers on these ports."""
    make, flows = "/api/2.0/mlflow/experiments/create", "/api/deployments/filter"
    for server, port, path, body in (("MLflow", mlflow, make, '{"name": "evil"}'), ("Prefect", prefect, flows, "{}")):
        foreign, rebound = f"http://{EVIL}", f"http://{EVIL}:{port}"
        text, json = {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}
        yield Request(f"{server}, a foreign host", port, "GET", path, {"Host": EVIL})
        yield Request(f"{server}, rebound", port, "POST", path, {"Host": f"{EVIL}:{port}", "Origin": rebound}, body)
        yield Request(f"{server}, told by a proxy", port, "GET", path, {"Host": EVIL, "X-Forwarded-Host": HOST})
        yield Request(f"{server}, a foreign page", port, "POST", path, {"Origin": foreign, **json}, body)
        yield Request(f"{server}, a foreign form", port, "POST", path, {"Origin": foreign, **text}, body)
        yield Request(f"{server}, without a type", port, "POST", path, {"Origin": foreign}, body)
        yield Request(f"{server}, a page of nowhere", port, "POST", path, {"Origin": "null", **json}, body)
        like = {"Origin": f"http://localhost.{EVIL}", **json}
        yield Request(f"{server}, a name that begins like this machine's", port, "POST", path, like, body)
        yield Request(f"{server}, a socket", port, "GET", "/api/events/in", {**SOCKET, "Origin": foreign})
    yield Request("Prefect, without a token", prefect, "POST", flows, {"Content-Type": "application/json"}, "{}")
    yield Request("Prefect, a foreign page's token", prefect, "GET", "/api/csrf-token?client=x", {"Origin": foreign})
    yield Request("Prefect, all of its data", prefect, "POST", "/api/admin/database/clear", {}, '{"confirm": true}')


def let_in(mlflow: int, prefect: int) -> list[str]:
    """The requests that were not refused, and what was answered."""
    answers = [(request.name, request.status()) for request in requests(mlflow, prefect)]
    return [f"{name}: {status}" for name, status in answers if status != 403]
