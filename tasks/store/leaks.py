"""Look for secrets in what runs have logged: params, tags, inputs and text artifacts."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient

from gauntlet.assurance.audit.secrets import Leak, scan
from gauntlet.errors import TrackingError
from tasks.store.tracking import find, read

TEXTS = (".json", ".md", ".html", ".txt", ".yaml", ".yml", ".csv", ".log", ".toml", ".ini", ".py")
LARGEST = 20_000_000
"""Bytes of an artifact that is still read."""


def leaks(run_id: str) -> list[Leak]:
    """The secrets in a run, each with where it is: `params.NAME`, `tags.NAME`, `inputs.NAME` or the artifact's path."""
    run = read(run_id)
    texts = {f"params.{name}": value for name, value in run.data.params.items()}
    texts |= {f"tags.{name}": value for name, value in run.data.tags.items()}
    for given in run.inputs.dataset_inputs:
        texts[f"inputs.{given.dataset.name}"] = f"{given.dataset.source} {given.dataset.profile}"
    return scan(texts) + scan(_artifacts(run_id))


def _artifacts(run_id: str, folder: str | None = None) -> Mapping[str, str]:
    artifacts: dict[str, str] = {}
    for entry in MlflowClient().list_artifacts(run_id, folder):
        if entry.is_dir:
            artifacts |= _artifacts(run_id, entry.path)
        elif entry.path.endswith(TEXTS) and (entry.file_size or 0) <= LARGEST:
            path = find(run_id, entry.path)
            if path is None:
                raise TrackingError(f"artifact {entry.path} of run {run_id} cannot be read")
            artifacts[entry.path] = path.read_text(errors="replace")
    return artifacts
