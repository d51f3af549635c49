"""A folder's store moved to a server's: everything there under its own id, once, and the folder as it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from flows import movestore
from gauntlet.errors import TrackingError
from mlflow_server.store import engine
from tasks.context import Context
from tasks.store import connection, registry, tracking, versions
from tasks.store.move import artifacts as files
from tasks.store.move import moving, rows
from tests.stores.postgres import Postgres
from tests.stores.swift import Swift


def filled(folder: Path) -> tuple[str, str]:
    """A store with a night's kind of content: a parent, a model's run, a card; returns the two runs."""
    from gauntlet.models.architectures import architecture

    where = Context(dataset="digits", tracking_uri=connection.connect(f"sqlite:///{folder}/mlflow.db"))
    dataset = where.load()
    model = architecture("cnn3x3").build(dataset.input_shape, dataset.n_classes)
    with tracking.run("nightly", where, dataset, name="night", params={"seed": 3}) as night:
        with tracking.run("train", where.below(night.id), dataset, name="mine", params={"epochs": 1}) as run:
            registry.log_model(run, model, dataset, "mine")
            run.metrics({"clean/accuracy": 0.1 + 0.2}, step=7)
            run.arrays("adversarial.npz", images=dataset.x_test[:5])
        night.text("card.json", json.dumps({"runs": {"train": run.id}}))
    uri = registry.register(run.id)
    versions.link(uri, {"gauntlet.card": f"runs:/{night.id}/card.json"})
    versions.promote(uri)
    return night.id, run.id


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    folder = tmp_path_factory.mktemp("a laptop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAUNTLET_STATE", str(folder))
        yield folder, *filled(folder)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(("mlflow.db", "audit.jsonl"))
    }


def moved(folder: Path, to: str, artifacts: str) -> moving.Moved:
    return moving.move(str(folder), to, artifacts, lambda _: None)


def check(folder: Path, to: str, artifacts: Path, train: str) -> None:
    """The run, its metric to the last bit and the model's version are there, below the server's names."""
    with engine(to).connect() as there:
        value = there.execute(text("SELECT value FROM metrics WHERE run_uuid = :run AND step = 7"), {"run": train})
        assert value.scalar_one() == 0.1 + 0.2
        uri = there.execute(text("SELECT artifact_uri FROM runs WHERE run_uuid = :run"), {"run": train}).scalar_one()
        version = there.execute(text("SELECT name, version, run_id FROM model_versions")).one()
        alias = there.execute(text("SELECT version FROM registered_model_aliases WHERE alias = 'champion'"))
        assert (tuple(version), alias.scalar_one()) == (("gauntlet-digits-mine", 1, train), 1)
    assert uri.startswith("mlflow-artifacts:/")
    kept = artifacts / uri.removeprefix("mlflow-artifacts:/") / "adversarial.npz"
    assert kept.read_bytes() == next(folder.rglob("adversarial.npz")).read_bytes()


def test_everything_is_there_once_and_the_folder_is_as_it_was(source: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, _, train = source
    before, to = contents(folder), f"sqlite:///{tmp_path}/there.db"
    first = moved(folder, to, str(tmp_path / "kept"))
    check(folder, to, tmp_path / "kept", train)
    assert first.new == first.rows
    assert (first.rows["runs"], first.rows["logged_models"], first.artifacts > 5) == (2, 1, True)
    again = moved(folder, to, str(tmp_path / "kept"))
    assert not any(again.new.values())
    assert (again.rows_sha256, again.artifacts_sha256) == (first.rows_sha256, first.artifacts_sha256)
    assert contents(folder) == before


def test_an_interrupted_move_goes_on(
    source: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, train = source
    to, kept, sent = f"sqlite:///{tmp_path}/there.db", str(tmp_path / "kept"), []
    real = files.move

    def second_fails(root: files.Root, artifacts: str) -> tuple[int, int, str]:
        sent.append(root)
        if len(sent) == 2:
            raise TrackingError("the cable was pulled")
        return real(root, artifacts)

    def differs(*_: Any) -> str:
        raise TrackingError("the power went")

    for place, name, what, told in ((files, "move", second_fails, "cable"), (rows, "compare", differs, "power")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, what)
            with pytest.raises(TrackingError, match=told):
                moved(folder, to, kept)
    with engine(to).connect() as there:
        assert there.execute(text("SELECT count(*) FROM runs")).scalar_one() == 0
    moved(folder, to, kept)
    check(folder, to, tmp_path / "kept", train)


@pytest.mark.slow
def test_two_laptops_move_into_one_store(source: tuple[Path, str, str], tmp_path: Path) -> None:
    """Experiments of one name become one, data sets that are known are used; a model of the same name is refused."""
    folder, _, _ = source
    to, kept = f"sqlite:///{tmp_path}/there.db", str(tmp_path / "kept")
    moved(folder, to, kept)
    other = tmp_path / "other"
    where = Context(dataset="digits", tracking_uri=connection.connect(f"sqlite:///{other}/mlflow.db"))
    with tracking.run("scan", where, where.load(), name="theirs") as run:
        run.json("metrics.json", {"a": 1})
    second = moved(other, to, kept)
    assert (second.new["runs"], second.new["datasets"]) == (1, 0)
    with engine(to).connect() as there:
        assert there.execute(text("SELECT count(*) FROM experiments WHERE name = 'gauntlet-digits'")).scalar_one() == 1
        query = (
            "SELECT count(*) FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id WHERE destination_id = :r"
        )
        assert there.execute(text(query), {"r": run.id}).scalar_one() == 1
    third = tmp_path / "third"
    filled(third)
    with pytest.raises(moving.InputError, match="both stores have a model gauntlet-digits-mine/1"):
        moved(third, to, kept)


def test_what_is_not_the_same_afterwards_is_told(
    source: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, train = source
    to, kept = f"sqlite:///{tmp_path}/there.db", tmp_path / "kept"
    moved(folder, to, str(kept))
    with engine(to).begin() as there:
        there.execute(text("UPDATE params SET value = '2' WHERE key = 'epochs'"))
    damaged = next(kept.rglob("adversarial.npz"))
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    assert movestore.main([str(folder), to, "--artifacts", str(kept)]) == 1
    assert "params {'key': 'epochs'" in capsys.readouterr().err
    assert damaged.read_bytes() != b"x" * damaged.stat().st_size  # sent again
    assert train in str(damaged)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "postgresql://x/y"], "FROM: there is no store"),
        (["{folder}"], "TO: is not given"),
        (["{folder}", "sqlite:///{folder}/mlflow.db"], "TO: FROM and TO are the same store"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str],
    told: str,
    source: tuple[Path, str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI", raising=False)
    spelt = [word.format(folder=source[0]) for word in words]
    assert movestore.main([*spelt, "--artifacts", "/nowhere"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_running_runs_are_waited_for(tmp_path: Path) -> None:
    where = Context(dataset="digits", tracking_uri=connection.connect(f"sqlite:///{tmp_path}/mlflow.db"))
    to = f"sqlite:///{tmp_path}/there.db"
    with (
        tracking.run("scan", where, None, name="going on"),
        pytest.raises(moving.InputError, match="1 runs are RUNNING"),
    ):
        moved(tmp_path, to, str(tmp_path / "kept"))


@pytest.mark.server
@pytest.mark.slow
def test_to_postgres_and_a_bucket(
    source: tuple[Path, str, str],
    postgres: Postgres,
    swift: Swift,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The real pair; afterwards a server over it would find the model, so does its client's download."""
    folder, _, train = source
    for name, value in swift.environment().items():
        monkeypatch.setenv(name, value)
    bucket, to = swift.bucket("moved"), postgres.database("moved")
    assert movestore.main([str(folder), to, "--artifacts", f"{bucket}/a", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    for key in [one["Key"] for one in swift.client().list_objects_v2(Bucket="moved")["Contents"]]:
        swift.client().download_file("moved", key, str(tmp_path / key.replace("/", "|")))
    for path in tmp_path.iterdir():
        target = tmp_path / "kept" / path.name.removeprefix("a|").replace("|", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    check(folder, to, tmp_path / "kept", train)
    assert movestore.main([str(folder), to, "--artifacts", f"{bucket}/a", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (again["rows_sha256"], sum(again["new"].values())) == (first["rows_sha256"], 0)
