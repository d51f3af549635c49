"""Registered versions: found by number or alias, with their tags and digests; and the aliases of promotion."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gauntlet.errors import ModelError, TrackingError, one_line

DIGEST, DATA = "gauntlet.model_digest", "gauntlet.dataset_digest"


def absent(error: Exception) -> bool:
    """Whether the store says that there is no such thing; any other error is a fault of the store."""
    codes = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
    return not isinstance(error, MlflowException) or error.error_code in codes


def no_model(uri: str, error: Exception) -> ModelError | TrackingError:
    """What to raise when a model could not be read: there is none, or the store has a fault."""
    if not absent(error):
        return TrackingError(f"the store could not be asked for {uri}: {one_line(error, 200)}")
    reason = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 200)
    return ModelError(f"no such model: {reason}", where=uri, fix="list them in MLflow's UI under Models")


def registered_digest(uri: str) -> str | None:
    """The digest that was logged with a model; None for models that others logged.

    Raises `ModelError` when there is no such model, or when a stage's model (`gauntlet-...`) has lost its digest.
    """
    kind, _, rest = uri.partition(":/")
    if kind == "runs" or is_logged(uri):
        return _run_of(uri, rest).data.tags.get(DIGEST)
    version = find(uri)
    made = version.tags.get(DIGEST)
    if made is None and version.name.startswith(PREFIX):
        raise ModelError("it is registered without the digest of its weights", where=uri, fix="train it again")
    return str(made) if made else None


PREFIX = "gauntlet-"
"""Of the names under which stages register models."""


def is_logged(uri: str) -> bool:
    """Whether a URI names a logged model by its id (`models:/m-...`), which no version need hold."""
    return uri.startswith("models:/m-") and "/" not in uri.removeprefix("models:/") and "@" not in uri


def _run_of(uri: str, rest: str) -> Any:
    """The run that logged a model."""
    client = MlflowClient()
    try:
        run_id = client.get_logged_model(rest).source_run_id if is_logged(uri) else rest.partition("/")[0]
        return client.get_run(str(run_id))
    except MlflowException as error:
        raise no_model(uri, error) from error


def find(uri: str) -> Any:
    """The registered version of a `models:/` URI: by number, alias or `latest`. `ModelError` when there is none."""
    client, path = MlflowClient(), uri.removeprefix("models:/")
    name, at, alias = path.partition("@")
    name, _, version = (name, "", "") if at else path.rpartition("/")
    try:
        if at:
            return client.get_model_version_by_alias(name, alias)
        version = _latest(name) if version == "latest" else version
        if not version.isdigit() or len(version) > DIGITS:
            raise ModelError(f"no such model: {one_line(version, 60)} is no version", where=uri, fix="give a number")
        return client.get_model_version(name, version)
    except MlflowException as error:
        raise no_model(uri, error) from error


DIGITS = 18
"""Of a version's number: a database holds no longer ones."""


def _latest(name: str) -> str:
    versions = MlflowClient().search_model_versions(f"name = '{name}'")
    return str(max((int(each.version) for each in versions), default=0))


def version_uri(uri: str) -> str:
    """`models:/NAME/VERSION` of any URI of a registered version."""
    version = find(uri)
    return f"models:/{version.name}/{version.version}"


def champion_of(name: str, alias: str = "champion") -> str | None:
    """The version with an alias; None where there is none. `TrackingError` when the store cannot say."""
    try:
        aliases = MlflowClient().get_registered_model(name).aliases
    except MlflowException as error:
        if absent(error):
            return None
        raise TrackingError(f"the store could not be asked for {name}@{alias}: {one_line(error, 200)}") from error
    return f"models:/{name}/{aliases[alias]}" if alias in aliases else None


def name_of(uri: str) -> str:
    """The registered name of a version's URI."""
    return str(find(uri).name)


def data_digest_of(uri: str) -> str | None:
    """The digest of the data that a version was trained on, where it was registered with one."""
    digest = find(uri).tags.get(DATA)
    return str(digest) if digest else None


def tags_of(uri: str) -> dict[str, str]:
    """The tags of a version."""
    return dict(find(uri).tags)


def link(uri: str, tags: dict[str, str]) -> None:
    """Set tags of a version."""
    version = find(uri)
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(version.name, str(version.version), key, value)


ANCHOR = "anchor"
"""The alias of the first champion: every later one is held against it, so that small losses do not add up."""


def promote(uri: str) -> None:
    """Give a version the alias `champion`; the one before keeps `previous-champion`, the first of all `anchor`."""
    version, client = find(uri), MlflowClient()
    before = champion_of(version.name)
    if champion_of(version.name, ANCHOR) is None:
        client.set_registered_model_alias(version.name, ANCHOR, (before or uri).rpartition("/")[2])
    if before and before != uri:
        client.set_registered_model_alias(version.name, "previous-champion", before.rpartition("/")[2])
    client.set_registered_model_alias(version.name, "champion", str(version.version))
