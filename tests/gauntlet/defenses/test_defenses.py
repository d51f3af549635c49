"""Every defense defends against what it was trained on, and says what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from gauntlet.attacks import Fgsm
from gauntlet.data.datasets import Dataset
from gauntlet.defenses.interval import IbpTraining, worst_logits
from gauntlet.defenses.mending import FinePruning, Unlearning, WithoutSuspects
from gauntlet.defenses.relearning import AntiBackdoorLearning, AttentionDistillation
from gauntlet.defenses.training import (
    DEFENSES,
    AdversarialTraining,
    Defense,
    OnTheFly,
    VaeReconstruction,
    defense,
    fgsm_step,
    parse,
)
from gauntlet.errors import SettingError
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.training.fit import Trained, Training, train
from tests.frozen import halved

EPS = 0.2
MENDING: tuple[type[Defense], ...] = (
    FinePruning,
    Unlearning,
    WithoutSuspects,
    AntiBackdoorLearning,
    AttentionDistillation,
)
"""They take backdoors out, see test_mending.py."""
TRAINING = Training(epochs=4, batch_size=16, seed=1)

# A newcomer to DEFENSES is tested by everything below that names no defense.
every_defense = pytest.mark.parametrize("kind", DEFENSES.values(), ids=DEFENSES)


def usual(kind: type[Defense]) -> Defense:
    """The defense as it comes, at the budget and with the batches of these tests if it has such."""
    ours = {"eps": EPS, "batch_size": TRAINING.batch_size, "steps": 20}
    return kind(**{key: value for key, value in ours.items() if key in kind.model_fields})


@pytest.fixture(scope="session")
def digits(digits: Dataset) -> Dataset:
    """The digits at 14 × 14 pixels, on which a network trains in a quarter of the time."""
    return replace(digits, x_train=halved(digits.x_train), x_test=halved(digits.x_test))


@pytest.fixture(scope="session")
def small(digits: Dataset) -> Dataset:
    """600 training and 120 test images of them."""
    train, test = slice(600), slice(120)
    images = {"x_train": digits.x_train[train], "x_test": digits.x_test[test]}
    return replace(digits, **images, y_train=digits.y_train[train], y_test=digits.y_test[test])


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> CompiledClassifier:
    """A baseline of the architecture that the defenses train: adversarial training may start from its weights."""
    return CompiledClassifier(train(digits, Training(epochs=4, batch_size=32, seed=0)).model)


@pytest.fixture(scope="module")
def told() -> dict[type[Defense], list[float]]:
    """The progress that each defense told."""
    return {}


@pytest.fixture(scope="module")
def defended(
    small: Dataset, classifier: CompiledClassifier, told: dict[type[Defense], list[float]]
) -> Callable[[type[Defense]], Trained]:
    """What a defense of the shared model gives, made once."""
    made: dict[type[Defense], Trained] = {}

    def get(kind: type[Defense]) -> Trained:
        if kind not in made:
            shares = told[kind] = []
            made[kind] = usual(kind).apply(small, TRAINING, classifier, lambda _, share: shares.append(share))
        return made[kind]

    return get


@pytest.fixture(scope="module")
def undefended(small: Dataset) -> CompiledClassifier:
    """The same training without a defense."""
    return CompiledClassifier(train(small, TRAINING).model)


@pytest.fixture(scope="module")
def withstood(small: Dataset, classifier: CompiledClassifier) -> Callable[..., float]:
    """Robust accuracy under FGSM, white-box or with images made against the shared model."""

    def measure(target: CompiledClassifier, eps: float, *, transfer: bool) -> float:
        images = Fgsm().run(classifier if transfer else target, small.x_test, small.y_test, eps, 0).images
        correct = (target.labels(small.x_test) == small.y_test) & (target.labels(images) == small.y_test)
        return float(correct.mean())

    return measure


LONG = {"ibp-training", "pgd-training"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (name in LONG))
        for name, kind in DEFENSES.items()
        if kind not in MENDING
    ],
)
def test_a_defense_withstands_images_that_fool_the_baseline(
    kind: type[Defense],
    defended: Callable[[type[Defense]], Trained],
    undefended: CompiledClassifier,
    classifier: CompiledClassifier,
    withstood: Callable[..., float],
) -> None:
    target = CompiledClassifier(defended(kind).model)
    ours, plain, baseline = (withstood(c, EPS, transfer=True) for c in (target, undefended, classifier))
    assert ours > baseline + 0.15
    assert ours > plain + 0.05  # which is more than another training alone gives


@pytest.mark.slow
@every_defense
def test_a_defended_model_still_knows_clean_images(
    kind: type[Defense], defended: Callable[[type[Defense]], Trained], small: Dataset
) -> None:
    predicted = defended(kind).model.predict(small.x_test, verbose=0).argmax(axis=1)
    assert (predicted == small.y_test).mean() > 0.7


@every_defense
def test_a_defense_says_what_it_cost_and_what_happened(
    kind: type[Defense], defended: Callable[[type[Defense]], Trained], told: dict[type[Defense], list[float]]
) -> None:
    trained = defended(kind)
    assert trained.seconds > 0
    longer = {VaeReconstruction: 10, IbpTraining: 5}  # passes for each of the classifier's
    tuned = getattr(kind(), "epochs", None) if kind in (FinePruning, Unlearning, AttentionDistillation) else None
    assert len(trained.history["loss"]) == (tuned or (TRAINING.epochs or 0) * longer.get(kind, 1))
    assert told[kind] == sorted(told[kind])
    assert told[kind][-1] == pytest.approx(1)


def test_attacks_against_current_weights_help_white_box(
    defended: Callable[[type[Defense]], Trained],
    undefended: CompiledClassifier,
    withstood: Callable[..., float],
) -> None:
    target = CompiledClassifier(defended(OnTheFly).model)
    assert withstood(target, 0.1, transfer=False) > withstood(undefended, 0.1, transfer=False) + 0.05


def test_a_static_mix_must_be_attacked_white_box(
    defended: Callable[[type[Defense]], Trained], withstood: Callable[..., float]
) -> None:
    target = CompiledClassifier(defended(AdversarialTraining).model)
    assert withstood(target, EPS, transfer=True) > withstood(target, EPS, transfer=False) + 0.3


def test_interval_training_makes_images_provable(
    small: Dataset, defended: Callable[[type[Defense]], Trained], undefended: CompiledClassifier
) -> None:
    from gauntlet.certify import Interval

    target = CompiledClassifier(defended(IbpTraining).model)
    shares = [Interval().prove(model, small.x_test, small.y_test, 0.1, 0).mean() for model in (target, undefended)]
    assert shares[0] > shares[1] + 0.3


def test_worst_logits_are_those_that_intervals_allow(small: Dataset, defended: Callable[..., Trained]) -> None:
    """Minus the largest of the others is the margin that is certified, but for what float32 rounding may take of it."""
    from gauntlet.certify.bounds import Region, intervals
    from gauntlet.certify.network import Network
    from gauntlet.certify.prover import Prover

    model, x, y, eps = defended(IbpTraining).model, small.x_test[:20], small.y_test[:20], 0.05
    worst = worst_logits(model, np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1), y).numpy()
    others = np.where(np.arange(10) == y[:, None], -np.inf, worst).max(axis=1)
    network = Network(model)
    margins = Prover(network, "inf", (0.0, 1.0)).margins(x, y, eps, lines=False)
    rounding = 2 * intervals(network, Region.around(x, eps, "inf"))[-1].error.numpy().max(axis=1)
    np.testing.assert_allclose(worst[np.arange(20), y], 0, atol=1e-4)
    assert (margins <= -others + 1e-3).all()
    assert (margins >= -others - rounding - 2e-2).all()


# --- the mix ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "clean", "attacked"),
    [(1, 10, 10), (0.5, 10, 5), (2, 5, 10), (0.01, 10, 1), (100, 1, 10), (3 / 7, 70, 30), (0.4286, 7000, 3000)],
)
def test_a_ratio_is_of_attacked_to_clean_images(ratio: float, clean: int, attacked: int) -> None:
    n = max(clean, attacked)
    chosen = AdversarialTraining(ratio=ratio)._choose(n, seed=0)
    assert [len(part) for part in chosen] == [clean, attacked]
    for part in chosen:
        assert part.tolist() == sorted(set(part.tolist()))
        assert set(part.tolist()) <= set(range(n))


def test_a_seed_chooses_the_mix() -> None:
    first, again, other = (AdversarialTraining(ratio=0.5)._choose(100, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_budget_is_the_data_sets_largest_usual_one(small: Dataset) -> None:
    assert OnTheFly().budget(small) == 0.3
    assert OnTheFly(eps=0.05).budget(small) == 0.05


# --- FGSM inside a training step ----------------------------------------------------------------------------


def test_the_step_makes_the_images_that_fgsm_makes(classifier: CompiledClassifier, small: Dataset) -> None:
    x, y = small.x_test[:16], small.y_test[:16]
    images = fgsm_step(EPS, 1.0, (0.0, 1.0))(classifier.model, tf.constant(x), tf.constant(y)).numpy()
    np.testing.assert_allclose(images, Fgsm().run(classifier, x, y, EPS, seed=0).images, atol=1e-6)


@pytest.mark.parametrize(("share", "kept"), [(0.5, 8), (0.25, 12), (1.0, 0)])
def test_the_step_attacks_its_share_of_the_batch(
    share: float, kept: int, classifier: CompiledClassifier, small: Dataset
) -> None:
    x, y = small.x_test[:16], small.y_test[:16]
    images = fgsm_step(EPS, share, (0.0, 1.0))(classifier.model, tf.constant(x), tf.constant(y)).numpy()
    changed = (images != x).any(axis=(1, 2, 3))
    assert changed.tolist() == [False] * kept + [True] * (16 - kept)


# --- declarations -------------------------------------------------------------------------------------------


@every_defense
def test_text_and_mapping_give_the_defense_back(kind: type[Defense]) -> None:
    case = usual(kind)
    settings = case.model_dump(exclude={"name"}, exclude_none=True)
    assert defense(f"{case.name}:{','.join(f'{key}={value}' for key, value in settings.items())}") == case
    assert defense(case.model_dump(mode="json")) == case
    assert parse(case) is case
    assert parse(case.name) == kind()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (AdversarialTraining, {"ratio": 0}),
        (AdversarialTraining, {"eps": 2}),
        (OnTheFly, {"share": 1.1}),
        (OnTheFly, {"eps": 0}),
        (OnTheFly, {"ratio": 1}),
        (VaeReconstruction, {"latent": 0}),
        (VaeReconstruction, {"sampling": "median"}),
        (VaeReconstruction, {"samples": 0}),
    ],
)
def test_a_setting_out_of_range_is_refused(kind: type[Defense], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        kind(**wrong)


def test_an_unknown_defense_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"unknown defense 'prayer' \(one of adversarial-training, on-the-fly"):
        defense("prayer")
