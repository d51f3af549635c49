"""Auto-PGD: no weaker than plain gradient descent, free of the logits' scale, and close to ART's."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from art.attacks.evasion import AutoProjectedGradientDescent

from gauntlet.attacks import ApgdCe, ApgdDlr, Pgd, one_hot
from gauntlet.attacks.apgd import _Climb, likeliest
from gauntlet.attacks.base import global_seed
from gauntlet.attacks.streams import Streams
from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import Images, Labels, ThreatModel, lengths
from tests.gauntlet.attacking import fooled, judged

N, STEPS = 48, 20
BUDGETS = [("inf", 0.07), ("2", 1.2)]


@pytest.fixture(scope="module")
def images(digits: Dataset) -> tuple[Images, Labels]:
    return digits.x_test[:N], digits.y_test[:N]


@pytest.fixture(scope="module")
def steep(model: keras.Model) -> CompiledClassifier:
    """The same classifier with logits a hundred times as large: its softmax is saturated."""
    scaled = keras.models.clone_model(model)
    *before, kernel, bias = model.get_weights()
    scaled.set_weights([*before, 100 * kernel, 100 * bias])
    return CompiledClassifier(scaled)


@pytest.mark.parametrize(("norm", "eps"), BUDGETS)
def test_it_fools_no_less_than_plain_descent(
    norm: Any, eps: float, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    apgd, pgd = (fooled(classifier, kind(norm=norm, max_iter=STEPS), *images, eps).sum() for kind in (ApgdCe, Pgd))
    assert apgd >= pgd - 1


def test_the_ratio_is_free_of_the_scale_of_the_logits(
    classifier: CompiledClassifier, steep: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    x, y = images
    assert ((classifier.labels(x) == y) == (steep.labels(x) == y)).all()
    case = ApgdDlr(max_iter=STEPS, targets=3)
    plain, scaled = (fooled(each, case, x, y, 0.1) for each in (classifier, steep))
    assert abs(plain.mean() - scaled.mean()) <= 1.5 / N
    assert plain.mean() > 0.8
    assert fooled(steep, Pgd(max_iter=STEPS), x, y, 0.1).mean() > 0.5  # log-odds do not saturate


@pytest.mark.parametrize("case", [ApgdCe(), ApgdDlr(targets=2), ApgdDlr(targets=0)])
def test_more_steps_fool_no_less(case: Any, classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    few, many = (fooled(classifier, case.model_copy(update={"max_iter": n}), *images, 0.07).sum() for n in (3, 12))
    assert many >= few


def test_fooled_images_are_no_longer_looked_at(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = images
    made = ApgdCe(max_iter=STEPS, num_random_init=2).run(classifier, x, y, 0.07, seed=0)
    wrong = classifier.labels(made.images) != y
    assert (made.calls[~wrong] == 2 * (STEPS + 1)).all()
    assert np.median(made.calls[wrong]) <= STEPS


def test_one_target_after_the_other(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = images
    calls = ApgdDlr(max_iter=3, targets=4).run(classifier, x, y, 0.001, seed=0).calls
    correct = classifier.labels(x) == y
    assert (calls[correct] == 4 * 4).all()
    assert (calls[~correct] == 1).all()


def test_the_likeliest_wrong_classes_come_first(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = images
    targets, logits = likeliest(classifier, x, y, 9), classifier.predict(x)
    assert (targets != y[:, None]).all()
    assert (np.diff(np.take_along_axis(logits, targets, axis=1), axis=1) <= 0).all()
    assert all(len(set(row)) == 9 for row in targets)


def test_a_loss_that_needs_more_classes_says_so() -> None:
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    two = CompiledClassifier(network)
    x, y = np.zeros((3, 4, 4, 1), np.float32), np.zeros(3, np.int64)
    with pytest.raises(SettingError, match=r"apgd-dlr needs 4 classes, the model has 2 \(take apgd-ce\)"):
        ApgdDlr().run(two, x, y, 0.1, seed=0)
    with pytest.raises(SettingError, match="apgd-dlr needs 3 classes"):
        ApgdDlr(targets=0).run(two, x, y, 0.1, seed=0)
    ApgdCe(max_iter=2).run(two, x, y, 0.1, seed=0)


def _climb(classifier: CompiledClassifier, images: tuple[Images, Labels], steps: int, norm: Any = "inf") -> _Climb:
    x, y = images
    threat = ThreatModel(norm=norm, eps={"inf": 0.07, "2": 1.0}[norm])
    return _Climb(classifier, x, y, None, threat, Streams(0, np.arange(len(x))), steps)


def test_the_step_size_is_looked_at_when_the_paper_says(
    classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    # Section 3.1: p0 = 0, p1 = 0.22, each next share grows by the last difference less 0.03, at least 0.06.
    at = list(_climb(classifier, images, 100).checkpoints)
    assert at == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_every_point_is_within_the_budget_and_the_best_is_never_lost(
    norm: Any, classifier: CompiledClassifier, images: tuple[Images, Labels]
) -> None:
    search = _climb(classifier, images, 10, norm)
    rows = np.arange(N)
    state = search.start(rows, np.zeros(N, np.int64)) | {"row": rows, "step": np.zeros(N, np.int64)}
    losses = []
    for _ in range(11):
        assert lengths(state["x"] - search.clean, norm).max() <= search.threat.eps + 1e-6
        answer = search.ask(state)
        losses.append(answer.loss)
        search.move(state, answer)
        state["step"] += 1
        np.testing.assert_array_equal(state["best_loss"], np.max(losses, axis=0))
    assert set(np.unique(state["size"])) <= {np.float32(2 * search.threat.eps / 2**k) for k in range(9)}
    assert (state["size"] < 2 * search.threat.eps).any()


def test_arts_leaves_about_as_many(classifier: CompiledClassifier, images: tuple[Images, Labels]) -> None:
    x, y = images
    settings = {"eps": 0.07, "eps_step": 0.14, "max_iter": STEPS, "nb_random_init": 1, "loss_type": "cross_entropy"}
    with global_seed(0):
        attack = AutoProjectedGradientDescent(classifier, norm=np.inf, batch_size=128, verbose=False, **settings)
        theirs = attack.generate(x, y=one_hot(y, 10))
    made = ApgdCe(max_iter=STEPS).run(classifier, x, y, 0.07, seed=0)
    left = [(classifier.labels(each) == y).sum() for each in (made.images, theirs)]
    assert abs(int(left[0]) - int(left[1])) <= 2
    assert judged(classifier, made, x, y).mean() > 0.3
