"""Verify or show the audit log: who did what and when, with which code and inputs; `--store` asks MLflow, too."""

from __future__ import annotations

import sys

from gauntlet.assurance.audit import trail
from gauntlet.state import store_uri, tracking_uri


def known(uri: str) -> tuple[list[trail.Receipt], bool]:
    """What a store knows of audit logs, and whether it is the one beside this log, which no other log writes to."""
    from tasks.store import audit, connection

    used = connection.connect(tracking_uri(uri or None))
    return audit.known(used), used == store_uri()


if __name__ == "__main__":
    sys.exit(trail.main(known=known))
