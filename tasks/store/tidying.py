"""Remove from old runs the artifacts with a row or a picture per image. Verdicts, cards and measurements are kept.

A version that is or was promoted keeps its evidence: the night of its card, the runs that the card names, the run that
trained it, and all their child runs. So do running runs.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from gauntlet.assurance.audit import trail
from gauntlet.errors import ModelError, TrackingError, one_line
from tasks.store import registry, tracking, versions
from tasks.store.audit import every_page
from tasks.store.tracking import KEY

PER_IMAGE = ("outcomes.parquet", "adversarial.npz", "examples*.png")
"""What goes. The bank of images that ever fooled a model (`bank.npz`) stays: later nights show them to later models."""
TIDIED = "gauntlet.tidied"
"""The tag of a run that lost artifacts: when, and which."""
ALIASES = {"champion", "previous-champion", versions.ANCHOR}


@dataclass(frozen=True)
class Old:
    """A run that loses artifacts."""

    run_id: str
    name: str
    ended: datetime
    files: tuple[str, ...]
    size: int


def old(keep: timedelta) -> list[Old]:
    """The runs that ended longer ago than `keep` and hold what may go; promoted evidence is not among them."""
    client, kept = MlflowClient(), evidence()
    before = datetime.now(UTC) - keep
    term = f"attributes.end_time < {int(before.timestamp() * 1_000)} and attributes.status != 'RUNNING'"
    runs = every_page(client.search_runs, _experiments(client), term, ViewType.ALL)
    runs_to_tidy = [_old(client, run) for run in runs if run.info.run_id not in kept]
    return sorted((one for one in runs_to_tidy if one.files), key=lambda one: one.ended)


def _experiments(client: MlflowClient) -> list[str]:
    entries = every_page(client.search_experiments, ViewType.ALL)
    return [entry.experiment_id for entry in entries if entry.name.startswith(versions.PREFIX)]


def _old(client: MlflowClient, run: Any) -> Old:
    entries = [entry for entry in client.list_artifacts(run.info.run_id) if not entry.is_dir and _goes(entry.path)]
    ended = datetime.fromtimestamp(run.info.end_time / 1_000, UTC)
    files, size = tuple(entry.path for entry in entries), sum(entry.file_size or 0 for entry in entries)
    return Old(run.info.run_id, run.info.run_name, ended, files, size)


def _goes(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in PER_IMAGE)


def evidence() -> set[str]:
    """The runs that back a version that is or was promoted: its night, what its card names, and all runs below."""
    client = MlflowClient()
    nights = every_page(client.search_runs, _experiments(client), f"tags.`{PROMOTED}` != ''", ViewType.ALL)
    named = {run_id for night in nights for run_id in _of_night(night)}
    for version in every_page(client.search_model_versions):
        if set(client.get_model_version(version.name, version.version).aliases) & ALIASES:
            named |= _of_version(version)
    return named | set(_below(client, named))


PROMOTED = "gauntlet.promoted"
"""The tag of a night: the version that it made champion."""


def _of_night(night: Any) -> set[str]:
    """A night that promoted, the runs of the card that it wrote, and the run that made the model."""
    card = tracking.find(night.info.run_id, "card.json")
    named = json.loads(card.read_text())["runs"].values() if card else ()
    try:
        made = {str(versions.find(night.data.tags[PROMOTED]).run_id or "")}
    except ModelError:  # the version was deleted since
        made = set()
    return {night.info.run_id, *named, *made} - {""}


def _of_version(version: Any) -> set[str]:
    """Its card's night, the card's runs, and the run that made it."""
    night = str(version.tags.get("gauntlet.card", "")).removeprefix("runs:/").partition("/")[0]
    named = registry.runs_of_card(f"models:/{version.name}/{version.version}").values()
    return {night, str(version.run_id or ""), *named} - {""}


def _below(client: MlflowClient, runs: set[str]) -> Iterator[str]:
    """Every run below these, however deep."""
    experiments, wave = _experiments(client), runs
    while wave:
        below: set[str] = set()
        for parent in wave:
            term = f"tags.`mlflow.parentRunId` = '{parent}'"
            below |= {run.info.run_id for run in every_page(client.search_runs, experiments, term, ViewType.ALL)}
        yield from below
        wave = below - runs


def remove(one: Old) -> None:
    """Take a run's artifacts away. It says so itself, and is not taken again as a stage whose inputs are the same."""
    client = MlflowClient()
    run = client.get_run(one.run_id)
    if KEY in run.data.tags:
        client.delete_tag(one.run_id, KEY)
    client.set_tag(one.run_id, TIDIED, f"{datetime.now(UTC):%Y-%m-%d}: {', '.join(one.files)}"[:5_000])
    repository = get_artifact_repository(run.info.artifact_uri)
    try:
        for name in one.files:
            repository.delete_artifacts(name)
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {one.run_id}: {one_line(error, 300)}") from error
    trail.append("run tidied", inputs={"run": one.run_id}, outputs={"removed": list(one.files), "bytes": one.size})
