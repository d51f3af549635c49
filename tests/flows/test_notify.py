"""The verdict reaches a real listener, by environment or block; an absent one is told and fails nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mlflow_server.automation import NAME, main


class Listener(HTTPServer):
    """Keeps what is posted to it."""

    received: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        listener: Any = self.server
        listener.received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener(("127.0.0.1", 0), _Handler)
    server.received = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def night(store: str, small_npz: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """A night that failed, as far as its records go."""
    from tasks.context import Context
    from tasks.store import tracking

    monkeypatch.delenv("GAUNTLET_WEBHOOK", raising=False)
    context = Context(dataset=small_npz, tracking_uri=store)
    facts = {"data set": "small", "candidate": "models:/a/2", "champion": "models:/a/1"}
    with tracking.run("nightly", context, context.load(), name="nightly") as run:
        run.record([], {}, facts=facts, verdict="FAIL", reasons=["clean: 3.00 points lost"])
    return context, run.id


def told(run_id: str) -> str | None:
    from tasks.store import tracking

    found: str | None = tracking.read(run_id).data.tags.get("gauntlet.notified")
    return found


def test_nobody_is_told_unless_somebody_is_named(night: tuple[Any, str]) -> None:
    from tasks.notify import notify

    notify(*night)
    assert told(night[1]) is None


def test_an_address_in_the_environment_gets_the_verdict(
    night: tuple[Any, str], listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.notify import notify

    monkeypatch.setenv("GAUNTLET_WEBHOOK", listener.address)
    notify(*night)
    (message,) = listener.received
    assert (message["verdict"], message["candidate"], message["run_id"]) == ("FAIL", "models:/a/2", night[1])
    assert message["text"] == "Gauntlet nightly on small: FAIL. clean: 3.00 points lost"
    assert told(night[1]) == "yes"


@pytest.mark.parametrize("kind", ["webhook", "secret"])
def test_so_does_one_in_a_block(kind: str, night: tuple[Any, str], listener: Listener) -> None:
    from prefect.blocks.system import Secret
    from prefect.blocks.webhook import Webhook

    from tasks.notify import notify

    block: Any = Webhook(url=listener.address) if kind == "webhook" else Secret(value=listener.address)
    block.save(f"of-{kind}", overwrite=True)
    notify(*night, block=f"{kind}/of-{kind}")
    assert [message["verdict"] for message in listener.received] == ["FAIL"]


def test_an_absent_listener_fails_nothing_and_keeps_its_address_secret(
    night: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.notify import notify

    monkeypatch.setenv("GAUNTLET_WEBHOOK", "http://127.0.0.1:9/token-of-mine")
    notify(*night)
    assert str(told(night[1])).startswith("no: ")
    assert "token-of-mine" not in str(told(night[1]))


def test_the_automation_is_registered_once_for_nights_that_did_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.automations import Automation
    from prefect.blocks.notifications import SlackWebhook

    SlackWebhook(url="https://hooks.slack.com/services/a/b/c").save("gauntlet", overwrite=True)
    assert main(["slack-webhook/gauntlet"]) == 0
    assert main(["slack-webhook/gauntlet"]) == 0
    found: Any = Automation.read(name=NAME)
    assert {"prefect.flow-run.Failed", "prefect.flow-run.Inconclusive"} <= found.trigger.expect
    assert [action.type for action in found.actions] == ["send-notification"]
    assert "hooks.slack.com" not in capsys.readouterr().out


def test_an_automation_needs_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slack-webhook/nobody"]) == 2
    assert "make the block first" in capsys.readouterr().err
