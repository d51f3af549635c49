"""The parts that a shared server needs: a database, a bucket. A missing one is reported before the server starts.

Each is tried as the server will use it: a query, an object written, read and deleted again.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from gauntlet.errors import SettingError, one_line
from gauntlet.state import CHECKOUT
from mlflow_server.store import POSTGRES, engine

INSTALL = "pip install -r requirements-server.txt -c constraints.txt" if CHECKOUT else "pip install '.[server]'"
PATIENCE = 5
"""Seconds to wait for an answer of a database or a bucket."""
TRIGRAMS = "pg_trgm"
"""The extension of Postgres that Prefect's search needs; MLflow needs none."""


def require_database(uri: str, *, extension: str = "", where: str = "--store") -> None:
    """Raise `SettingError` unless a Postgres answers and has, or may be given, the extension; other stores pass."""
    if not uri.startswith(POSTGRES):
        return
    require_driver("psycopg", where)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine(uri, PATIENCE).connect() as connection:
            missing = extension and _missing(connection, extension)
    except SQLAlchemyError as error:
        reason = one_line(str(getattr(error, "orig", None) or error).strip().splitlines()[0], 300)
        raise SettingError(f"{hidden(uri)}: {reason}", where=where, fix=_database_fix(reason)) from None
    if missing:
        fix = f"install postgresql-contrib, then CREATE EXTENSION {extension} as the database's owner"
        raise SettingError(f"{hidden(uri)}: {missing}", where=where, fix=fix)


def require_driver(module: str, where: str) -> None:
    """Raise `SettingError` unless a package of the extra is installed."""
    if importlib.util.find_spec(module) is None:
        raise SettingError(f"the package {module} is not installed", where=where, fix=INSTALL)


def hidden(uri: str) -> str:
    """An address without its password."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}@{host}" if parts.username else host, query="").geturl()


def _missing(connection: Any, extension: str) -> str:
    """What keeps an extension out of this database, or nothing."""
    from sqlalchemy import text

    def one(query: str) -> Any:
        return connection.execute(text(query), {"name": extension}).scalar()

    if one("SELECT 1 FROM pg_extension WHERE extname = :name"):
        return ""
    if not one("SELECT 1 FROM pg_available_extensions WHERE name = :name"):
        return f"the extension {extension} is not on this Postgres"
    may = one("SELECT has_database_privilege(current_database(), 'CREATE') OR :name = ''")
    return "" if may else f"the extension {extension} is not in this database, and this user may not create it"


def _database_fix(reason: str) -> str:
    causes = (
        ("password", "give the right one in the address, in PGPASSWORD or in ~/.pgpass"),
        ("does not exist", "make it: createdb, createuser"),
        ("refused", "is Postgres running, at this address and port?"),
    )
    return next((fix for cause, fix in causes if cause in reason), "try it with psql")


def require_bucket(uri: str, *, where: str = "--artifacts") -> None:
    """Raise `SettingError` unless objects can be written, read and deleted below an `s3://` address; others pass."""
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        return
    require_driver("boto3", where)
    from botocore.exceptions import BotoCoreError, ClientError

    key = f"{parts.path.strip('/')}/.gauntlet-{uuid.uuid4().hex}".lstrip("/")
    try:
        _try(_client(), parts.netloc, key)
    except ClientError as error:
        what, fix = _refused(error.response)
        raise SettingError(f"{uri}: {what}", where=where, fix=fix) from None
    except BotoCoreError as error:
        what, fix = _unreached(error)
        raise SettingError(f"{uri}: {what}", where=where, fix=fix) from None


def _client() -> Any:
    """S3's client with the settings of MLflow's own, but less patient."""
    import boto3
    from botocore.config import Config

    few = {"max_attempts": 1}
    config = Config(connect_timeout=PATIENCE, read_timeout=2 * PATIENCE, retries=few)
    verify = False if os.environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() == "true" else None
    return boto3.session.Session().client("s3", endpoint_url=os.environ.get(ENDPOINT), config=config, verify=verify)


ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"


def _try(client: Any, bucket: str, key: str) -> None:
    client.list_objects_v2(Bucket=bucket, MaxKeys=1)  # unlike HEAD, its answer says what is wrong
    client.put_object(Bucket=bucket, Key=key, Body=b"gauntlet")
    client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.delete_object(Bucket=bucket, Key=key)


def _refused(response: dict[str, Any]) -> tuple[str, str]:
    """What an S3 store's refusal means, and what to do."""
    error = response.get("Error", {})
    code, reason = str(error.get("Code", "")), one_line(error.get("Message", ""), 200)
    known: dict[str, Callable[[], tuple[str, str]]] = {
        "NoSuchBucket": lambda: ("there is no such bucket", "make it first"),
        "InvalidAccessKeyId": lambda: ("no such key", "look at AWS_ACCESS_KEY_ID"),
        "SignatureDoesNotMatch": lambda: ("the key's secret is wrong", "look at AWS_SECRET_ACCESS_KEY"),
        "AccessDenied": lambda: ("the key may not list, write, read and delete there", "grant it these four"),
        "RequestTimeTooSkewed": lambda: (f"this machine's clock is {_skew(response)}", "set it: chronyd, ntpd"),
    }
    return known[code]() if code in known else (f"{code}: {reason}", f"look at {ENDPOINT} and the key")


def _skew(response: dict[str, Any]) -> str:
    """How far off the clock is, by the answer's own date."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not date:
        return "too far off for signed requests"
    seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    return f"{abs(seconds) / 60:.0f} minutes {'ahead' if seconds > 0 else 'behind'}"


def _unreached(error: Exception) -> tuple[str, str]:
    """What kept a request from being answered at all, and what to do."""
    kind, reason = type(error).__name__, one_line(error, 200)
    if "Credential" in kind:
        return "no key is set", "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if kind == "EndpointConnectionError":
        return reason, f"is the store running? {ENDPOINT} names its address"
    return reason, f"look at {ENDPOINT}"
