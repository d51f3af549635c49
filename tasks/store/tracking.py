"""Runs, data sets, and the records that stages leave each other."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from gauntlet.assurance.audit.secrets import mask, masked
from gauntlet.errors import TrackingError
from gauntlet.measurement import Measurement
from gauntlet.models.device import used
from tasks.store import audit, connection, origin

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from gauntlet.data.datasets import Dataset
    from tasks.context import Context


class Run:
    """An open MLflow run: what a stage logs to."""

    def __init__(self, run_id: str, model: str) -> None:
        """`model` is the row of the comparison that the run's measurements belong to."""
        self.id, self.model, self._client = run_id, model, MlflowClient()

    def params(self, params: Mapping[str, Any]) -> None:
        """Log a configuration; nested mappings become `outer.inner`."""
        self._client.log_batch(self.id, params=[Param(k, str(v)[:6_000]) for k, v in masked(flat(params)).items()])

    def metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log finite numbers at a step."""
        now = int(time_ms())
        entries = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._client.log_batch(self.id, metrics=entries)

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        self._client.log_batch(self.id, tags=[RunTag(k, mask(str(v))[:8_000]) for k, v in tags.items()])

    def figure(self, name: str, figure: Figure) -> None:
        """Keep a figure as the PNG file `name`."""
        from gauntlet.report.figures import png

        self.file(name, png(figure))

    def file(self, name: str, content: bytes) -> None:
        """Keep a file's content."""
        with self._file(name) as path:
            path.write_bytes(content)

    def json(self, name: str, content: Any) -> None:
        """Keep plain data as JSON."""
        self._client.log_text(self.id, json.dumps(content, indent=1, default=float), name)

    def text(self, name: str, content: str) -> None:
        """Keep a text."""
        self._client.log_text(self.id, content, name)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Keep a frame: as `.parquet`, or as MLflow's own table view for `.json`."""
        if name.endswith(".json"):
            # as objects: MLflow 3.17 still asks pandas 3 for text columns by their old name
            self._client.log_table(self.id, frame.reset_index().astype(object), name)
        else:
            with self._file(name) as path:
                frame.to_parquet(path)

    def arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Keep arrays as a compressed `.npz`."""
        import numpy as np

        with self._file(name) as path:
            np.savez_compressed(path, **arrays)  # type: ignore[arg-type]

    def dataset(self, dataset: Dataset, context: str) -> None:
        """Record the data set as an input: name, digest, sizes and label counts."""
        self.input(dataset.summary(), context)

    def input(self, summary: Mapping[str, Any], context: str) -> None:
        """Record an input by its summary: at least `name`, `digest` and `source`."""
        # MLflow keeps 36 characters of a digest: the tag gauntlet.dataset_digest has all
        source, profile = json.dumps({"uri": summary["source"]}), json.dumps(dict(summary))
        entry = MlflowDataset(summary["name"], summary["digest"][:32], "local", source, profile=profile)
        self._client.log_inputs(self.id, [DatasetInput(entry, [InputTag("mlflow.data.context", context)])])

    def record(self, measurements: Sequence[Measurement], metrics: Mapping[str, float], **more: Any) -> None:
        """Log metrics and leave `metrics.json`, which the comparison and later stages read."""
        self.metrics(metrics)
        rows = [m.model_copy(update={"run_id": self.id}).model_dump() for m in measurements]
        content = {"run_id": self.id, "model": self.model, "metrics": dict(metrics), "measurements": rows}
        self.json("metrics.json", content | more)

    @contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, name)
            self._client.log_artifact(self.id, str(Path(folder, name)))


def time_ms() -> float:
    """Milliseconds since the epoch, as MLflow counts."""
    import time

    return time.time() * 1_000


@contextmanager
def run(
    stage: str,
    context: Context,
    dataset: Dataset | None,
    *,
    name: str,
    model: str = "",
    scenario: str = "",
    params: Mapping[str, Any] | None = None,
) -> Iterator[Run]:
    """Open a run of `gauntlet-<dataset>`, below the context's parent; an error ends it FAILED, with itself as a tag."""
    model = model or (name if stage in TRAINS else "")
    for variable in FOREIGN:
        os.environ.pop(variable, None)
    uri, title = connection.connect(context.tracking_uri), dataset.name if dataset else context.title
    with mlflow.start_run(
        experiment_id=connection.experiment(uri, title),
        run_name=name,
        description=f"{stage}: {name} on {title}",
        nested=True,
        parent_run_id=context.parent,
        tags=tags_of(stage, title, model, scenario, dataset.digest if dataset else "")
        | _made_by()
        | ({KEY: context.key} if context.key else {}),
        log_system_metrics=False,
    ) as active:
        opened = Run(active.info.run_id, model)
        try:
            opened.params(params or {})
            if (params or {}).get("trust"):
                opened.tags({TRUSTED: "true"})
            if dataset is not None:
                opened.dataset(dataset, "evaluation" if stage == "attack" else "training")
            with audit.audited(opened.id):
                yield opened
                if device := used():
                    opened.tags({"gauntlet.device": device})
        except BaseException as error:
            opened.tags({"gauntlet.error": f"{type(error).__name__}: {error}"})
            raise


FOREIGN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
"""By these MLflow would continue a run that is not ours, or look for an experiment elsewhere."""
TRUSTED = "gauntlet.trusted"
"""The tag of a run that was allowed to run code that came with a model."""
KEY = "gauntlet.key"
"""The tag of a stage that may be taken again: a digest of all that it depends on."""
TRAINS = ("train", "poison", "defend")
"""Stages whose run's name is the model they make."""


