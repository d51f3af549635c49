"""The rows of a store: read, changed where they say what the other store calls things, written, compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.store.db.base_sql_model import Base
from mlflow.store.model_registry.dbmodels import models as _registry  # noqa: F401  makes its tables known
from mlflow.store.tracking.dbmodels import models as _tracking  # noqa: F401
from sqlalchemy import Connection, Table, func, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from gauntlet.errors import InputError, TrackingError

Row = dict[str, Any]
EXPERIMENTS = ("experiments", "experiment_tags")
REST = (
    *("datasets", "runs", "tags", "params", "metrics", "latest_metrics"),
    *("logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics"),
    *("inputs", "input_tags"),
    *("registered_models", "registered_model_tags"),
    *("model_versions", "model_version_tags", "registered_model_aliases"),
)
"""Tables in the order of their references."""
UNMOVED = ("trace_info", "evaluation_datasets", "scorers", "webhooks", "secrets", "endpoints", "mcp_servers")
"""What MLflow keeps besides, and no flow writes: told of, not moved."""
CHUNK = 500


def table(name: str) -> Table:
    """One of MLflow's tables."""
    return Base.metadata.tables[name]


def read(source: Connection, name: str) -> Iterator[Row]:
    """The rows of a table, in the order of its key."""
    columns = table(name)
    for row in source.execute(select(columns).order_by(*columns.primary_key.columns)).mappings():
        yield dict(row)


def left(source: Connection) -> dict[str, int]:
    """How many rows there are of what is not moved, by table; tables without any are left out."""
    counts = {name: source.execute(select(func.count()).select_from(table(name))).scalar_one() for name in UNMOVED}
    return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class Names:
    """What the other store calls things."""

    experiments: Mapping[int, int]
    """Its number of an experiment of ours."""
    places: Mapping[int, str]
    """Where it keeps an experiment's artifacts."""
    datasets: dict[str, str] = field(default_factory=dict)
    """Its id of a data set that it knew already."""

    def changed(self, name: str, row: Row) -> Row:
        """A row as the other store shall have it."""
        old = row.get("experiment_id")
        new = row if old is None else row | {"experiment_id": self.experiments[old]}
        if name == "runs":
            return new | {"artifact_uri": f"{self.places[row['experiment_id']]}/{row['run_uuid']}/artifacts"}
        if name == "logged_models":
            place = f"{self.places[row['experiment_id']]}/models/{row['model_id']}/artifacts"
            return new | {"artifact_location": place}
        for column in ("source_id", "dataset_uuid"):
            if row.get(column) in self.datasets:
                new = new | {column: self.datasets[row[column]]}
        return new


def experiments(source: Connection, target: Connection) -> Names:
    """Make the experiments that the target does not have by name; numbers are its own."""
    stored, numbers, places = table("experiments"), {}, {}
    used = {row["experiment_id"] for name in ("runs", "logged_models") for row in read(source, name)}
    for row in read(source, "experiments"):
        known = target.execute(select(stored).where(stored.c.name == row["name"])).mappings().one_or_none()
        number = known["experiment_id"] if known else _made(target, row)
        place = known["artifact_location"] if known else f"{PROXIED}{number}"
        if row["experiment_id"] in used and not place.startswith(PROXIED):
            what = f"the experiment {row['name']} keeps its artifacts in {place} there, not behind the server"
            raise InputError(what, where="TO", fix="rename it there")
        numbers[row["experiment_id"]], places[row["experiment_id"]] = number, place
    names = Names(numbers, places)
    write(target, "experiment_tags", [names.changed("", row) for row in read(source, "experiment_tags")])
    return names


PROXIED = "mlflow-artifacts:/"
"""What lies behind a server is called so, whatever bucket it uses."""


def _made(target: Connection, row: Row) -> int:
    """A new experiment under the target's next number."""
    fresh = {name: value for name, value in row.items() if name != "experiment_id"}
    stored = table("experiments")
    made: Any = target.execute(insert(stored).values(fresh | {"artifact_location": ""})).inserted_primary_key
    number = int(made[0])
    target.execute(
        stored.update().where(stored.c.experiment_id == number).values(artifact_location=f"{PROXIED}{number}")
    )
    return number


def require_mergeable(source: Connection, target: Connection) -> None:
    """Raise `InputError` where runs still go on, or a registered version of the same name is another one."""
    runs, versions = table("runs"), table("model_versions")
    going = source.execute(select(func.count()).select_from(runs).where(runs.c.status == "RUNNING")).scalar_one()
    if going:
        raise InputError(
            f"{going} runs are RUNNING", where="FROM", fix="wait for them; a killed one ends with any flow"
        )
    ours = {(row["name"], row["version"]): row["run_id"] for row in read(source, "model_versions")}
    for name, version, run in target.execute(select(versions.c.name, versions.c.version, versions.c.run_id)):
        if ours.get((name, version), run) != run:
            what = f"both stores have a model {name}/{version}, and they are not the same"
            raise InputError(what, where="FROM", fix="rename one of the registered models")


def write(target: Connection, name: str, rows: Sequence[Row]) -> int:
    """Insert the rows whose key the target does not have; returns how many those were."""
    dialect: Any = postgresql if target.dialect.name == "postgresql" else sqlite
    statement, before = dialect.insert(table(name)).on_conflict_do_nothing(), _count(target, name)
    for chunk in _chunks(rows):
        target.execute(statement, chunk)
    return _count(target, name) - before


def _count(target: Connection, name: str) -> int:
    return int(target.execute(select(func.count()).select_from(table(name))).scalar_one())


def same_datasets(source: Connection, target: Connection, names: Names) -> None:
    """Note which data sets the target knew before under ids of its own."""
    datasets = table("datasets")
    key = (datasets.c.experiment_id, datasets.c.name, datasets.c.digest)
    known = {tuple(row[:3]): row[3] for row in target.execute(select(*key, datasets.c.dataset_uuid))}
    for row in read(source, "datasets"):
        there = known.get((names.experiments[row["experiment_id"]], row["name"], row["digest"]))
        if there:
            names.datasets[row["dataset_uuid"]] = there


def compare(target: Connection, name: str, rows: Sequence[Row]) -> str:
    """SHA-256 of the rows as the target has them; `TrackingError` when one of them is missing or another."""
    columns = table(name).primary_key.columns
    digest = hashlib.sha256()
    for chunk in _chunks(rows):
        wanted = tuple_(*columns).in_([tuple(row[column.name] for column in columns) for row in chunk])
        there = {_line(row) for row in target.execute(select(table(name)).where(wanted)).mappings()}
        for row in chunk:
            if (line := _line(row)) not in there:
                what = {column.name: row[column.name] for column in columns}
                raise TrackingError(f"{name} {what}: the target has something else (was FROM changed since?)")
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _line(row: Mapping[Any, Any]) -> str:
    return json.dumps(dict(row), sort_keys=True, default=str)


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
