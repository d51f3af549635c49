"""MLflow's `evaluate` with Gauntlet as an evaluator, found by its entry point, on a real store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.models import MetricThreshold

from gauntlet.data.datasets import Dataset, read_dataset
from gauntlet.errors import InputError
from tasks.reported import FILES
from tests.frozen import frozen

N = 80
ASKED: dict[str, Any] = {"eps": [0.05, 0.1], "attacks": ["fgsm", "pgd:max_iter=10"], "n": 60, "certify": ["interval"]}


@dataclass(frozen=True)
class Place:
    """A store, the experiment of the user's own in it, and a model there."""

    client: MlflowClient
    experiment: str
    uri: str

    def evaluate(self, config: dict[str, Any], model: Any = "", **more: Any) -> tuple[Any, Any]:
        """What MLflow gives, and the run as it is afterwards."""
        digits = read_dataset("digits")
        given = {"targets": digits.y_test[:N], "model_type": "classifier", "evaluators": ["gauntlet"]}
        given["evaluator_config"] = {"gauntlet": config}
        with mlflow.start_run(experiment_id=self.experiment) as run:
            result = mlflow.models.evaluate(model or self.uri, rows(digits), **given | more)
        return result, self.client.get_run(run.info.run_id)


def rows(digits: Dataset) -> np.ndarray:
    """The images as MLflow takes them: (n, h * w * c)."""
    return digits.x_test[:N].reshape(N, -1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Keras model that was logged to a SQLite store."""
    folder, before = tmp_path_factory.mktemp("store"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = MlflowClient()
    experiment = client.create_experiment("own", (folder / "files").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        kept = {"pip_requirements": ["keras"], "input_example": None}
        uri = mlflow.keras.log_model(frozen(), name="model", **kept).model_uri
    yield Place(client, experiment, uri)
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def evaluated(place: Place) -> tuple[Any, Any]:
    return place.evaluate(ASKED)


def test_a_logged_model_is_attacked_by_its_uri(place: Place, evaluated: tuple[Any, Any]) -> None:
    result, run = evaluated
    metrics = result.metrics
    assert metrics["robust/accuracy_at_0.1"] == metrics["robust/worst_case"] < metrics["clean/accuracy"]
    assert metrics["robust/worst_case_low"] < metrics["robust/worst_case"] < metrics["robust/worst_case_high"]
    assert metrics["certified/accuracy_at_0.1"] <= metrics["robust/worst_case"]
    assert (metrics["robust/n"], run.data.tags["gauntlet.scenario"]) == (60, "white-box")
    assert run.data.metrics.items() >= metrics.items()
    assert {file.path for file in place.client.list_artifacts(run.info.run_id)} >= set(FILES)


def test_the_curve_of_the_contract_has_no_point_of_mlflows(place: Place, evaluated: tuple[Any, Any]) -> None:
    """MLflow logs the result a second time, at step 0."""
    run_id = evaluated[1].info.run_id
    assert [point.step for point in place.client.get_metric_history(run_id, "robust/accuracy")] == [50, 100]
    steps = [point.step for point in place.client.get_metric_history(run_id, "robust/worst_case")]
    assert steps == [0]  # once


def test_thresholds_pass_and_fail(evaluated: tuple[Any, Any]) -> None:
    worst = evaluated[0].metrics["robust/worst_case"]

    def held(threshold: float) -> None:
        limit = MetricThreshold(threshold=threshold, greater_is_better=True)
        mlflow.validate_evaluation_results({"robust/worst_case": limit}, evaluated[0])

    held(worst - 0.01)
    with pytest.raises(mlflow.models.evaluation.validation.ModelValidationFailedException, match="robust/worst_case"):
        held(worst + 0.01)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "setting": ({"epss": 1}, "evaluator_config: unknown setting 'epss' \\(one of eps, attacks, certify, n, "),
    "attack": ({"attacks": "nothing"}, "attack: unknown attack 'nothing'"),
    "shape": ({"shape": (8, 8)}, r"data: rows of \(784,\) values, images of \(8, 8\) have 64"),
}


@pytest.mark.parametrize(("changed", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_evaluated_is_one_line(place: Place, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        place.evaluate(ASKED | changed)
    assert "\n" not in str(caught.value)


def test_a_function_and_predictions(place: Place) -> None:
    """Of a function nothing but its answers is known, and the size of its images is to be told."""
    model = frozen()

    def answer(x: np.ndarray) -> np.ndarray:
        return np.asarray(model(np.asarray(x, np.float32).reshape(-1, 28, 28, 1)))

    config = {"eps": 0.1, "attacks": "square:max_iter=5", "n": 20}
    with pytest.raises(InputError, match="the size of the images is not known"):
        place.evaluate(config, answer)
    result, run = place.evaluate(config | {"shape": (28, 28)}, answer)
    assert run.data.tags["gauntlet.scenario"] == "black-box"
    assert run.data.metrics.items() >= result.metrics.items()


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")  # scikit-learn, of MLflow's frames
def test_mlflows_own_evaluators_work_beside_it_and_alone(place: Place) -> None:
    from sklearn.linear_model import LogisticRegression

    digits, place_of = read_dataset("digits"), {"experiment_id": place.experiment}
    flat = digits.x_train[:500].reshape(500, -1)
    with mlflow.start_run(**place_of):
        told = LogisticRegression(max_iter=200).fit(flat, digits.y_train[:500])
        uri = mlflow.sklearn.log_model(told, name="linear", pip_requirements=["scikit-learn"]).model_uri
    quiet = {"log_model_explainability": False, "log_explainer": False}
    config = {
        "gauntlet": {"eps": 0.1, "attacks": "hopskipjump:max_iter=1", "n": 3, "shape": (28, 28)},
        "default": quiet,
    }
    both, _ = place.evaluate({}, uri, evaluators=["default", "gauntlet"], evaluator_config=config)
    assert both.metrics["accuracy_score"] == pytest.approx(both.metrics["clean/accuracy"])
    alone, run = place.evaluate({}, uri, evaluators=None, evaluator_config=quiet)
    assert alone.metrics["accuracy_score"] == both.metrics["accuracy_score"]
    assert "gauntlet.stage" not in run.data.tags


def test_mlflow_is_no_slower_for_it() -> None:
    """The evaluator is registered with the first evaluation of anybody's, and brings no TensorFlow."""
    script = (
        "import sys, mlflow\nfrom mlflow.models.evaluation import evaluator_registry\n"
        "from mlflow.models import list_evaluators\n"
        "print('gauntlet' in list_evaluators(), {'tensorflow', 'keras', 'art', 'prefect'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.split(maxsplit=1) == ["True", "set()\n"]
