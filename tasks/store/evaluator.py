"""Gauntlet as an MLflow evaluator: `mlflow.models.evaluate(..., evaluators=["gauntlet"])`.

MLflow finds it by its entry point (`mlflow.model_evaluator`) and imports it with every evaluation, also of others:
slow modules are imported only if the evaluation is ours.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.models import EvaluationResult
from mlflow.models.evaluation.base import ModelEvaluator

from gauntlet.errors import DataError, ModelError, SettingError
from tasks.store import guest, tracking

if TYPE_CHECKING:
    from gauntlet.api import Report

NAME, KIND = "gauntlet", "classifier"
OWN = {"shape": (), "dataset": "arrays"}
"""Of `evaluator_config`: (h, w) or (h, w, c) of an image where the model does not tell, the data set's name."""
MEANT = {"eps", "attacks"}
"""Settings that no other evaluator has: one of them must be there."""
GIVEN = ("model", "x", "y", "progress", "expected")
"""Parameters of `gauntlet.evaluate` that are no settings."""


class GauntletEvaluator(ModelEvaluator):
    """Robust accuracy of a classifier whose images come as rows (n, h * w * c), with labels (n,)."""

    @classmethod
    def can_evaluate(cls, *, model_type: str, evaluator_config: Mapping[str, Any] | None = None, **_: Any) -> bool:
        """Classifiers, when we are meant: MLflow asks every evaluator that is installed, with others' settings too."""
        return model_type == KIND and bool(MEANT & set(evaluator_config or {}))

    def evaluate(
        self,
        *,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any],
        model: Any = None,
        model_id: str | None = None,
        **_: Any,
    ) -> EvaluationResult:
        """Attack a pyfunc `model` with the settings of `evaluator_config`: those of `gauntlet.evaluate`, and `OWN`.

        What it finds is logged into the run as `report.log_to_mlflow` would. Raises an `InputError` of one line, before
        any attack, for what cannot be evaluated or logged.
        """
        from tasks.reported import FILES, keep_in

        settings = _settings(evaluator_config)
        shape, title = (settings.pop(name, default) for name, default in OWN.items())
        guest.check(run_id, FILES)
        target = _model(model)
        report = _report(target, _images(dataset.features_data, target, shape), dataset.labels_data, settings)
        keep_in(run_id, report, title)
        metrics = metrics_of(report)
        if model_id is None:  # else MLflow logs them, with the model
            tracking.Run(run_id, report.name).metrics(metrics)
        return EvaluationResult(metrics=metrics, artifacts={}, run_id=run_id)


def _report(model: Any, x: Any, y: Any, settings: Mapping[str, Any]) -> Report:
    from gauntlet.api import evaluate

    return evaluate(model, x, np.asarray(y), **settings)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration; `SettingError` for what is no setting."""
    from gauntlet.api import evaluate
    from gauntlet.models.loaded import Expected

    known = [*(name for name in inspect.signature(evaluate).parameters if name not in GIVEN), *Expected.model_fields]
    if unknown := [str(name) for name in config if name not in (*known, *OWN)]:
        fix = f"one of {', '.join([*known, *OWN])}"
        raise SettingError(f"unknown setting {unknown[0][:80]!r}", where="evaluator_config", fix=fix)
    return dict(config)


def _model(model: Any) -> Any:
    """The Keras or PyTorch model behind MLflow's wrapper, or a function of images."""
    from tasks.source import of_images

    if model is None:
        what = "predictions alone cannot be attacked"
        raise ModelError(what, where="mlflow.models.evaluate", fix="give the model")
    try:
        raw = model.get_raw_model()
    except (AttributeError, NotImplementedError):
        raw = None
    if isinstance(raw, _libraries()):
        return raw
    return of_images(model) if hasattr(model, "metadata") else model.predict  # of a function MLflow has no schema


def _libraries() -> tuple[type, ...]:
    """The classes of models that have gradients; who holds such a model has imported its library."""
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    return (*((keras.Model,) if keras else ()), *((torch.nn.Module,) if torch else ()))


def _images(rows: Any, model: Any, shape: Any) -> np.ndarray:
    """Rows as images (n, h, w) or (n, h, w, c); `DataError` when they do not fit."""
    table = np.asarray(rows)
    size = tuple(shape) or tuple(getattr(model, "input_shape", None) or ())[1:]
    if len(size) not in (2, 3) or not all(size):
        fix = 'state "shape": (height, width, channels)'
        raise DataError("the size of the images is not known", where="evaluator_config", fix=fix)
    if table.ndim != 2 or table.shape[1] != np.prod(size):
        what = f"rows of {table.shape[1:]} values, images of {size} have {np.prod(size)}"
        raise DataError(what, where="data", fix="flatten the images to rows")
    return table.reshape(-1, *size)


def metrics_of(report: Report) -> dict[str, float]:
    """For thresholds, shares in [0, 1]: clean, the worst case at the largest budget and at each, what is certified.

    MLflow logs them a second time without a step, so only the name says the budget: the contract's `robust/accuracy`
    would get a point at 0.
    """
    worst, metrics = report.worst_case, {"clean/accuracy": report.clean_accuracy.value}
    for case in worst:
        metrics |= _ends("robust/accuracy", f"_at_{case.eps:.4g}", case)
        metrics |= {f"certified/accuracy_at_{case.eps:.4g}": case.proven} if case.proven is not None else {}
    facts = {"robust/n": float(worst[-1].n), "valid": float(report.verdict == "VALID")}
    return metrics | _ends("robust/worst_case", "", worst[-1]) | facts


def _ends(name: str, where: str, case: Any) -> dict[str, float]:
    """A share and its interval."""
    return {f"{name}{where}": case.value, f"{name}_low{where}": case.low, f"{name}_high{where}": case.high}
