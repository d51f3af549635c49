"""Every attack keeps its promises, whoever wrote it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from gauntlet.attacks import ATTACKS, Attack, Crafted, Fgsm, GaussianNoise, Pgd, Spatial, UniformNoise, measured
from gauntlet.attacks.base import Targeted
from gauntlet.attacks.base import one_hot as hot
from gauntlet.data.datasets import Dataset
from gauntlet.errors import AttackError, SettingError
from gauntlet.models.access import suffices
from gauntlet.models.classifier import CompiledClassifier
from gauntlet.threat import TOLERANCE, Images, Labels, lengths
from tests.gauntlet.attacking import CASES, Seen, alone, judged, name_of, quick, usual, variants

ADVERSARIES = [case for case in CASES if case.adversary]
BOUNDED = [case for case in ADVERSARIES if case.norm in ("inf", "2")]
RANDOM = [case for case in CASES if getattr(case, "num_random_init", 0) > 0 or not case.adversary]
TARGETED = [case for case in CASES if isinstance(case, Targeted)]
BLIND = [(case, access) for case in CASES for access in ("scores", "labels") if case.access != "gradients"]

every_attack = pytest.mark.parametrize("case", CASES, ids=name_of)
every_adversary = pytest.mark.parametrize("case", ADVERSARIES, ids=name_of)
every_bounded_adversary = pytest.mark.parametrize("case", BOUNDED, ids=name_of)

N = 8


class Made:
    """Adversarial images of the first test images, made once for each attack and seed."""

    def __init__(self, classifier: CompiledClassifier, x: Images, y: Labels) -> None:
        self.classifier, self.x, self.y = classifier, x, y
        self._made: dict[tuple[Attack, int], Crafted] = {}

    def __call__(self, case: Attack, seed: int = 0) -> Crafted:
        if (case, seed) not in self._made:
            self._made[case, seed] = self.fresh(case, seed)
        return self._made[case, seed]

    def fresh(self, case: Attack, seed: int = 0, eps: float | None = None) -> Crafted:
        return case.run(self.classifier, self.x, self.y, eps or usual(case), seed)


@pytest.fixture(scope="module")
def made(classifier: CompiledClassifier, digits: Dataset) -> Made:
    return Made(classifier, digits.x_test[:N], digits.y_test[:N])


# --- images ---------------------------------------------------------------------------------------------------


@every_attack
def test_images_keep_shape_type_and_bounds(case: Attack, made: Made) -> None:
    images = made(case).images
    assert images.shape == made.x.shape
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


@every_attack
def test_calls_are_counted_for_each_image(case: Attack, made: Made) -> None:
    calls = made(case).calls
    assert calls.shape == (N,)
    assert np.issubdtype(calls.dtype, np.integer)
    assert (calls > 0).all() if case.adversary else not calls.any()


@every_bounded_adversary
def test_every_image_is_changed_within_the_budget(case: Attack, made: Made) -> None:
    sizes = lengths(made(case).images - made.x, case.norm)  # type: ignore[arg-type]
    assert sizes.max() <= usual(case) + TOLERANCE
    correct = made.classifier.labels(made.x) == made.y
    changed = (sizes > 0.1 * usual(case))[correct]
    # With little to do, a search for the smallest perturbation may find none for some images.
    assert changed.any() if case.minimal else changed.all()


@every_attack
def test_a_budget_of_nothing_changes_nothing(case: Attack, made: Made) -> None:
    nothing = case.run(made.classifier, made.x, made.y, 0.0, 0)
    np.testing.assert_array_equal(nothing.images, made.x)
    assert not nothing.calls.any()


@every_attack
def test_the_same_seed_gives_the_same_images_and_what_was_given_is_left_alone(case: Attack, made: Made) -> None:
    first, x, y = made(case), made.x.copy(), made.y.copy()
    np.random.seed(123)  # what happened before does not matter
    before = np.random.get_state()[1].copy()
    again = case.run(made.classifier, x, y, usual(case), 0)
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.calls, first.calls)
    np.testing.assert_array_equal(x, made.x)
    np.testing.assert_array_equal(y, made.y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("case", RANDOM, ids=name_of)
def test_another_seed_gives_other_images(case: Attack, made: Made) -> None:
    other = made.fresh(case, seed=1)
    assert case.name == "fab" or not np.array_equal(other.images, made(case).images)


def test_without_a_random_start_the_seed_does_not_matter(made: Made) -> None:
    case = Pgd(num_random_init=0, max_iter=2)
    np.testing.assert_array_equal(made(case, seed=1).images, made(case, seed=0).images)


@pytest.mark.parametrize("case", [case for case in CASES if alone(case)], ids=name_of)
def test_an_image_has_the_same_outcome_in_whatever_batch_it_stands(case: Attack, made: Made, digits: Dataset) -> None:
    """Up to rounding: kernels sum in another order by the size of a batch, and a search may take another path then."""
    # Fewer images, and, unless each is a batch of its own, more than fill up the same batch.
    for index in [np.array([7, 0, 4])] + [np.arange(37)[::-1]] * (case.access != "labels"):
        apart = case.run(made.classifier, digits.x_test[index], digits.y_test[index], usual(case), 0, index)
        theirs, ours = np.nonzero(index < N)[0], index[index < N]
        here, there = (made.classifier.labels(images) for images in (apart.images[theirs], made(case).images[ours]))
        assert (here != there).sum() <= 1, "more than a rounding may flip"
        alike = np.isclose(apart.images[theirs], made(case).images[ours], atol=0.02).all(axis=(1, 2, 3))
        assert alike.mean() >= 0.6


# --- what an author may get wrong -------------------------------------------------------------------------------


def _breaking(case: Attack, images: Images) -> Attack:
    """The same attack, but its maths returns `images`."""

    class Broken(type(case)):  # type: ignore[misc]
        def craft(self, *_: Any) -> Crafted:
            return Crafted(images, np.ones(len(images), np.int64))

    return Broken(**case.model_dump())


@every_attack
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_attack_that_returns_no_number_is_refused(case: Attack, value: float, made: Made) -> None:
    images = made.x.copy()
    images[3, 0, 0, 0] = value
    with pytest.raises(AttackError, match="1 of 8 adversarial images hold NaN or infinite"):
        made.fresh(_breaking(case, images))


@every_attack
def test_an_attack_that_returns_another_shape_is_refused(case: Attack, made: Made) -> None:
    with pytest.raises(AttackError, match="expected images of shape"):
        made.fresh(_breaking(case, made.x[:5]))


@every_bounded_adversary
def test_an_attack_that_overspends_is_held_to_its_budget(case: Attack, made: Made) -> None:
    images = made.fresh(_breaking(case, made.x + 2)).images
    sizes = lengths(images - made.x, case.norm)  # type: ignore[arg-type]
    assert images.max() <= 1
    assert 0.5 * usual(case) < sizes.max() <= usual(case) + TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.minimal], ids=name_of)
def test_a_search_for_the_smallest_is_held_to_the_bounds_alone(case: Attack, made: Made) -> None:
    images = _breaking(case, made.x + 2).smallest(made.classifier, made.x, made.y, 0.01, 0).images
    assert (images == 1).all()


# --- budgets ------------------------------------------------------------------------------------------------------


@every_bounded_adversary
@pytest.mark.parametrize("eps", [0.0, -0.1, float("nan"), float("inf"), 101.0])
def test_a_budget_that_cannot_be_meant_is_refused(case: Attack, eps: float) -> None:
    with pytest.raises(SettingError, match=f"eps of {case.name}: a budget of .* is not in .*8/255"):
        case.check_budget(eps)


@every_attack
def test_usual_budgets_can_be_meant(case: Attack) -> None:
    for eps in case.budgets((), 1) + case.budgets((), 3):
        case.check_budget(eps)


def test_the_largest_budget_is_the_pixel_range_in_linf_only() -> None:
    Fgsm(norm="inf").check_budget(1.0)
    Fgsm(norm="2").check_budget(2.0)
    with pytest.raises(SettingError, match="a budget of 2 is not in"):
        Fgsm(norm="inf").check_budget(2.0)


def test_budgets_asked_for_come_first_but_what_has_no_norm_has_its_own() -> None:
    assert Pgd().budgets((0.05,), 1) == (0.05,)
    assert GaussianNoise(std=(0.2,)).budgets((0.05,), 1) == (0.2,)
    assert Spatial(strength=(0.5, 1.0)).budgets((0.05,), 1) == (0.5, 1.0)


def test_measured_refuses_what_is_not_finite() -> None:
    clean = np.zeros((2, 2, 2, 1), np.float32)
    with pytest.raises(AttackError, match="NaN"):
        measured(np.full_like(clean, np.nan), clean)
    assert measured(clean + 0.5, clean)["l2"].tolist() == [1.0, 1.0]


# --- access -------------------------------------------------------------------------------------------------------


@every_attack
@pytest.mark.parametrize("access", ["scores", "labels"])
def test_an_attack_that_must_see_more_is_refused(case: Attack, access: Any, made: Made) -> None:
    shown = Seen(made.classifier, access)
    if suffices(access, case.access):
        case.check_access(shown)
        return
    message = f"{case.name} needs {case.access}, the model shows only {access} .*square.*hopskipjump"
    with pytest.raises(SettingError, match=message):
        case.run(shown, made.x, made.y, usual(case), 0)
    assert not shown.asked


@pytest.mark.parametrize(
    ("case", "access"), [pair for pair in BLIND if suffices(pair[1], pair[0].access)], ids=lambda v: name_of(v)
)
def test_an_attack_looks_at_no_more_than_it_says(case: Attack, access: Any, made: Made) -> None:
    shown = Seen(made.classifier, access)
    images = case.run(shown, made.x[:4], made.y[:4], usual(case), 0)
    if case.adversary:
        assert images.calls.sum() <= sum(map(len, shown.asked))


def test_queries_are_all_counted(made: Made) -> None:
    for name in ("square", "hopskipjump", "spatial"):
        case, shown = quick(ATTACKS[name]()), Seen(made.classifier, "scores")
        calls = case.run(shown, made.x[:4], made.y[:4], usual(case), 0).calls
        assert calls.sum() == sum(map(len, shown.asked)), name


# --- targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TARGETED, ids=name_of)
def test_a_class_that_does_not_exist_is_no_target(case: Attack, made: Made) -> None:
    with pytest.raises(SettingError, match=rf"^target of {case.name}: there is no class 10 among 10"):
        made.fresh(case.model_copy(update={"target": 10}))


STRENGTH = {"square": {"max_iter": 200}, "cw-l2": {"max_iter": 40, "initial_const": 10.0}, "ddn": {"max_iter": 30}}
"""What it takes to reach a target; ten steps for the others."""


@pytest.mark.parametrize("case", TARGETED, ids=name_of)
def test_a_target_is_hit_more_often_by_who_aims_at_it(case: Attack, made: Made) -> None:
    eps, target = {"inf": 0.25, "2": 3.0}[case.norm], 3
    other = made.y != target
    strong = case if case.name == "fgsm" else case.model_copy(update={"max_iter": 10} | STRENGTH.get(case.name, {}))
    plain, aimed = (
        made.fresh(strong.model_copy(update={"target": goal}), eps=eps).images[other] for goal in (None, target)
    )
    hits = [(made.classifier.labels(images) == target).mean() for images in (plain, aimed)]
    assert hits[1] > hits[0]
    assert hits[1] >= 0.5 or case.name == "fgsm" or case.access != "gradients"


# --- libraries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_fgsm_is_the_same_from_either_library(norm: Any, made: Made) -> None:
    ours, theirs = (made(Fgsm(norm=norm, library=library)).images for library in ("art", "foolbox"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", "fgsm", "ddn", "fmn"])
def test_a_missing_foolbox_is_one_line(name: str, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    case = next(case for case in variants(ATTACKS[name]) if getattr(case, "library", "foolbox") == "foolbox")
    with pytest.raises(SettingError, match=r"^library: Foolbox is not installed \(pip install -r requirements.txt"):
        made.fresh(case)


# --- noise --------------------------------------------------------------------------------------------------------


def test_noise_has_the_standard_deviation_that_was_asked_for(made: Made) -> None:
    grey = np.full_like(made.x, 0.5)
    noise = GaussianNoise().run(made.classifier, grey, made.y, 0.1, seed=0).images - grey
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.005)


def test_uniform_noise_fills_the_box_or_lies_on_the_sphere(made: Made) -> None:
    grey = np.full_like(made.x, 0.5)
    box, sphere = (
        UniformNoise(norm=norm).run(made.classifier, grey, made.y, eps, seed=0).images - grey
        for norm, eps in (("inf", 0.2), ("2", 2.0))
    )
    assert box.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.02)
    assert np.abs(box).max() <= 0.2 + TOLERANCE
    np.testing.assert_allclose(lengths(sphere, "2"), 2.0, rtol=1e-4)


def test_noise_fools_no_more_than_it_may(made: Made) -> None:
    assert judged(made.classifier, made(UniformNoise()), made.x, made.y).mean() <= 0.2


def test_true_labels_are_one_hot() -> None:
    np.testing.assert_array_equal(hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
