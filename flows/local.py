"""Run a flow by Prefect's engine without a Prefect server: its states are kept in this process.

A command on the user's machine needs no server: starting a temporary one costs more than small work itself. With an
API address (PREFECT_API_URL or Prefect's profile) everything is orchestrated and recorded there instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from uuid import UUID, uuid4

from prefect import Flow, State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, ServerDefaultResultStorage, StateDetails
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus, StateAcceptDetails
from prefect.context import SyncClientContext
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    temporary_settings,
)
from prefect.states import Pending

from gauntlet.errors import SettingError

SETTINGS: dict[Any, Any] = {
    PREFECT_SERVER_EPHEMERAL_ENABLED: False,
    PREFECT_LOGGING_TO_API_ENABLED: False,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    PREFECT_API_KEY: "none",  # Prefect starts a temporary server for its events where there is neither key nor address
}


PATIENCE: dict[Any, Any] = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 5.0}
"""Seconds, and no second try, that a Prefect server has to say that it is there."""


def check_server(address: str) -> None:
    """`SettingError` when no Prefect server answers at the address of an API."""
    with temporary_settings(PATIENCE), get_client(sync_client=True) as client:
        trouble = client.api_healthcheck()
    if trouble is not None:
        reason = str(trouble).splitlines()[0] if str(trouble) else type(trouble).__name__
        fix = "start it (`make serve`), or unset PREFECT_API_URL to run without one"
        raise SettingError(f"no Prefect server answers: {reason}", where=address, fix=fix)


class LocalClient(SyncPrefectClient):
    """What Prefect's engine asks of a server while it runs one flow; every state is accepted."""

    def __init__(self) -> None:
        super().__init__("http://localhost/api")  # no request is ever sent there
        self._runs: dict[UUID, FlowRun] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._runs.clear()

    def raise_for_api_version_mismatch_once(self) -> None:
        """There is no other version."""

    def read_server_default_result_storage(self) -> ServerDefaultResultStorage:
        """Results stay where Prefect's settings say."""
        return ServerDefaultResultStorage()

    def create_flow_run(  # type: ignore[override]
        self, flow: Flow[Any, Any], parameters: dict[str, Any] | None = None, state: State | None = None, **_: Any
    ) -> FlowRun:
        """A run of this flow, in its first state."""
        run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters=parameters or {}, state=state or Pending())
        self._runs[run.id] = run
        return run

    def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        """The run, in its present state."""
        return self._runs[flow_run_id]

    def set_flow_run_state(
        self, flow_run_id: UUID | str, state: State, force: bool = False
    ) -> OrchestrationResult[Any]:
        """Accept the state."""
        state.state_details = StateDetails(flow_run_id=UUID(str(flow_run_id)))
        self._runs[UUID(str(flow_run_id))].state = state
        return OrchestrationResult(state=state, status=SetStateStatus.ACCEPT, details=StateAcceptDetails())


@contextmanager
def local_engine() -> Iterator[None]:
    """Flows called inside need no Prefect server, unless the address of one is set: it must then answer."""
    if address := PREFECT_API_URL.value():
        check_server(address)
        yield
        return
    with temporary_settings(SETTINGS), SyncClientContext.model_construct(client=LocalClient()):
        yield
