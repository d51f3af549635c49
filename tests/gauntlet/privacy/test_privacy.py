"""Thefts: a model that memorised is told from one that did not, and copies answer like their victims."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from art.attacks.inference.membership_inference import MembershipInferenceBlackBoxRuleBased
from scipy.special import softmax

from gauntlet import privacy
from gauntlet.data.datasets import Dataset
from gauntlet.errors import SettingError
from gauntlet.measurement import wilson
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.privacy import THEFTS, ExtractionCopycat, ExtractionKnockoff, MembershipGap, MembershipLoss
from gauntlet.privacy.membership import advantage, best_threshold, sample
from gauntlet.report.curves import copies, membership_roc
from gauntlet.roc import Rate


class Table:
    """A model whose logits are looked up by the first pixel, which counts the images."""

    access: Any = "scores"
    nb_classes = 2
    input_shape = (2, 2, 1)
    clip_values = (0.0, 1.0)

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits
        self.asked = 0

    def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
        self.asked += len(x)
        return self.logits[np.rint(x[:, 0, 0, 0] * (len(self.logits) - 1)).astype(int)]

    def labels(self, x: np.ndarray) -> np.ndarray:
        return self.predict(x).argmax(axis=1).astype(np.int64)


def numbered(n: int) -> Dataset:
    """`n` training and `n` test images that carry their number; all of class 0."""
    x = np.zeros((2 * n, 2, 2, 1), np.float32)
    x[:, 0, 0, 0] = np.arange(2 * n) / (2 * n - 1)
    y = np.zeros(2 * n, np.int64)
    return Dataset("numbered", x[:n], y[:n], x[n:], y[n:], ("a", "b"), "", "", False)


def confident(members: np.ndarray, others: np.ndarray) -> Table:
    """A model with these margins of class 0 on training and on test images."""
    margins = np.concatenate([members, others])
    return Table(np.stack([margins, np.zeros_like(margins)], axis=1).astype(np.float32))


@pytest.fixture(scope="module")
def overfit(digits: Dataset) -> tuple[Dataset, CompiledClassifier]:
    """A small dense network that learned 200 random labels by heart."""
    import keras

    keras.utils.set_random_seed(0)
    y = np.random.default_rng(0).integers(0, 10, len(digits.y_train))
    y_test = np.random.default_rng(1).integers(0, 10, len(digits.y_test))
    random = replace(digits, x_train=digits.x_train[:200], y_train=y[:200], y_test=y_test)
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(128, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(random.x_train, random.y_train, epochs=80, batch_size=20, verbose=0)
    return random, CompiledClassifier(model)


# --- membership ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [MembershipGap(), MembershipLoss()])
def test_who_learned_by_heart_gives_its_training_set_away(
    attack: privacy.Theft, overfit: tuple[Dataset, CompiledClassifier]
) -> None:
    result = attack.run(overfit[1], overfit[0], None, seed=0)
    assert result.headline.low > 0.6
    assert result.rates["balanced_accuracy"].value > 0.8


@pytest.mark.parametrize("attack", [MembershipGap(), MembershipLoss()])
def test_images_that_no_model_was_trained_on_are_no_members(
    attack: privacy.Theft, digits: Dataset, overfit: tuple[Dataset, CompiledClassifier]
) -> None:
    y = np.random.default_rng(2).integers(0, 10, 400)
    fresh = replace(digits, x_train=digits.x_train[300:700], y_train=y)
    result = attack.run(overfit[1], replace(fresh, y_test=overfit[0].y_test), None, seed=0)
    assert result.headline.low < 0 < result.headline.high


def test_the_gap_is_arts_rule_based_attack(digits: Dataset, classifier: CompiledClassifier) -> None:
    result = MembershipGap().run(classifier, digits, 150, seed=3)
    (x, y), (x_test, y_test) = sample(digits, 150, 3)
    art = MembershipInferenceBlackBoxRuleBased(classifier)
    inferred = art.infer(x, y).mean(), art.infer(x_test, y_test).mean()
    assert result.rates["tpr"].value == pytest.approx(inferred[0])
    assert result.headline.value == pytest.approx(inferred[0] - inferred[1])
    assert result.counts == {"members": 150, "non_members": 150}


def test_a_threshold_is_not_measured_where_it_was_chosen() -> None:
    """Twenty draws without any signal: chosen and measured on the same images, each would be above 0."""
    result, flattering = [], []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(2, 80))
        result.append(MembershipLoss().run(confident(*noise), numbered(80), None, seed=0).headline.value)
        threshold = best_threshold(noise[1], noise[0])
        flattering.append((noise[0] > threshold).mean() - (noise[1] > threshold).mean())
    assert min(flattering) > 0
    assert abs(np.mean(result)) < 0.06
    assert min(result) < 0


def test_the_loss_tells_apart_what_the_label_does_not() -> None:
    margins = np.linspace(3, 5, 1_000), np.linspace(1, 2, 1_000)
    victim, data = confident(*margins), numbered(1_000)
    assert MembershipGap().run(victim, data, None, 0).headline.value == 0
    result = MembershipLoss().run(victim, data, None, 0)
    assert result.headline.value == pytest.approx(1, abs=0.02)
    assert result.rates["auc"].value == 1
    assert result.rates["tpr_at_fpr_1"].value == 1
    assert result.counts == {"members": 500, "non_members": 500, "calibration": 1_000}


def test_a_rate_that_takes_less_than_one_image_is_left_out() -> None:
    result = MembershipLoss().run(confident(*np.random.default_rng(0).normal(size=(2, 100))), numbered(100), None, 0)
    assert "tpr_at_fpr_1" not in result.rates
    result = MembershipLoss().run(
        confident(*np.random.default_rng(0).normal(size=(2, 2_000))), numbered(2_000), None, 0
    )
    assert {"tpr_at_fpr_1", "tpr_at_fpr_01"} <= set(result.rates)


@pytest.mark.parametrize(("hits", "others"), [(50, 50), (200, 0), (0, 200), (200, 200), (150, 120)])
def test_the_advantage_has_newcombes_interval(hits: int, others: int) -> None:
    """Method 10 of Newcombe 1998, written out from the Wilson intervals."""
    result = advantage(np.arange(200) < hits, np.arange(200) < others)
    p, q = hits / 200, others / 200
    (low, high), (low_q, high_q) = wilson(hits, 200), wilson(others, 200)
    assert result.value == p - q
    assert result.low == pytest.approx(p - q - math.hypot(p - low, high_q - q))
    assert result.high == pytest.approx(p - q + math.hypot(high - p, q - low_q))


@pytest.mark.parametrize("n", [1, 361])
def test_more_images_than_there_are_is_refused(n: int, digits: Dataset, classifier: CompiledClassifier) -> None:
    with pytest.raises(SettingError, match=str(n)):
        MembershipGap().run(classifier, digits, n, 0)


# --- extraction ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("attack", [ExtractionKnockoff(epochs=8), ExtractionCopycat(epochs=8)])
def test_a_copy_answers_like_its_victim(attack: privacy.Theft, digits: Dataset, classifier: CompiledClassifier) -> None:
    result = attack.run(classifier, digits, None, seed=0)
    assert result.counts == {"queries": 180, "labelled": 180, "held_out": 180}
    assert result.headline.low > result.rates["fidelity_majority"].high
    assert result.headline.value > 0.7
    assert result.rates["victim_accuracy"].value > 0.9


def test_noise_tells_less_than_images(digits: Dataset, classifier: CompiledClassifier) -> None:
    noise = ExtractionCopycat(pool="noise", epochs=1, queries=64).run(classifier, digits, 100, seed=0)
    assert noise.counts == {"queries": 64, "labelled": 64, "held_out": 100}
    assert noise.headline.value < 0.6


def test_answers_are_what_the_attacker_is_said_to_know(digits: Dataset, classifier: CompiledClassifier) -> None:
    x = digits.x_test[:20]
    assert (ExtractionCopycat().answers(classifier, x) == classifier.labels(x)).all()
    result = ExtractionKnockoff().answers(classifier, x)
    assert result == pytest.approx(softmax(classifier.predict(x), axis=1), abs=1e-6)


@pytest.mark.parametrize(("settings", "n", "says"), [("queries=181", None, "181"), ("queries=10", 181, "181")])
def test_more_than_half_of_the_test_set_is_refused(
    settings: str, n: int | None, says: str, digits: Dataset, classifier: CompiledClassifier
) -> None:
    with pytest.raises(SettingError, match=says):
        privacy.theft(f"extraction-copycat:{settings}").run(classifier, digits, n, 0)


# --- declarations and pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THEFTS)
def test_every_theft_is_declared_alike(name: str) -> None:
    one = privacy.theft(name)
    assert one == THEFTS[name]() == privacy.theft(one.model_dump()) == privacy.theft(one.title)
    assert all(field.description for key, field in THEFTS[name].model_fields.items() if key != "name")
    assert one.knows
    assert one.needs in ("labels", "scores")


def test_a_title_is_what_one_types() -> None:
    text = "extraction-knockoff:pool=noise,queries=50"
    assert privacy.theft(text).title == text


def test_the_usual_thefts_need_no_more_than_is_shown() -> None:
    assert [one.name for one in privacy.usual("labels")] == ["membership-gap", "extraction-copycat"]
    names = ["membership-gap", "membership-loss", "extraction-knockoff"]
    assert [one.name for one in privacy.usual("scores")] == [one.name for one in privacy.usual("gradients")] == names


def test_the_curve_is_logarithmic_with_chance_in_it() -> None:
    victim, data = confident(*np.random.default_rng(0).normal(size=(2, 200))), numbered(200)
    result = {one.name: one.run(victim, data, None, 0) for one in (MembershipGap(), MembershipLoss())}
    (axes,) = membership_roc(result, "t").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    chance, gap, loss = axes.lines
    assert (chance.get_xdata() == chance.get_ydata()).all()
    assert len(gap.get_xdata()) == 1 < len(loss.get_xdata())
    assert min(loss.get_ydata()) > 0


def test_copies_are_drawn_beside_their_floors() -> None:
    half = privacy.TheftResult(
        ExtractionCopycat(),
        {name: Rate(0.5, 0.4, 0.6) for name in ("fidelity", "fidelity_floor", "fidelity_majority")},
        {"queries": 1_000},
    )
    (axes,) = copies({"extraction-copycat": half}, "t").axes
    assert "1,000 queries" in axes.get_yticklabels()[0].get_text()
    assert len(axes.containers) == 3
