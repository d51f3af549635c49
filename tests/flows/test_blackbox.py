"""Models of other libraries: from MLflow's store with trust, and functions by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from flows.command import Settings
from flows.settings import ModelSettings
from gauntlet.attacks import Pgd, Square
from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.errors import ModelError, SettingError
from gauntlet.models.access import Access
from gauntlet.models.blackbox import BlackBox
from gauntlet.models.classifier import CompiledClassifier
from tasks.source import Source
from tasks.store import connection

REQUIREMENTS = ["scikit-learn"]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return read_dataset("digits")


@pytest.fixture(scope="module")
def pixels(digits: Dataset) -> np.ndarray:
    """600 training images as rows of pixels from 0 to 255."""
    return np.asarray(digits.x_train[:600].reshape(600, -1) * 255)


@pytest.fixture(scope="module")
def logistic(digits: Dataset, pixels: np.ndarray) -> LogisticRegression:
    return LogisticRegression(max_iter=50, tol=0.1).fit(pixels, digits.y_train[:600])


@pytest.fixture
def log(store: str) -> Callable[..., str]:
    """Log a model of scikit-learn's to the store; returns its URI."""

    def log(model: Any, **settings: Any) -> str:
        connection.connect(store)
        with mlflow.start_run():
            info = mlflow.sklearn.log_model(model, name="theirs", pip_requirements=REQUIREMENTS, **settings)
        return str(info.model_uri)

    return log


@pytest.mark.parametrize(
    ("method", "outputs", "access"), [("predict_proba", "probabilities", "scores"), ("predict", "labels", "labels")]
)
def test_a_model_of_scikit_learns_is_opened_with_trust_alone(
    method: str, outputs: str, access: Access, log: Callable[..., str], logistic: LogisticRegression, digits: Dataset
) -> None:
    uri = log(logistic, pyfunc_predict_fn=method)
    with pytest.raises(ModelError) as caught:
        Source(model=uri).load(digits)
    says = "loading this model runs its code (flavor sklearn) (pass --trust if you trust where it comes from)"
    assert str(caught.value) == f"{uri}: {says}"
    found = Source(model=uri, trust=True).load(digits)
    assert isinstance(found.classifier, BlackBox)
    assert (found.classifier.access, found.outputs, found.layout) == (access, outputs, "flat")
    expected = logistic.predict(digits.x_test.reshape(len(digits.x_test), -1) * 255)
    assert (found.classifier.labels(digits.x_test) == expected).mean() > 0.99


def test_square_fools_it_and_pgd_is_refused(
    log: Callable[..., str], logistic: LogisticRegression, digits: Dataset
) -> None:
    found = Source(model=log(logistic, pyfunc_predict_fn="predict_proba"), trust=True).load(digits)
    assert (found.input_range, found.better_range) == ("0..255", None)
    x, y = digits.x_test[:20], digits.y_test[:20]
    made = Square(max_iter=100).run(found.classifier, x, y, 0.3, seed=0)
    assert (found.classifier.labels(made.images) != y).mean() > 0.5
    with pytest.raises(SettingError, match="pgd needs gradients, the model shows only scores"):
        Pgd().run(found.classifier, x, y, 0.3, seed=0)
    with pytest.raises(SettingError, match="gradients are needed, the model shows only scores"):
        _ = found.white_box


NAMES = [f"pixel{i}" for i in range(784)]
SIGNATURES: dict[str, tuple[Schema, type]] = {
    "tensor": (Schema([TensorSpec(np.dtype("float64"), (-1, 784))]), np.float64),
    "tensor of bytes": (Schema([TensorSpec(np.dtype("uint8"), (-1, 784))]), np.uint8),
    "columns": (Schema([ColSpec("double", name) for name in NAMES]), np.float64),
    "columns of whole numbers": (Schema([ColSpec("long", name) for name in NAMES]), np.int64),
    "columns without names": (Schema([ColSpec("double") for _ in NAMES]), np.float64),
}


@pytest.mark.parametrize("form", SIGNATURES)
def test_images_come_as_the_signature_wants_them(
    form: str, log: Callable[..., str], digits: Dataset, pixels: np.ndarray
) -> None:
    schema, dtype = SIGNATURES[form]
    x: Any = np.rint(pixels).astype(dtype)
    x = pd.DataFrame(x, columns=NAMES) if schema.has_input_names() else x
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(x, digits.y_train[:600])
    few = replace(digits, x_test=digits.x_train[:150], y_test=digits.y_train[:150])
    found = Source(model=log(nearest, signature=ModelSignature(schema)), trust=True).load(few)
    assert (found.input_range, found.layout, found.outputs) == ("0..255", "flat", "labels")
    assert (found.classifier.labels(few.x_test) == few.y_test).all()


CODE = """
import numpy as np

class Brightness:
    def predict(self, data, params=None):
        images = data["images"]
        assert images.shape[1:] == (28, 28), images.shape
        return {"scores": np.eye(10)[np.rint(images.max(axis=(1, 2)) * 9).astype(int)] + images[:, :10, 0] / 9}

def _load_pyfunc(path):
    return Brightness()
"""


