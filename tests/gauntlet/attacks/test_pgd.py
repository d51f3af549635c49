"""Gradient attacks against each other, and projected gradient descent against other implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from art.estimators.classification import TensorFlowV2Classifier
from keras.losses import CategoricalCrossentropy

from gauntlet.attacks import Attack, Fgsm, Pgd, UniformNoise
from gauntlet.data.datasets import Dataset
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Images, Labels
from tests.gauntlet.attacking import fooled, name_of

N = 48


@pytest.fixture(scope="module")
def images(digits: Dataset) -> tuple[Images, Labels]:
    return digits.x_test[:N], digits.y_test[:N]


@pytest.fixture(scope="module")
def rate(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> Any:
    """Share of the correct images that an attack fools, found once for each attack and budget."""
    known: dict[tuple[Attack, float], float] = {}

    def get(case: Attack, eps: float) -> float:
        if (case, eps) not in known:
            known[case, eps] = float(fooled(classifier, case, *images, eps).mean())
        return known[case, eps]

    return get


@pytest.mark.parametrize(
    ("case", "budgets"),
    [
        (Fgsm(), (0.02, 0.07, 0.2)),
        (Pgd(max_iter=10), (0.02, 0.07, 0.2)),
        (Fgsm(norm="2"), (0.2, 1.0, 3.0)),
        (Pgd(norm="2", max_iter=10), (0.2, 1.0, 3.0)),
    ],
    ids=name_of,
)
def test_a_larger_budget_succeeds_more_often(case: Attack, budgets: tuple[float, ...], rate: Any) -> None:
    rates = [rate(case, eps) for eps in budgets]
    assert rates == sorted(rates)
    assert rates[-1] > rates[0] + 0.3


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.07), ("2", 1.0)])
def test_many_steps_beat_one_step_and_one_step_beats_noise(norm: Any, eps: float, rate: Any) -> None:
    pgd, fgsm, noise = (
        rate(case, eps) for case in (Pgd(norm=norm, max_iter=10), Fgsm(norm=norm), UniformNoise(norm=norm))
    )
    assert pgd > fgsm > noise
    assert fgsm - noise > 0.1


def test_half_the_pixel_range_leaves_no_better_than_chance(rate: Any) -> None:
    assert max(rate(case, 0.5) for case in (Fgsm(), Pgd(max_iter=10))) >= 0.9


def test_restarts_are_no_weaker_than_one_start(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    one, three = (fooled(classifier, Pgd(max_iter=5, num_random_init=n), *images, 0.07) for n in (1, 3))
    # The first start is the same.
    assert (three >= one).all()


def test_an_early_stop_saves_calls_and_fools_the_same(
    classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    early, late = (Pgd(max_iter=10, early_stop=stop).run(classifier, *images, 0.07, seed=0) for stop in (True, False))
    wrong = [classifier.labels(made.images) != images[1] for made in (early, late)]
    np.testing.assert_array_equal(*wrong)
    assert set(late.calls) == {11}
    assert (early.calls[~wrong[0]] == 11).all()
    assert (early.calls[wrong[0]] <= 11).all()
    assert early.calls.sum() < late.calls.sum()


def test_going_on_makes_the_loss_higher(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = images
    losses = [
        classifier.look(Pgd(max_iter=10, early_stop=stop).run(classifier, x, y, 0.15, seed=0).images, y).loss.mean()
        for stop in (True, False)
    ]
    assert losses[1] > 2 * losses[0]


def test_the_default_step_reaches_the_border_from_anywhere() -> None:
    assert Pgd(max_iter=40).step(0.4) == pytest.approx(0.025)
    assert Pgd(max_iter=1).step(0.4) == 0.4
    assert Pgd(eps_step=0.01).step(0.4) == 0.01


def test_who_looks_at_convergence_gets_twice_the_steps_and_who_transfers_no_early_stop() -> None:
    assert Pgd(max_iter=7).stronger() == Pgd(max_iter=14)
    assert Fgsm().stronger() is None
    assert Pgd().without_early_stop() == Pgd(early_stop=False)
    assert Fgsm().without_early_stop() == Fgsm()


# --- other implementations --------------------------------------------------------------------------------------


def _differing(ours: Images, theirs: Images) -> float:
    """Share of pixels that differ by more than rounding.

    The sign of a gradient that is nearly zero may flip and move its pixel by a step or two; that may befall a pixel in
    a thousand, not an image.
    """
    return float((np.abs(ours - theirs) > 1e-4).mean())


# In L2 ART clips to the box first and projects onto the ball after, we and Foolbox the other way round.
@pytest.mark.parametrize(
    ("norm", "eps", "library"), [("inf", 0.1, "art"), ("inf", 0.1, "foolbox"), ("2", 1.0, "foolbox")]
)
def test_pgd_from_the_image_itself_is_the_same_from_every_library(
    norm: Any, eps: float, library: Any, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    x, y = (part[:16] for part in images)
    settings: dict[str, Any] = {"norm": norm, "max_iter": 5, "num_random_init": 0, "early_stop": False}
    theirs = Pgd(library=library, **settings).run(classifier, x, y, eps, seed=0).images
    ours = Pgd(**settings).run(classifier, x, y, eps, seed=0).images
    # Ours keeps the latest point that fools, else the one nearest to the boundary: theirs keep the last.
    same = classifier.labels(theirs) != y
    assert same.sum() >= 4
    assert _differing(ours[same], theirs[same]) < 1e-3


@pytest.mark.parametrize("library", ["art", "foolbox"])
def test_libraries_fool_about_as_many(library: Any, rate: Any) -> None:
    ours, theirs = (rate(Pgd(max_iter=10, library=name), 0.07) for name in ("gauntlet", library))
    assert -1.5 / N <= ours - theirs <= 4.5 / N


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.1), ("2", 1.0)])
def test_arts_pgd_is_the_same_on_arts_own_classifier(
    norm: Any, eps: float, classifier: CompiledClassifier, model: Any, images: tuple[Images, Labels]
) -> None:
    loss = CategoricalCrossentropy(from_logits=True)
    plain: Any = TensorFlowV2Classifier(model, 10, (28, 28, 1), loss_object=loss, clip_values=(0.0, 1.0))
    plain.access = "gradients"
    x, y = (part[:16] for part in images)
    case = Pgd(norm=norm, max_iter=5, library="art")
    ours, theirs = (case.run(each, x, y, eps, seed=7).images for each in (classifier, plain))
    assert _differing(ours, theirs) < 1e-3
