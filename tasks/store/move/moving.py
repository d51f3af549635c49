"""Move a folder's store to a server's: first the artifacts, then all rows at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gauntlet.assurance.audit import trail
from gauntlet.errors import InputError, TrackingError, one_line
from mlflow_server.parts import hidden, require_bucket, require_database
from mlflow_server.store import SQLITE, engine, initialise, initialise_shared
from tasks.store.move import artifacts as files
from tasks.store.move import rows


@dataclass
class Moved:
    """What was moved; `rows` and `new` by table: how many there are, and how many the target did not have."""

    rows: dict[str, int]
    new: dict[str, int]
    left: dict[str, int]
    artifacts: int
    size: int
    rows_sha256: str
    artifacts_sha256: str


def source_of(given: str) -> str:
    """The SQLite address of a folder or an address; `InputError` when there is no store."""
    path = Path(given.removeprefix(SQLITE)).expanduser().absolute()
    path = path / "mlflow.db" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"there is no store {path}", where="FROM", fix="name a state folder, or its mlflow.db")
    return f"{SQLITE}{path}"


def move(given: str, target: str, artifacts: str, tell: Callable[[str], None]) -> Moved:
    """Copy what FROM holds to the store and the artifacts' place of a server; called again, it goes on.

    Each part is tried first. Nothing is removed. Raises `InputError` for what cannot be moved, `TrackingError` for
    what is not the same afterwards. `tell` is given a line now and then.
    """
    uri = source_of(given)
    if uri == target:
        raise InputError("FROM and TO are the same store", where="TO")
    require_database(target, where="TO")
    require_bucket(artifacts)
    initialise(uri)
    initialise_shared(target)
    try:
        with engine(uri).connect() as source, engine(target).connect() as there:
            moved = _move(source, there, artifacts, tell)
    except SQLAlchemyError as error:
        raise TrackingError(f"{hidden(target)}: {one_line(str(error).splitlines()[0], 300)}") from error
    inputs = {"from": uri, "to": hidden(target), "artifacts": artifacts}
    trail.append("store moved", inputs=inputs, outputs=asdict(moved))
    return moved


def _move(source: Connection, target: Connection, artifacts: str, tell: Callable[[str], None]) -> Moved:
    rows.require_mergeable(source, target)
    names = rows.experiments(source, target)
    target.commit()  # their numbers are part of where artifacts lie
    count, size, digest = _artifacts(source, names, artifacts, tell)
    rows.same_datasets(source, target, names)
    rows_of = {name: [names.changed(name, row) for row in rows.read(source, name)] for name in rows.REST}
    new = {name: rows.write(target, name, rows_of[name]) for name in rows.REST}
    compared = {name: rows.compare(target, name, rows_of[name]) for name in rows.REST if name != "datasets"}
    target.commit()
    tell(f"{sum(map(len, rows_of.values()))} rows, {sum(new.values())} of them new: all are there")
    whole = hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()
    counts = {name: len(each) for name, each in rows_of.items()}
    return Moved(counts, new, rows.left(source), count, size, whole, digest)


def _artifacts(
    source: Connection, names: rows.Names, artifacts: str, tell: Callable[[str], None]
) -> tuple[int, int, str]:
    """Move the files of every run and model; a line every twentieth."""
    roots, count, size, total = list(files.roots(source, names)), 0, 0, hashlib.sha256()
    for number, root in enumerate(roots, 1):
        more, more_bytes, digest = files.move(root, artifacts)
        count, size = count + more, size + more_bytes
        total.update(digest.encode())
        if number % 20 == 0 or number == len(roots):
            tell(f"{number} of {len(roots)} runs and models: {count} artifacts, {size / 1e6:.1f} MB")
    return count, size, total.hexdigest()
