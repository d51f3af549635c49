"""`python -m mlflow_server.automation slack-webhook/NAME`: Prefect itself reports nights that did not pass.

An automation of the Prefect server that PREFECT_API_URL names: when a run of the flow `nightly` fails, crashes or is
inconclusive, the notification block is used. It also reports what a flow cannot: that its own process died.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gauntlet.commandline import Parser

NAME = "gauntlet nightly"
STATES = ("Failed", "Crashed", "TimedOut", "Inconclusive")
SUBJECT = "Gauntlet: {{ flow.name }} is {{ flow_run.state.name }}"
BODY = "{{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}"


def automation(block_id: Any) -> Any:
    """The automation, not yet registered."""
    from prefect.automations import Automation
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture

    trigger = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in STATES},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": "nightly"},
        posture=Posture.Reactive,
        threshold=1,
        within=0,
    )
    action = SendNotification(block_document_id=block_id, subject=SUBJECT, body=BODY)
    return Automation(name=NAME, description="Nights that did not pass.", trigger=trigger, actions=[action])


def register(block: str) -> str:
    """Register it with a notification block `KIND/NAME`, in the place of an older one; returns its id."""
    from prefect.automations import Automation
    from prefect.blocks.core import Block

    loaded: Any = Block.load(block)
    with suppress(ValueError):
        older: Any = Automation.read(name=NAME)
        older.delete()
    made = automation(loaded._block_document_id).create()
    return str(made.id)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line: 0 registered, 2 the user's input."""
    parse = Parser("python -m mlflow_server.automation", description="Tell of nights that did not pass.")
    parse.add_argument("block", help="a notification block: KIND/NAME, such as slack-webhook/gauntlet")
    options = parse.parse_args(words)
    try:
        register(options.block)
    except ValueError as error:
        print(f"error: {options.block}: {str(error).splitlines()[0]} (make the block first)", file=sys.stderr)
        return 2
    print(f"{NAME!r} tells {options.block} of nights that are {', '.join(STATES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
