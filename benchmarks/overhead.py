"""What Prefect, MLflow and the figures cost: `gauntlet run` beside the same work by the plain functions.

    python -m benchmarks.overhead --data-dir DIR [--epochs 2] [--n 500] [--rounds 1]

Both train a baseline, a poisoned and two defended models, attack each of them white-box and the defended ones with the
baseline's images, judge every evaluation, and scan the code of `mlflow_server`. Each side is a fresh process, in turn.
The scan of models for backdoors is left out: it keeps references, and the second side would find those of the first.
Prints seconds of the wall clock and of CPU, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.startup import show, timed
from flows.suite import SuiteConfig
from gauntlet.progress import silent
from gauntlet.quiet import load_tensorflow
from gauntlet.state import PROJECT_ROOT

CODE = str(PROJECT_ROOT / "mlflow_server")


def plain(config: SuiteConfig) -> None:
    """The suite's work, and nothing kept of it."""
    load_tensorflow()
    from gauntlet.assurance.scan import sast
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.poisoning import parse
    from gauntlet.training import fit

    dataset = config.data()
    settings = config.training().resolved(len(dataset.x_train))
    baseline = fit.train(dataset, settings).model
    images = _judged(config, dataset, baseline)
    poisoning = parse(config.poisoning).aimed(dataset.n_classes)
    poisoned = poisoning.poison(dataset.x_train, dataset.y_train, config.seed)
    backdoored = fit.train(dataset, settings, x=poisoned.x, y=poisoned.y).model
    for model in (baseline, backdoored):
        model.predict(poisoning.trigger(dataset.x_test), batch_size=128, verbose=0)
    _judged(config, dataset, backdoored)
    for defense in config.defense:
        defended = defense.apply(dataset, settings, CompiledClassifier(baseline), silent).model
        _judged(config, dataset, defended)
        _transferred(dataset, defended, images)
    sast.scan(PROJECT_ROOT / "mlflow_server")


def _judged(config: SuiteConfig, dataset: Any, model: Any) -> Sequence[Any]:
    """The white-box results of the battery, with probes and verdict."""
    import gauntlet

    battery = config.battery().filled("gradients").without_early_stop()
    asked: dict[str, Any] = {"attacks": battery.attack, "n": config.n, "seed": config.seed}
    budgets = battery.budgets(dataset.input_shape[-1])
    return gauntlet.evaluate(model, dataset.x_test, dataset.y_test, budgets, **asked).results


def _transferred(dataset: Any, model: Any, images: Sequence[Any]) -> None:
    """The share of the baseline's adversarial images that a model withstands, and its probes."""
    from gauntlet.models.classifier import CompiledClassifier
    from gauntlet.validity.probes import probe

    target = CompiledClassifier(model)
    clean = target.labels(dataset.x_test)
    for result in (result for result in images if result.attack.adversary):
        np.mean(target.labels(result.images) == result.labels)
    probe(target, dataset.x_test, dataset.y_test, clean, seed=0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.overhead", description=(__doc__ or "").splitlines()[0])
    for flag, usual in {"dataset": "mnist", "data-dir": "", "epochs": "2", "n": "500"}.items():
        parser.add_argument(f"--{flag}", default=usual)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="do the plain work once, in this process")
    options = parser.parse_args()
    told = {"dataset": options.dataset, "data_dir": options.data_dir or None, "epochs": options.epochs, "n": options.n}
    if options.plain:
        plain(SuiteConfig(**told))
        return
    words = [f"--{name.replace('_', '-')}={value}" for name, value in told.items() if value]
    commands = {
        "plain functions": [sys.executable, "-m", "benchmarks.overhead", "--plain", *words],
        "gauntlet run": [sys.executable, "-m", "flows", "run", *words, "--scan-path", CODE, "--backdoor-scan", "none"],
    }
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GAUNTLET_STATE": folder, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("PREFECT_API_URL", None)
        taken = {name: list[tuple[float, float]]() for name in commands}
        for _ in range(options.rounds + 1):
            for name, command in commands.items():
                taken[name].append(timed(command, environment))
    show(taken)


if __name__ == "__main__":
    main()
