"""Models in MLflow: kept in the run that made them, registered when it is done, and checked whenever they are read."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gauntlet.errors import ModelError, TrackingError, one_line
from gauntlet.models import trial
from gauntlet.models.digest import digest
from gauntlet.models.files import load_file
from gauntlet.quiet import no_prints
from tasks.store import audit, tracking, versions

if TYPE_CHECKING:
    import keras

    from gauntlet.data.datasets import Dataset
    from tasks.store.tracking import Run

REQUIREMENTS = ("keras", "tensorflow", "numpy")
SOURCE, NAME, URI = "gauntlet.model_source", "gauntlet.model_name", "gauntlet.model_uri"


def log_model(opened: Run, model: keras.Model, dataset: Dataset, role: str) -> None:
    """Keep a model in its run, with signature, example, pinned requirements and digest; `register` comes last."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    images = TensorSpec(np.dtype("float32"), (-1, *dataset.input_shape))
    logits = TensorSpec(np.dtype("float32"), (-1, dataset.n_classes))
    with no_prints():
        info = mlflow.tensorflow.log_model(
            model,
            name="model",
            signature=ModelSignature(Schema([images]), Schema([logits])),
            input_example=dataset.x_test[:2],
            pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in REQUIREMENTS],
        )
    with _file_of(info.model_uri) as file, file.open("rb") as stream:  # written here: it needs no trial here
        trial.remember(hashlib.file_digest(stream, "sha256").hexdigest())
    opened.tags({SOURCE: info.model_uri, NAME: f"gauntlet-{dataset.name}-{role}", versions.DIGEST: digest(model)})


def register(run_id: str) -> str:
    """Register the model of a finished run, once: a version with its digests in one step, then the alias `candidate`.

    Called again it gives the same version, so that a registry never holds half a model or one model twice.
    """
    run, client = tracking.read(run_id), MlflowClient()
    tags = run.data.tags
    if SOURCE not in tags:
        raise TrackingError(f"run {run_id} kept no model")
    name, existing = tags[NAME], client.search_model_versions(f"run_id = '{run_id}'")
    if existing:
        version = existing[0].version
    else:
        _ensure_name(name)
        digests = {key: tags[key] for key in (versions.DIGEST, versions.DATA) if key in tags}
        # A server wants the id of what it is to register beside its address.
        model_id = tags[SOURCE].removeprefix("models:/")
        version = client.create_model_version(name, tags[SOURCE], run_id, tags=digests, model_id=model_id).version
        audit.registered(run, f"models:/{name}/{version}", digests)
    uri = f"models:/{name}/{version}"
    if tags.get(URI) != uri:
        client.set_registered_model_alias(name, "candidate", str(version))
        client.set_tag(run_id, URI, uri)
    return uri


def _ensure_name(name: str) -> None:
    try:
        MlflowClient().create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def load_model(uri: str, *, trust: bool = False) -> keras.Model:
    """The Keras model of a `models:/` or `runs:/` URI, checked against the digest it was registered with.

    MLflow's own loader unpickles custom objects and imports code that lies beside a model: it is asked with `trust`
    alone. Without, the model's file is read like any untrusted file, and a folder with code in it is refused.
    """
    try:
        if trust:
            model = (mlflow.keras if flavor(uri) == "keras" else mlflow.tensorflow).load_model(uri)
        else:
            with _file_of(uri) as file:
                model = load_file(file)
    except (MlflowException, OSError) as error:
        raise versions.no_model(uri, error) from error
    expected = versions.registered_digest(uri)
    if expected and digest(model) != expected:
        raise ModelError("the weights are not those that were registered", where=uri, fix="train it again")
    return model


@contextmanager
def _file_of(uri: str) -> Iterator[Path]:
    """The Keras file of a logged model, in a copy: what is scanned is what is loaded."""
    with tempfile.TemporaryDirectory() as place:
        yield _plain_file(uri, Path(mlflow.artifacts.download_artifacts(uri, dst_path=place)).resolve())


CODE = (".py", ".pkl", ".pickle", ".cloudpickle", ".joblib", ".dill", ".pyc", ".so")
"""Files that are run, or that run code when read."""


