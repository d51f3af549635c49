"""What certificates save a cascade: the same battery with and without `crown`, alternated, as a ratio.

python -m benchmarks.cascade [--data-dir path/to/mnist] [--n 200] [--eps 0.1] [--attack autoattack]

On an undefended network, where few images are certified, and on one by interval training; the digits without a folder.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from gauntlet.quiet import load_tensorflow

load_tensorflow()

from gauntlet.certify import Crown  # noqa: E402
from gauntlet.data.datasets import Dataset, read_dataset  # noqa: E402
from gauntlet.defenses.training import defense  # noqa: E402
from gauntlet.evaluation.battery import Battery, Job, run  # noqa: E402
from gauntlet.evaluation.outcome import worst_case  # noqa: E402
from gauntlet.models.classifier import CompiledClassifier  # noqa: E402
from gauntlet.threat import Images, Labels  # noqa: E402
from gauntlet.training.fit import Training, train  # noqa: E402

Robust = NDArray[np.bool_]


def models(dataset: Dataset, eps: float) -> dict[str, CompiledClassifier]:
    """The undefended network, and one trained for certificates."""
    training = Training(architecture="cnn5x5", batch_size=64)
    base = CompiledClassifier(train(dataset, training).model)
    trained = defense(f"ibp-training:eps={eps}").apply(dataset, training, base)
    return {"undefended": base, "ibp-training": CompiledClassifier(trained.model)}


def attacked(target: CompiledClassifier, x: Images, y: Labels, battery: Battery) -> tuple[float, Robust, float]:
    """Seconds of the battery with its certificates, which images are left, and the share certified."""
    started, job = time.perf_counter(), Job(target, x, y, target.labels(x), 0)
    proofs = battery.certified(job, lambda _: np.arange(len(x)))
    results = run(battery, job, lambda _: np.arange(len(x)), certified=proofs)
    share = float(proofs[0].proven.mean()) if proofs else 0.0
    return time.perf_counter() - started, worst_case(results)[0].robust, share


def main() -> None:
    """Print a row a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of MNIST; the embedded digits when not given")
    parser.add_argument("--n", type=int, default=200, help="test images")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--attack", default="autoattack")
    options = parser.parse_args()
    dataset = read_dataset("mnist" if options.data_dir else "digits", options.data_dir)
    x, y = dataset.x_test[: options.n], dataset.y_test[: options.n]
    plain = Battery(attack=options.attack, eps=(options.eps,), cascade=True)
    with_proofs = plain.model_copy(update={"certify": (Crown(),)})
    print("| model | certified % | left % | seconds | seconds with crown | ratio | same images broken |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, target in models(dataset, options.eps).items():
        for battery in (plain, with_proofs):
            attacked(target, x[:4], y[:4], battery)  # compiled before it is timed
        (slow, before, _), (quick, after, share) = (attacked(target, x, y, one) for one in (plain, with_proofs))
        shares = f"{100 * share:.1f} | {100 * before.mean():.1f}"
        same = "yes" if np.array_equal(before, after) else "no"
        print(f"| {name} | {shares} | {slow:.1f} | {quick:.1f} | {slow / quick:.2f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
