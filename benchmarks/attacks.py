"""Attacks through our classifier, ART's own and Foolbox: the same model, images and steps, alternated in one run.

    python -m benchmarks.attacks --dataset mnist --data-dir DIR [--only pgd|apgd|cw]

PGD starts at the clean image and never stops early, so that all walk the same path; a last row shows what stopping
early wins. Auto-PGD and Carlini & Wagner are compared as they are used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gauntlet.quiet import load_tensorflow

load_tensorflow()

import foolbox  # noqa: E402
import tensorflow as tf  # noqa: E402
from art.attacks.evasion import AutoProjectedGradientDescent, CarliniL2Method  # noqa: E402
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_tensorflow_v2 import (  # noqa: E402
    ProjectedGradientDescentTensorFlowV2,
)
from art.estimators.classification import TensorFlowV2Classifier  # noqa: E402

from benchmarks.side_by_side import Contender, measure, parser, prepare, show  # noqa: E402
from gauntlet.attacks import ApgdCe, Attack, Pgd, attack, one_hot  # noqa: E402
from gauntlet.models.classifier import CHUNK, CompiledClassifier  # noqa: E402
from gauntlet.threat import Images, Labels  # noqa: E402

EPS, STEP, STEPS = 0.3, 0.01, 40
APGD_EPS, APGD_STEPS = 0.1, 50
CW_IMAGES = 16
"""ART's takes seconds an image."""


def plain(model: Any, n_classes: int) -> TensorFlowV2Classifier:
    """ART's own classifier, as its documentation makes it."""
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    shape = tuple(model.input_shape[1:])
    return TensorFlowV2Classifier(model, n_classes, shape, loss_object=loss, clip_values=(0.0, 1.0))


def ours(settings: Attack, classifier: CompiledClassifier, eps: float) -> Contender:
    """An attack of ours; one for the smallest perturbation is held to no budget."""
    run = settings.smallest if settings.minimal else settings.run
    return lambda x, y: run(classifier, x, y, eps, 0).images


def arts(kind: type, classifier: Any, **settings: Any) -> Contender:
    """An attack of ART's with true labels."""
    made = kind(classifier, verbose=False, **settings)
    return lambda x, y: np.asarray(made.generate(x, y=one_hot(y, classifier.nb_classes)))


def pgd(model: Any, classifier: CompiledClassifier) -> dict[str, Contender]:
    """PGD-40 from the clean image."""
    same = Pgd(eps_step=STEP, max_iter=STEPS, num_random_init=0, early_stop=False)
    early = same.model_copy(update={"early_stop": True})
    settings: dict[str, Any] = {
        "eps": EPS,
        "eps_step": STEP,
        "max_iter": STEPS,
        "num_random_init": 0,
        "batch_size": CHUNK,
    }
    kind = ProjectedGradientDescentTensorFlowV2
    return {
        "bare compiled loop": bare_loop(model),
        "pgd": ours(same, classifier, EPS),
        "pgd, stopping early": ours(early, classifier, EPS),
        "ART on our classifier": arts(kind, classifier, **settings),
        "ART on its own": arts(kind, plain(model, classifier.nb_classes), **settings),
        "Foolbox": foolbox_pgd(model),
    }


def apgd(model: Any, classifier: CompiledClassifier) -> dict[str, Contender]:
    """Auto-PGD on the cross-entropy from one random start."""
    settings: dict[str, Any] = {"eps": APGD_EPS, "eps_step": 2 * APGD_EPS, "max_iter": APGD_STEPS, "nb_random_init": 1}
    settings |= {"batch_size": CHUNK, "loss_type": "cross_entropy", "norm": np.inf}
    kind = AutoProjectedGradientDescent
    return {
        "apgd-ce": ours(ApgdCe(max_iter=APGD_STEPS), classifier, APGD_EPS),
        "ART on our classifier": arts(kind, classifier, **settings),
        "ART on its own": arts(kind, plain(model, classifier.nb_classes), **settings),
    }


def cw(model: Any, classifier: CompiledClassifier) -> dict[str, Contender]:
    """Carlini & Wagner L2: ours as it comes; ART's at its defaults, and with the steps that its defaults lack."""
    kind, few = CarliniL2Method, {"batch_size": CHUNK}
    more = few | {"binary_search_steps": 5, "max_iter": 100}
    return {
        "cw-l2": ours(attack("cw-l2"), classifier, 1.0),
        "ART at its defaults (10 × 10 steps)": arts(kind, plain(model, classifier.nb_classes), **few),
        "ART with 5 × 100 steps": arts(kind, plain(model, classifier.nb_classes), **more),
    }


def bare_loop(model: Any) -> Contender:
    """The least that PGD can cost here: one compiled function a step."""

    @tf.function(reduce_retracing=True)
    def step(x: Any, clean: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
        x = tf.clip_by_value(x + STEP * tf.sign(tape.gradient(loss, x)), 0.0, 1.0)
        return clean + tf.clip_by_value(x - clean, -EPS, EPS)

    def run(x: Images, y: Labels) -> Images:
        made = []
        for start in range(0, len(x), CHUNK):
            clean, labels = tf.constant(x[start : start + CHUNK]), tf.constant(y[start : start + CHUNK])
            images = clean
            for _ in range(STEPS):
                images = step(images, clean, labels)
            made.append(images.numpy())
        return np.concatenate(made)

    return run


def foolbox_pgd(model: Any) -> Contender:
    """Foolbox's L∞ PGD in batches of the same size."""
    attacker = foolbox.TensorFlowModel(model, bounds=(0, 1))
    made = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)

    def run(x: Images, y: Labels) -> Images:
        images = []
        for start in range(0, len(x), CHUNK):
            batch, labels = tf.constant(x[start : start + CHUNK]), tf.constant(y[start : start + CHUNK])
            images.append(made(attacker, batch, labels, epsilons=EPS)[1].numpy())
        return np.concatenate(images)

    return run


BENCHMARKS = {
    "pgd": (pgd, f"PGD-{STEPS}, L∞ {EPS}, step {STEP}, batch {CHUNK}"),
    "apgd": (apgd, f"APGD-CE-{APGD_STEPS}, L∞ {APGD_EPS}, one random start, batch {CHUNK}"),
    "cw": (cw, "Carlini & Wagner, L2"),
}


def main() -> None:
    """Train a model, let the contenders run, print a table for each attack."""
    flags = parser("attacks", __doc__ or "", 512)
    flags.add_argument("--only", choices=BENCHMARKS, action="append")
    options = flags.parse_args()
    _, model, x, y = prepare(options)
    classifier = CompiledClassifier(model)
    for name in options.only or BENCHMARKS:
        make, title = BENCHMARKS[name]
        few = slice(CW_IMAGES if name == "cw" else None)
        measured = measure(make(model, classifier), x[few], y[few], 1 if name == "cw" else options.rounds)
        show(title, classifier, x[few], y[few], measured)


if __name__ == "__main__":
    main()