def _plain_file(uri: str, folder: Path) -> Path:
    """The Keras file of a logged model whose folder holds nothing that would be run; `ModelError` else."""
    fix = "pass --trust if you trust where it comes from"
    code = [one_line(p.name, 80) for p in sorted(folder.rglob("*")) if p.suffix.lower() in CODE and p.is_file()]
    if code:
        raise ModelError(f"code comes with the model ({', '.join(code[:3])}): refused", where=uri, fix=fix)
    kept = _flavors(uri)
    settings = kept.get("keras") or kept["tensorflow"]
    if settings.get("code") or str(settings.get("keras_module", "keras")) not in ("keras", "tensorflow.keras"):
        raise ModelError("loading it imports modules of its choice: refused", where=uri, fix=fix)
    data = (folder / str(settings.get("data", "model"))).resolve()
    files = [data / f"model{suffix}" for suffix in (".keras", ".h5")] + [Path(f"{data}.keras")]
    file_in_folder = next((file for file in files if file.is_file() and file.resolve().is_relative_to(folder)), None)
    if file_in_folder is None:
        raise ModelError("the model's folder holds no .keras or .h5 file", where=uri, fix="log it again")
    return file_in_folder


def _flavors(uri: str) -> dict[str, Any]:
    """The settings of every form in which a model was saved; `ModelError` when there is no such model."""
    try:
        return dict(mlflow.models.Model.load(uri).flavors)
    except (MlflowException, OSError) as error:
        raise versions.no_model(uri, error) from error


def flavor(uri: str) -> str:
    """The library that a model was saved with, as MLflow calls it: sklearn, onnx, keras, python_function."""
    return next((name for name in _flavors(uri) if name != "python_function"), "python_function")


def is_keras(uri: str) -> bool:
    """Whether the model is a Keras model, not only what TensorFlow exported of one."""
    saved = _flavors(uri)
    kept, older = saved.get("keras"), saved.get("tensorflow")
    if kept is not None:
        return not kept.get("save_exported_model")
    return older is not None and older.get("model_type", "keras") == "keras"


def load_pyfunc(uri: str) -> Any:
    """Any model of MLflow's, as its `PyFuncModel`. Loading it runs code that comes with it."""
    return _trusted(uri, lambda: mlflow.pyfunc.load_model(uri))


def load_torch(uri: str) -> Any:
    """The `torch.nn.Module` of a model of MLflow's flavor. Loading it runs code that comes with it."""
    return _trusted(uri, lambda: mlflow.pytorch.load_model(uri))


def _trusted(uri: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:  # whatever that code raises
        from gauntlet.models.blackbox import reason

        fix = "install what its requirements.txt names"
        raise ModelError(f"cannot be loaded: {reason(error)}", where=uri, fix=fix) from error


def load_onnx(uri: str, *, trust: bool = False) -> Any:
    """The model of MLflow's ONNX flavor, read like any untrusted file."""
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=place)).resolve()
            file = (folder / str(_flavors(uri)["onnx"].get("data", "model.onnx"))).resolve()
            if not file.is_relative_to(folder):
                raise ModelError("its file lies outside of its folder: refused", where=uri, fix="log it again")
            return load_file(file, trust=trust)
    except (MlflowException, OSError) as error:
        raise versions.no_model(uri, error) from error


def is_ours(uri: str) -> bool:
    """Whether a stage registered the model: then it takes [0, 1] and gives logits, and nothing need be detected."""
    try:
        return versions.registered_digest(uri) is not None
    except ModelError:
        return False


def model_uri(run_id: str) -> str:
    """The registered model of a run that trained one."""
    uri = tracking.read(run_id).data.tags.get(URI)
    if not uri:
        raise TrackingError(f"run {run_id} registered no model")
    return str(uri)


def digest_of(uri: str, *, fresh: bool = False) -> str:
    """The digest of a version's weights: as registered, or computed from the weights themselves."""
    if fresh:
        return digest(load_model(uri))
    return versions.registered_digest(uri) or digest(load_model(uri))


def check(uri: str) -> None:
    """Read a version's weights; `ModelError` unless they are those that were registered."""
    if is_keras(uri):
        load_model(uri)


def poison_digests(uri: str) -> list[str]:
    """Of the poisoned images' positions, where the version was trained on poisoned data."""
    run_id = versions.find(uri).run_id
    path = tracking.find(run_id, "poisoned_indices.json") if run_id else None
    return [hashlib.sha256(path.read_bytes()).hexdigest()] if path else []


def card_of(uri: str) -> str | None:
    """The evaluation card of a version as JSON; None where it has none, or its run is gone."""
    card = versions.tags_of(uri).get("gauntlet.card", "")
    night, _, name = card.removeprefix("runs:/").partition("/")
    path = tracking.find(night, name) if night else None
    return path.read_text() if path else None


def runs_of_card(uri: str) -> dict[str, str]:
    """The runs that a version's evaluation card names, by stage; none where it has no card."""
    card = card_of(uri)
    return dict(json.loads(card)["runs"]) if card else {}
