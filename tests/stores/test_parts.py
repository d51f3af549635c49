"""What is said when a part of a shared server is missing: one line, status 2, nothing started."""

from __future__ import annotations

import configparser
import datetime
import importlib.util
import signal
from pathlib import Path
from typing import Any

import pytest

from mlflow_server import __main__ as server
from mlflow_server import auth, parts, serve
from mlflow_server.store import place, with_driver
from tests.processes import HOST, free_port
from tests.stores.postgres import Postgres
from tests.stores.swift import Swift

pytestmark = [pytest.mark.server]
started = pytest.mark.slow


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that must not come to be, and no settings of the shell's."""
    for variable in serve.KEPT:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def said(capsys: pytest.CaptureFixture[str], *words: str, main: Any = server.main) -> str:
    """The one line of a server that did not start."""
    ports = ["--port", str(free_port())]
    if main is serve.main:
        ports = ["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    assert main([*ports, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_without_its_driver(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, surroundings: Path
) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("psycopg", "boto3") else original(name)
    )
    line = said(capsys, "--store", "postgresql://me@db/mlflow")
    assert line == f"mlflow_server: --store: the package psycopg is not installed ({parts.INSTALL})\n"
    assert "--artifacts: the package boto3 is not installed" in said(capsys, "--artifacts", "s3://bucket")
    assert not surroundings.exists()


def test_no_database_there(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, "--store", f"postgresql://me:hunter2@{HOST}:{free_port()}/mlflow")
    assert "Connection refused" in line
    assert "is Postgres running" in line
    assert "hunter2" not in line


@started
def test_wrong_password_and_no_such_database(capsys: pytest.CaptureFixture[str], postgres: Postgres) -> None:
    assert "password authentication failed" in said(capsys, "--store", postgres.uri("postgres", "wrong"))
    line = said(capsys, "--store", postgres.uri("elsewhere"))
    assert 'database "elsewhere" does not exist (make it: createdb' in line


@started
def test_prefects_extension_is_asked_for_where_it_cannot_be_made(
    capsys: pytest.CaptureFixture[str], postgres: Postgres
) -> None:
    postgres.database("owned-by-others")
    postgres.sql("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    as_guest = f"postgresql+asyncpg://guest:guest@{HOST}:{postgres.port}/owned-by-others"
    line = said(capsys, "--prefect-store", as_guest, main=serve.main)
    assert line.startswith("serve: --prefect-store: postgresql+asyncpg://guest@")
    assert "the extension pg_trgm is not in this database, and this user may not create it" in line
    with pytest.raises(parts.SettingError, match="the extension no_such is not on this Postgres"):
        parts.require_database(postgres.uri("owned-by-others"), extension="no_such")
    postgres.sql("CREATE EXTENSION pg_trgm", "owned-by-others")
    parts.require_database(as_guest, extension=parts.TRIGRAMS)


@started
def test_both_servers_in_one_database(capsys: pytest.CaptureFixture[str], postgres: Postgres) -> None:
    both = postgres.database("both")
    line = said(capsys, "--store", both, "--prefect-store", with_driver(both, "asyncpg"), main=serve.main)
    assert "cannot share a database" in line


def test_no_bucket_store_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parts.ENDPOINT, f"http://{HOST}:{free_port()}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    assert "no key is set (export AWS_ACCESS_KEY_ID" in said(capsys, "--artifacts", "s3://bucket/below")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    line = said(capsys, "--artifacts", "s3://bucket/below")
    assert "Could not connect to the endpoint" in line
    assert "is the store running" in line


@started
def test_what_a_bucket_refuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, swift: Swift
) -> None:
    for name, value in swift.environment().items():
        monkeypatch.setenv(name, value)
    assert "there is no such bucket (make it first)" in said(capsys, "--artifacts", "s3://nowhere")
    here = swift.bucket("here")
    parts.require_bucket(f"{here}/below")
    assert "Contents" not in swift.client().list_objects_v2(Bucket="here")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    line = said(capsys, "--artifacts", here)
    assert "the key's secret is wrong" in line
    assert "hunter2" not in line


@started
def test_a_clock_that_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, swift: Swift
) -> None:
    import botocore.auth

    for name, value in swift.environment().items():
        monkeypatch.setenv(name, value)
    here, real, ahead = swift.bucket("clock"), datetime.datetime, datetime.timedelta(minutes=40)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: real.now(datetime.UTC) + ahead, raising=True)

    class Ahead(datetime.datetime):
        """This machine's clock, as the check itself reads it."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + ahead

    monkeypatch.setattr(parts, "datetime", Ahead)
    assert "this machine's clock is 40 minutes ahead (set it" in said(capsys, "--artifacts", here)


@started
def test_the_stores_come_and_go_cleanly(postgres: Postgres) -> None:
    """A crash of Postgres and a new start: what was committed is there."""
    postgres.database("crash")
    postgres.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)", "crash")
    postgres.stop(signal.SIGQUIT)
    postgres.start()
    assert postgres.sql("SELECT n FROM kept", "crash") == "7"


def test_addresses() -> None:
    assert with_driver("postgresql://a@b/c") == with_driver("postgres://a@b/c") == "postgresql+psycopg://a@b/c"
    assert with_driver("sqlite:////a/b") == "sqlite:////a/b"
    assert place("postgresql://a@b/c") == place("postgresql+asyncpg://d:e@b:5432/c")
    assert parts.hidden("postgresql://a:secret@b:1/c?password=x") == "postgresql://a@b:1/c"


def test_users_are_in_the_postgres_store_and_a_right_password_is_remembered() -> None:
    """Read as MLflow reads it: a password with a space stays one, and is not hashed for every request."""
    uri = "postgresql+psycopg://gauntlet:a%20b@db/mlflow"
    assert auth._database("postgresql://gauntlet:a%20b@db/mlflow") == uri
    config = configparser.ConfigParser()
    config.read(auth._config(uri))
    assert config["mlflow"]["database_uri"] == uri
    assert config.getint("mlflow", "auth_cache_ttl_seconds") == auth.REMEMBERED == 60
    assert config["mlflow"]["default_permission"] == "NO_PERMISSIONS"
