"""Look for secrets in what runs have logged: params, tags, inputs and text artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from gauntlet.secrets import Leak, scan
from tasks.tracking import read

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
    found: dict[str, str] = {}
    for entry in MlflowClient().list_artifacts(run_id, folder):
        if entry.is_dir:
            found |= _artifacts(run_id, entry.path)
        elif entry.path.endswith(TEXTS) and (entry.file_size or 0) <= LARGEST:
            found[entry.path] = _text(run_id, entry)
    return found


def _text(run_id: str, entry: Any) -> str:
    path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=entry.path)
    return Path(path).read_text(errors="replace")
