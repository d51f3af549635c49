"""Tell people the verdict: a webhook named by the environment or by a Prefect block, never by the project's files."""

from __future__ import annotations

import os
from typing import Any

from tasks.context import Context
from tasks.stage import step
from tasks.store import tracking

VARIABLE = "GAUNTLET_WEBHOOK"
PATIENCE = 10.0
"""Seconds for the other side to answer."""


@step("notify")
def notify(context: Context, night: str, block: str | None = None) -> None:
    """Post a night's verdict as JSON; a message that cannot be sent is told by the tag `gauntlet.notified`, no more.

    `block` is a Prefect block that holds an address: `webhook/NAME`, `secret/NAME`, or a notification block such as
    `slack-webhook/NAME`. Without one the address is in the environment, GAUNTLET_WEBHOOK; without that, nobody is told.
    """
    address = os.environ.get(VARIABLE)
    if not (block or address):
        return
    try:
        _send(message(context, night), block, address)
        outcome = "yes"
    except Exception as error:  # a block is anyone's code; addresses hold secrets, so its text stays out of the store
        outcome = f"no: {type(error).__name__}"
    tracking.Run(night, "").tags({"gauntlet.notified": outcome})


def message(context: Context, night: str) -> dict[str, Any]:
    """What is sent; `text` is what chat services show."""
    judged = tracking.records(night)
    reasons = "; ".join(judged["reasons"]) or "nothing lost"
    facts = {name: judged["facts"][name] for name in ("data set", "candidate", "champion")}
    text = f"Gauntlet nightly on {context.title}: {judged['verdict']}. {reasons}"[:3_000]
    return facts | {"verdict": judged["verdict"], "reasons": judged["reasons"], "run_id": night, "text": text}


def _send(content: dict[str, Any], block: str | None, address: str | None) -> None:
    import httpx

    if block:
        from prefect.blocks.core import Block

        loaded: Any = Block.load(block)
        if hasattr(loaded, "notify"):
            loaded.notify(content["text"], subject=f"Gauntlet: {content['verdict']}")
            return
        address = loaded.url.get_secret_value() if hasattr(loaded, "call") else str(loaded.get())
    httpx.post(str(address), json=content, timeout=PATIENCE).raise_for_status()
