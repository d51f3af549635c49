"""Every run's entries in the audit log, and the log's anchor on every run.

A run without an entry has the tag `gauntlet.audit` with `missing` and the reason; its results are kept.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from gauntlet.assurance.audit import trail
from gauntlet.assurance.audit.trail import Receipt
from gauntlet.errors import GateError, GauntletError, InputError
from gauntlet.state import store_uri
from tasks.store import origin, versions

if TYPE_CHECKING:
    from tasks.context import Context

TAG, HEAD = "gauntlet.audit", "gauntlet.audit_head"
"""Of a run and of a registered version: its entry's number (or `missing: reason`), and `LOG:SEQ:HASH`."""
PROMOTION = "gauntlet.promotion"
"""Of a version: the entry of its promotion, `LOG:SEQ:HASH`."""
INPUTS = ("stage", "dataset", "dataset_digest")
OUTPUTS = ("model_uri", "model_digest", "verdict", "validity")
MODELS = ("model", "candidate", "champion")
"""Params that may name a model."""


@contextmanager
def audited(run_id: str) -> Iterator[None]:
    """Enter a run's start, and its end with all that it logged; an error makes it `run failed`."""
    run = MlflowClient().get_run(run_id)
    _enter("run started", run, {})
    try:
        yield
    except BaseException as error:
        ended(run_id, f"{type(error).__name__}: {error}")
        raise
    ended(run_id)


def ended(run_id: str, error: str = "") -> None:
    """Enter the end of a run, with params, digests and results, and anchor the entry on the run."""
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
        outputs = {"error": error, **_tags(run, OUTPUTS), "artifacts": _artifacts(run)}
        event = "run failed" if error else "gate verdict" if outputs.get("verdict") else "run ended"
        _anchor(_enter(event, run, outputs), functools.partial(client.set_tag, run_id))
    except MlflowException as broken:  # the error that ended the run must not be hidden by this one
        print(f"warning: the end of run {run_id} is not in the audit log: {broken.message}", file=sys.stderr)


def _enter(event: str, run: Any, outputs: Mapping[str, Any]) -> Receipt | str:
    made = {"run": run.info.run_id, "name": run.info.run_name, **outputs}
    return _append(event, _commit(run), _tags(run, INPUTS) | _models(run), made, run.data.params)


def _append(
    event: str, commit: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], config: Mapping[str, Any]
) -> Receipt | str:
    """One entry; where it cannot be written, one line of warning and the reason instead of a receipt."""
    given, made = ({name: value for name, value in facts.items() if value} for facts in (inputs, outputs))
    try:
        return trail.append(event, commit=commit, config=dict(config), inputs=given, outputs=made)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        _warn_unwritten(trail.log_path(), reason)
        return f"missing: {reason}"


@functools.lru_cache
def _warn_unwritten(path: Path, reason: str) -> None:
    """Once a process: a suite has fifty runs."""
    print(f"warning: no audit log at {path}: {reason}; runs are tagged `{TAG}: missing`", file=sys.stderr)


def _anchor(receipt: Receipt | str, tag: Callable[[str, str], Any]) -> None:
    if isinstance(receipt, str):
        tag(TAG, receipt)
    else:
        tag(TAG, str(receipt.sequence))
        tag(HEAD, str(receipt))


def _commit(run: Any) -> str:
    return str(run.data.tags.get("gauntlet.git_commit", ""))


def _tags(run: Any, names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name in names if (value := run.data.tags.get(f"gauntlet.{name}"))}


def _models(run: Any) -> dict[str, dict[str, str]]:
    """The models that the params name: with the digests they were registered with, or the SHA-256 of a file."""
    models: dict[str, dict[str, str]] = {}
    for name in MODELS:
        uri = run.data.params.get(name, "")
        if uri.startswith(("models:/", "runs:/")):
            try:
                models[name] = {"uri": uri, "digest": versions.registered_digest(uri) or "none"}
            except MlflowException:  # the stage itself says so, with more care
                models[name] = {"uri": uri}
        elif uri.endswith(".keras") and Path(uri).is_file():
            models[name] = {"file": uri, "sha256": _sha256(Path(uri))}
    return models


