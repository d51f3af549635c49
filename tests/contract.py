"""Which metrics `docs/mlflow.md` promises, and which a store holds that it does not."""

from __future__ import annotations

import re

from mlflow import MlflowClient

from gauntlet.state import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "mlflow.md"


def undocumented(store: str) -> set[str]:
    """Metrics of all runs of a store that the page does not name; an interval's ends belong to their metric."""
    promised = set(re.findall(r"`([a-z_]+/\w+)`", PAGE.read_text(encoding="utf-8")))
    open_ended = {name.partition("/")[0] for name in promised if name.endswith(("/NAME", "/CONDITION"))}
    logged = {re.sub(r"_(low|high)$", "", name) for name in _logged(store)}
    return {name for name in logged - promised if name.partition("/")[0] not in open_ended}


def _logged(store: str) -> set[str]:
    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {name for run in client.search_runs(experiments, max_results=10_000) for name in run.data.metrics}