@pytest.fixture
def by_brightness(digits: Dataset) -> Dataset:
    """Grey squares whose brightness is their class."""
    y = np.arange(100) % 10
    x = np.broadcast_to((y / 9).reshape(-1, 1, 1, 1), (100, 28, 28, 1)).astype(np.float32)
    return replace(digits, x_test=x, y_test=y)


def test_a_model_of_code_gets_its_images_by_name(by_brightness: Dataset, store: str, tmp_path: Path) -> None:
    path = tmp_path / "code_of_blackbox.py"
    path.write_text(CODE)
    connection.connect(store)
    theirs: dict[str, Any] = {"name": "code", "loader_module": path.stem, "code_paths": [str(path)]}
    theirs |= {"signature": ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 28, 28), "images")]))}
    theirs |= {"input_example": {"images": by_brightness.x_test[:2, ..., 0]}, "pip_requirements": REQUIREMENTS}
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(**theirs)
    with pytest.raises(ModelError, match=r"runs its code \(flavor python_function\)"):
        Source(model=info.model_uri).load(by_brightness)
    found = Source(model=info.model_uri, trust=True).load(by_brightness)
    assert (found.input_range, found.layout, found.outputs) == ("0..1", "hwc", "logits")


def test_a_keras_model_stays_a_white_box_whoever_logged_it(digits: Dataset, store: str) -> None:
    means = np.stack([digits.x_train[digits.y_train == k].mean(axis=0).ravel() for k in range(10)])
    dense = keras.layers.Dense(10)
    network = keras.Sequential([keras.Input((784,)), dense])
    dense.set_weights([means.T * 0.5, -0.25 * (means**2).sum(axis=1)])
    connection.connect(store)
    signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 784))]))
    for flavor in (mlflow.tensorflow, mlflow.keras):
        with mlflow.start_run():
            info = flavor.log_model(network, name="theirs", signature=signature, pip_requirements=REQUIREMENTS)
        found = Source(model=info.model_uri).load(digits)
        assert isinstance(found.classifier, CompiledClassifier)
        assert found.white_box is found.classifier
        assert (found.input_range, found.outputs, found.layout) == ("0..1", "logits", "flat")


def test_a_model_that_does_not_fit_is_refused_with_its_uri(
    log: Callable[..., str], digits: Dataset, pixels: np.ndarray
) -> None:
    small = LogisticRegression(max_iter=50, tol=1).fit(pixels[:, 300:364], digits.y_train[:600])
    uri = log(small)
    with pytest.raises(ModelError, match="X has 784 features, but LogisticRegression is expecting 64") as caught:
        Source(model=uri, trust=True).load(digits)
    assert str(caught.value).startswith(f"{uri}: the model cannot be run: ValueError: ")
    assert "\n" not in str(caught.value)


# --- functions ----------------------------------------------------------------------------------------------


MODULE = """
import numpy as np

number = 3

def by_brightness(x):
    return np.rint(np.asarray(x).reshape(len(x), -1).max(axis=1) * 9).astype(int)

def broken(x):
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules of a user's."""
    (tmp_path / "mine_of_blackbox.py").write_text(MODULE)
    (tmp_path / "bad_of_blackbox.py").write_text("1 / 0")
    (tmp_path / "needy_of_blackbox.py").write_text("import absent_of_blackbox")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


@pytest.mark.usefixtures("here")
def test_a_function_is_found_in_the_working_directory(by_brightness: Dataset) -> None:
    found = Source(model="mine_of_blackbox:by_brightness", input_range="0..1", trust=True).load(by_brightness)
    assert isinstance(found.classifier, BlackBox)
    assert (found.classifier.access, found.input_range, found.outputs) == ("labels", "0..1", "labels")
    np.testing.assert_array_equal(found.classifier.labels(by_brightness.x_test), by_brightness.y_test)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing_of_blackbox:f", "there is no module nothing_of_blackbox (looked in "),
        ("mine_of_blackbox.sub:f", "there is no module mine_of_blackbox.sub (looked in "),
        ("bad_of_blackbox:f", "importing bad_of_blackbox failed: ZeroDivisionError: division by zero"),
        ("needy_of_blackbox:f", "importing needy_of_blackbox failed: ModuleNotFoundError: No module named 'absent_of"),
        ("mine_of_blackbox:f", "mine_of_blackbox has no f (name one that takes images"),
        ("mine_of_blackbox:number", "number is no function"),
        ("mine_of_blackbox:broken", "the model cannot be run: RuntimeError: no weights here"),
    ],
)
def test_a_name_that_is_no_function_is_refused(name: str, says: str, by_brightness: Dataset) -> None:
    with pytest.raises(ModelError) as caught:
        Source(model=name, trust=True).load(by_brightness)
    assert str(caught.value).startswith(f"{name}: {says}")
    assert "\n" not in str(caught.value)


def test_the_flags_are_those_of_a_source() -> None:
    assert {*Source.model_fields} - {"model"} == {*ModelSettings.model_fields} - {*Settings.model_fields}
