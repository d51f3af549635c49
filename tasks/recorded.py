"""Whether a Prefect server records the run that is under way: only then is there a page to show something on."""

from __future__ import annotations

from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import PREFECT_API_URL


def recorded() -> bool:
    """True inside a flow or task run that a Prefect server knows."""
    return bool(PREFECT_API_URL.value() and (FlowRunContext.get() or TaskRunContext.get()))
