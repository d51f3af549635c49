"""What every stage that trains a model leaves behind: the same metrics, figures, tables and registered model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gauntlet.evaluation.clean import Clean, evaluate, inference_ms, loss_metrics, share
from gauntlet.measurement import Measurement
from gauntlet.report import figures, pictures
from tasks.store import registry, tracking

if TYPE_CHECKING:
    from gauntlet.data.datasets import Dataset
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.training.fit import Trained


@dataclass(frozen=True)
class Recorded:
    """A recorded model: its classifier, its clean measurement, and the metrics logged so far."""

    classifier: CompiledClassifier
    clean: Measurement
    metrics: dict[str, float]


def record(run: tracking.Run, dataset: Dataset, trained: Trained) -> Recorded:
    """Log history, clean test figures and the registered model; the caller adds its own and calls `run.record`."""
    from gauntlet.models.classifier import CompiledClassifier

    log_history(run, trained)
    samples = pictures.sample_images(dataset.x_train, dataset.y_train, dataset.class_names, f"{dataset.name}: samples")
    run.figure("samples.png", samples)
    registry.log_model(run, trained.model, dataset, run.model)
    classifier = CompiledClassifier(trained.model, dataset.bounds)
    clean = evaluate(classifier, dataset.x_test, dataset.y_test, dataset.class_names)
    log_predictions(run, clean, dataset, f"{run.model}: clean test images of {dataset.name}")
    accuracy = share(clean.correct, model=run.model, condition="clean")
    metrics = clean_metrics(clean, accuracy, inference_ms(classifier.predict, dataset.x_test))
    return Recorded(classifier, accuracy, metrics | {"train/seconds": trained.seconds})


def clean_metrics(clean: Clean, accuracy: Measurement, milliseconds: float) -> dict[str, float]:
    """The contract's metrics of a model on unattacked images."""
    return {
        "clean/accuracy": accuracy.value,
        "clean/accuracy_low": accuracy.low,
        "clean/accuracy_high": accuracy.high,
        "clean/inference_ms": milliseconds,
    } | loss_metrics("clean/loss", clean.losses)


def log_history(run: tracking.Run, trained: Trained) -> None:
    """Loss and accuracy of every epoch, as metrics and as a figure."""
    for epoch in range(len(trained.history["loss"])):
        run.metrics({f"train/{name}": values[epoch] for name, values in trained.history.items()}, step=epoch + 1)
    run.figure("training_curves.png", figures.training_curves(trained.history, f"{run.model}: training"))


def log_predictions(run: tracking.Run, clean: Clean, dataset: Dataset, title: str, suffix: str = "") -> None:
    """Confusion matrix (PNG and JSON) and classification report."""
    matrix = {"classes": dataset.class_names, "counts": clean.confusion.tolist()}
    run.figure(f"confusion_matrix{suffix}.png", figures.confusion_matrix(clean.confusion, dataset.class_names, title))
    run.json(f"confusion_matrix{suffix}.json", matrix)
    run.json(f"classification_report{suffix}.json", clean.report)
