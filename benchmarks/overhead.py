"""What Prefect, MLflow and the reports cost: the suite as a flow against the same work without them.

    python -m benchmarks.overhead --dataset mnist --data-dir DIR

Both train, attack, poison, defend and score the same models with the same settings in one process, the bare work first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gauntlet.quiet import load_tensorflow

load_tensorflow()

from flows.suite import SuiteConfig, suite  # noqa: E402
from gauntlet import evaluation  # noqa: E402
from gauntlet.classifier import CompiledClassifier  # noqa: E402
from gauntlet.datasets import Dataset, read_dataset  # noqa: E402
from gauntlet.training import Trained, train  # noqa: E402
from tasks.attack import ITERATIVE_IMAGES  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

    from gauntlet.attacks import Attack


def bare(config: SuiteConfig, dataset: Dataset) -> None:
    """The suite's work: no flow, no task, no run, no figure."""
    training = config.training()
    baseline = CompiledClassifier(train(dataset, training).model)
    made = _attack(config, dataset, baseline)
    poisoned = config.poisoning.poison(dataset.x_train, dataset.y_train, config.seed)
    models = [_classifier(train(dataset, training, x=poisoned.x, y=poisoned.y))]
    models += [_classifier(defense.apply(dataset, training, baseline)) for defense in config.defense]
    for model in models:
        _attack(config, dataset, model)
    for model in models[1:]:
        for result in made:
            data = dataset.x_test, dataset.y_test, result.index
            evaluation.score(model, result.attack, *data, result.eps, result.images, "transfer")


def _classifier(trained: Trained) -> CompiledClassifier:
    return CompiledClassifier(trained.model)


def _attack(config: SuiteConfig, dataset: Dataset, model: CompiledClassifier) -> list[evaluation.Attacked]:
    def subset(attack: Attack) -> np.ndarray:
        usual = min(ITERATIVE_IMAGES, len(dataset.x_test)) if attack.iterative else None
        return dataset.test_subset(config.n or usual, config.seed)

    clean = evaluation.evaluate(model, dataset.x_test, dataset.y_test, dataset.class_names)
    evaluation.inference_ms(model.predict, dataset.x_test)
    data = dataset.x_test, dataset.y_test, subset
    return evaluation.battery(model, config.attack, *data, config.eps, config.seed, clean=clean.predictions)


def main() -> None:
    """Time both, print both."""
    parser = argparse.ArgumentParser("python -m benchmarks.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    with tempfile.TemporaryDirectory() as folder:
        config = SuiteConfig(**vars(options), tracking_uri=f"sqlite:///{folder}/mlflow.db")
        dataset = read_dataset(options.dataset, Path(options.data_dir) if options.data_dir else None)
        started = time.perf_counter()
        bare(config, dataset)
        middle = time.perf_counter()
        suite(**{name: getattr(config, name) for name in SuiteConfig.model_fields})
        ended = time.perf_counter()
    work, whole = middle - started, ended - middle
    print(f"bare work {work:.1f} s, suite {whole:.1f} s, overhead {100 * (whole / work - 1):.1f} %")


if __name__ == "__main__":
    main()
