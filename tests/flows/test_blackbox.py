"""Models of other libraries: from MLflow's store with trust, and functions by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from flows.settings import ModelSettings
from gauntlet.access import Access
from gauntlet.attacks import Pgd, Square
from gauntlet.blackbox import BlackBox
from gauntlet.classifier import CompiledClassifier
from gauntlet.datasets import Dataset, read_dataset
from gauntlet.errors import ModelError, SettingError
from tasks import tracking
from tasks.source import Source

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
        tracking.connect(store)
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


SIGNATURES: dict[str, Callable[[np.ndarray], Any]] = {
    "tensor": lambda x: x.astype(np.float64),
    "tensor of bytes": lambda x: np.rint(x).astype(np.uint8),
    "named tensor": lambda x: {"images": x.astype(np.float32)},
    "columns": lambda x: pd.DataFrame(x, columns=[f"pixel{i}" for i in range(784)]),
    "columns of whole numbers": lambda x: pd.DataFrame(
        np.rint(x).astype(np.int64), columns=[f"p{i}" for i in range(784)]
    ),
}


@pytest.mark.filterwarnings(
    "ignore:X has feature names:UserWarning", "ignore:X does not have valid feature:UserWarning"
)
@pytest.mark.parametrize("form", SIGNATURES)
def test_images_come_as_the_signature_wants_them(
    form: str, log: Callable[..., str], digits: Dataset, pixels: np.ndarray
) -> None:
    example = SIGNATURES[form](pixels[:4])
    given = example["images"] if isinstance(example, dict) else example
    tree = DecisionTreeClassifier(random_state=0).fit(np.rint(pixels), digits.y_train[:600])
    if form == "named tensor":
        pytest.skip("scikit-learn takes no names") if False else None
    uri = log(tree, signature=infer_signature(given, tree.predict(np.asarray(given))))
    found = Source(model=uri, trust=True).load(digits)
    assert (found.input_range, found.layout, found.outputs) == ("0..255", "flat", "labels")