def _artifacts(run: Any) -> dict[str, str]:
    """SHA-256 of the run's artifacts, where they lie on this machine; those behind a server are not fetched for it."""
    root = urlsplit(run.info.artifact_uri)
    folder = Path(unquote(root.path))
    if root.scheme not in ("", "file") or not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def registered(run: Any, uri: str, digests: Mapping[str, str]) -> None:
    """Enter that a run's model was registered as `uri`."""
    inputs = {"run": run.info.run_id, **{name.removeprefix("gauntlet."): value for name, value in digests.items()}}
    receipt = _append("model registered", _commit(run), inputs, {"model_uri": uri}, {})
    _anchor(receipt, functools.partial(_tag_version, uri))


def decided(promote: Callable[[Context, str, str], None]) -> Callable[[Context, str, str], None]:
    """Enter what came of `promote(context, night, model)`: promoted, or refused and why."""

    @functools.wraps(promote)
    def call(context: Context, night: str, model: str) -> None:
        try:
            promote(context, night, model)
        except GauntletError as error:
            _decision("promotion refused", night, model, str(error))
            raise
        _decision(PROMOTED, night, model)

    return call


def promotions(name: str) -> list[dict[str, str]] | None:
    """The promotions of a registered name that this machine's log holds, oldest first; None where it has no log."""
    try:
        entries = trail.verify().entries
    except InputError:
        return None
    inputs = [entry.get("inputs", {}) for entry in entries if entry["event"] == PROMOTED]
    return [one for one in inputs if str(one.get("model_uri", "")).startswith(f"models:/{name}/")]


def promoted_elsewhere(uri: str) -> bool:
    """Whether a version says that its promotion is entered in the log of another machine.

    Whoever may write the store can make it say so: it explains why this machine's log knows nothing, no more.
    """
    promotion = versions.tags_of(uri).get(PROMOTION)
    if promotion is None:
        return False
    try:
        own = {entry["log"] for entry in trail.verify().entries[-1:]}
    except InputError:
        own = set()
    return trail.anchor(promotion).log not in own


PROMOTED = "promoted"


def _decision(event: str, night: str, model: str, reason: str = "") -> None:
    try:
        tags = versions.tags_of(model)
    except GauntletError:  # refused for that very reason: there is no such version, and none to anchor on
        tags = {}
    facts = {name: tags.get(f"gauntlet.{name}") for name in ("model_digest", "dataset_digest", "card_seal")}
    inputs = {"run": night, "model_uri": model, **facts}
    receipt = _append(event, origin.git_commit(), inputs, {"reason": reason}, {})
    if tags:
        _anchor(receipt, functools.partial(_tag_version, model))
    if event == PROMOTED and isinstance(receipt, Receipt):
        _tag_version(model, PROMOTION, str(receipt))


def _tag_version(uri: str, key: str, value: str) -> None:
    versions.link(uri, {key: value})


def anchors(client: MlflowClient) -> list[Receipt]:
    """What the store knows of audit logs, on runs and registered versions: anchors for `trail.verify`."""
    experiments = [one.experiment_id for one in client.search_experiments(ViewType.ALL)]
    tags = [run.data.tags for run in every_page(client.search_runs, experiments, f"tags.`{HEAD}` != ''", ViewType.ALL)]
    tags += [version.tags for version in every_page(client.search_model_versions)]
    return [trail.anchor(each[HEAD]) for each in tags if HEAD in each]


def every_page(search: Callable[..., Any], *words: Any) -> list[Any]:
    """Every page of a search."""
    items, token = [], None
    while True:
        page = search(*words, page_token=token)
        items += page
        token = page.token
        if not token:
            return items


def known(uri: str) -> list[Receipt]:
    """The anchors in a store."""
    return anchors(MlflowClient(uri))


def require_whole(uri: str) -> None:
    """Raise `GateError` when the audit log is broken, by its own chain or by the store's anchors."""
    try:
        state = trail.verify(anchors=known(uri), alone=uri == store_uri())
    except InputError:  # no log yet
        return
    if state.problem:
        raise GateError(state.problem)