def tags_of(stage: str, title: str, model: str, scenario: str, digest: str) -> dict[str, str]:
    """The contract's tags of a run on the data set `title` with this digest."""
    facts = {
        "stage": stage,
        "model": model,
        "scenario": scenario,
        "dataset": title,
        "dataset_digest": digest,
        "git_commit": origin.git_commit(),
    }
    return {f"gauntlet.{key}": value for key, value in facts.items() if value} | _prefect_tag()


def _made_by() -> dict[str, str]:
    """By these the run is ended for us when the process is killed."""
    return {"gauntlet.host": socket.gethostname(), "gauntlet.process": origin.process()}


def _prefect_tag() -> dict[str, str]:
    from prefect.runtime import flow_run

    return {"prefect.flow_run_id": flow_run.id} if flow_run.id else {}


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to one of dotted keys; lists of mappings are numbered."""
    values: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            values |= flat(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            values |= flat({str(number): item for number, item in enumerate(value)}, f"{name}.")
        else:
            values[name] = value
    return values


def read(run_id: str) -> Any:
    """A run as MLflow has it: `.data.metrics`, `.data.params`, `.data.tags`, `.info.status`."""
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise TrackingError(f"no such run: {run_id}") from error


def children(run_id: str) -> list[Any]:
    """The finished runs below a run, oldest first."""
    client = MlflowClient()
    experiment = read(run_id).info.experiment_id
    below = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'FINISHED'"
    return list(client.search_runs([experiment], below, ViewType.ACTIVE_ONLY, 1_000, ["attributes.start_time ASC"]))


def finished(context: Context, key: str) -> str | None:
    """The latest finished run of a stage with this key, if there is one."""
    return next(iter(search(context, {"key": key})[::-1]), None)


def search(context: Context, tags: Mapping[str, str], more: str = "", *, ended: bool = True) -> list[str]:
    """The ids of all the data set's runs with these `gauntlet.` tags, oldest first; finished ones unless told."""
    uri = connection.connect(context.tracking_uri)
    terms = [f"tags.`gauntlet.{name}` = '{value}'" for name, value in tags.items()]
    same = " and ".join([*terms, *(["attributes.status = 'FINISHED'"] if ended else []), *([more] if more else [])])
    order, matching, page = ["attributes.start_time ASC"], [], None
    while True:
        where = [connection.experiment(uri, context.title)], same, ViewType.ACTIVE_ONLY, PAGE, order
        runs = MlflowClient().search_runs(*where, page_token=page)
        matching += [str(run.info.run_id) for run in runs]
        if not (page := runs.token):
            return matching


PAGE = 1_000
"""Runs that the store is asked for at a time."""


def newest(tags: Mapping[str, str]) -> Any | None:
    """The latest finished run with these `gauntlet.` tags, whatever its data set; the store must be connected."""
    terms = [f"tags.`gauntlet.{name}` = '{value}'" for name, value in tags.items()]
    return next(iter(_everywhere(" and ".join([*terms, "attributes.status = 'FINISHED'"]), 1)), None)


def below(run_id: str, stage: str) -> dict[str, Any]:
    """The runs of a stage below a run by their names, whatever their data sets; of one name the latest."""
    same = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.`gauntlet.stage` = '{stage}'"
    return {run.info.run_name: run for run in reversed(_everywhere(same, PAGE))}


def _everywhere(filters: str, most: int) -> list[Any]:
    """At most so many runs of all data sets, the latest first."""
    experiments = [e.experiment_id for e in MlflowClient().search_experiments(filter_string="name LIKE 'gauntlet-%'")]
    order = ["attributes.start_time DESC"]
    return list(
        MlflowClient().search_runs(experiments, filters, ViewType.ACTIVE_ONLY, most, order) if experiments else []
    )


def page_of(run: Any, uri: str) -> str:
    """The address of a run's page in MLflow, or its path where the store is no server."""
    path = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"{uri.rstrip('/')}/{path}" if uri.startswith(("http://", "https://")) else path


def frame(run_id: str, name: str) -> pd.DataFrame:
    """A table that a run kept as `.parquet`."""
    import pandas as pd

    return pd.read_parquet(_artifact(run_id, name))


def table(run_id: str, name: str) -> pd.DataFrame:
    """A table that a run kept as `.json`, in MLflow's own form."""
    import pandas as pd

    return pd.DataFrame(**json.loads(_artifact(run_id, name).read_text()))


def text(run_id: str, name: str) -> str:
    """The content of a text artifact."""
    return _artifact(run_id, name).read_text()


def records(run_id: str) -> dict[str, Any]:
    """The `metrics.json` of a run, with its measurements as objects; empty when the run left none."""
    try:
        content = json.loads(_artifact(run_id, "metrics.json").read_text())
    except TrackingError:
        return {"metrics": {}, "measurements": []}
    return content | {"measurements": [Measurement(**row) for row in content["measurements"]]}


def arrays(run_id: str, name: str) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` artifact."""
    import numpy as np

    with np.load(_artifact(run_id, name), allow_pickle=False) as content:
        return dict(content)


def find(run_id: str, name: str) -> Path | None:
    """A local copy of an artifact (the artifact itself where the store is local), or None."""
    try:
        return _artifact(run_id, name)
    except TrackingError:
        return None


def _artifact(run_id: str, name: str) -> Path:
    """An artifact as a file of this machine: the file itself if the store is local, otherwise a copy."""
    root = urlsplit(read(run_id).info.artifact_uri)
    if root.scheme in ("", "file") and Path(unquote(root.path), name).is_file():
        return Path(unquote(root.path), name)
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {run_id} has no artifact {name}") from error
