"""Every attack keeps its promises, and does what the literature says it does."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from art.estimators.classification import TensorFlowV2Classifier
from keras.losses import CategoricalCrossentropy
from pydantic import ValidationError

from gauntlet.attacks import ATTACKS, Attack, Fgsm, GaussianNoise, Pgd, attack, measured, one_hot, parse
from gauntlet.classifier import CompiledClassifier
from gauntlet.datasets import Dataset
from gauntlet.errors import AttackError, SettingError
from gauntlet.evaluation import Attacked, attack_all
from gauntlet.threat import TOLERANCE, Images, Labels, lengths


def _variants(kind: type[Attack]) -> list[Attack]:
    """An attack as it comes, in L2 where it has one, and both of them from every library that has it."""
    libraries = [{"library": name} for name in ("art", "foolbox")] if "library" in kind.model_fields else [{}]
    try:
        return [kind(norm=norm, **library) for library in libraries for norm in ("inf", "2")]
    except ValidationError:
        return [kind()]


# A newcomer to ATTACKS is in this list, and thereby in every test below that names no attack.
CASES = [case for kind in ATTACKS.values() for case in _variants(kind)]
RANDOM = [case for case in CASES if getattr(case, "num_random_init", 0) > 0 or not case.adversary]
ADVERSARIES = [case for case in CASES if case.adversary]


def _id(case: Attack) -> str:
    return "-".join([case.name, case.norm, *([case.library] if hasattr(case, "library") else [])])


every_attack = pytest.mark.parametrize("case", CASES, ids=_id)
every_random_attack = pytest.mark.parametrize("case", RANDOM, ids=_id)
every_adversary = pytest.mark.parametrize("case", ADVERSARIES, ids=_id)


def usual(case: Attack) -> float:
    """The smallest budget that the attack is usually run at on grey images."""
    return case.budgets((), 1)[0]


class Crafted:
    """Adversarial images of the first test images, made once for each attack and seed."""

    def __init__(self, classifier: CompiledClassifier, x: Images, y: Labels) -> None:
        self.classifier, self.x, self.y = classifier, x, y
        self._made: dict[tuple[Attack, int], Images] = {}

    def __call__(self, case: Attack, seed: int = 0) -> Images:
        if (case, seed) not in self._made:
            self._made[case, seed] = self.fresh(case, seed)
        return self._made[case, seed]

    def fresh(self, case: Attack, seed: int = 0) -> Images:
        return case.run(self.classifier, self.x, self.y, usual(case), seed)


@pytest.fixture(scope="module")
def crafted(classifier: CompiledClassifier, digits: Dataset) -> Crafted:
    return Crafted(classifier, digits.x_test[:16], digits.y_test[:16])


# --- promises -----------------------------------------------------------------------------------------------


@every_attack
def test_images_keep_shape_type_and_bounds(case: Attack, crafted: Crafted) -> None:
    images = crafted(case)
    assert images.shape == crafted.x.shape
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


@every_adversary
def test_every_image_is_changed_within_the_budget(case: Attack, crafted: Crafted) -> None:
    sizes = lengths(crafted(case) - crafted.x, case.norm)  # type: ignore[attr-defined]
    assert sizes.max() <= usual(case) + TOLERANCE
    assert sizes.min() > 0.1 * usual(case)


@every_attack
def test_the_same_seed_gives_the_same_images(case: Attack, crafted: Crafted) -> None:
    np.random.seed(123)  # what happened before does not matter
    np.testing.assert_array_equal(crafted.fresh(case), crafted(case))


@every_random_attack
def test_another_seed_gives_other_images(case: Attack, crafted: Crafted) -> None:
    assert not np.array_equal(crafted(case, seed=1), crafted(case, seed=0))


def test_without_a_random_start_the_seed_does_not_matter(crafted: Crafted) -> None:
    case = Pgd(num_random_init=0, max_iter=2)
    np.testing.assert_array_equal(crafted(case, seed=1), crafted(case, seed=0))


@every_attack
def test_what_was_given_is_left_alone(case: Attack, crafted: Crafted) -> None:
    x, y = crafted.x.copy(), crafted.y.copy()
    before = np.random.get_state()[1].copy()
    case.run(crafted.classifier, x, y, usual(case), 0)
    np.testing.assert_array_equal(x, crafted.x)
    np.testing.assert_array_equal(y, crafted.y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def _breaking(case: Attack, images: Images) -> Attack:
    """The same attack, but its maths returns `images`."""

    class Broken(type(case)):  # type: ignore[misc]
        def craft(self, *_: Any) -> Images:
            return images

    return Broken(**case.model_dump())


@every_attack
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_attack_that_returns_no_number_is_refused(case: Attack, value: float, crafted: Crafted) -> None:
    images = crafted.x.copy()
    images[3, 0, 0, 0] = value
    with pytest.raises(AttackError, match="1 of 16 adversarial images hold NaN or infinite"):
        crafted.fresh(_breaking(case, images))


@every_attack
def test_an_attack_that_returns_another_shape_is_refused(case: Attack, crafted: Crafted) -> None:
    with pytest.raises(AttackError, match="expected images of shape"):
        crafted.fresh(_breaking(case, crafted.x[:5]))


@every_adversary
def test_an_attack_that_overspends_is_held_to_its_budget(case: Attack, crafted: Crafted) -> None:
    images = crafted.fresh(_breaking(case, crafted.x + 2))
    sizes = lengths(images - crafted.x, case.norm)  # type: ignore[attr-defined]
    assert images.max() <= 1
    assert 0.5 * usual(case) < sizes.max() <= usual(case) + TOLERANCE


@every_adversary
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


def test_budgets_asked_for_come_first_and_noise_has_its_own() -> None:
    assert Pgd().budgets((0.05,), 1) == (0.05,)
    assert GaussianNoise(std=(0.2,)).budgets((0.05,), 1) == (0.2,)


def test_measured_refuses_what_is_not_finite() -> None:
    clean = np.zeros((2, 2, 2, 1), np.float32)
    with pytest.raises(AttackError, match="NaN"):
        measured(np.full_like(clean, np.nan), clean)
    assert measured(clean + 0.5, clean)["l2"].tolist() == [1.0, 1.0]


# --- declarations -------------------------------------------------------------------------------------------


def _text(case: Attack) -> str:
    """What one would type for it: every setting that has a value."""
    settings = {key: value for key, value in case.model_dump(exclude={"name"}).items() if value is not None}
    pairs = [
        f"{key}=[{','.join(map(str, v))}]" if isinstance(v, tuple) else f"{key}={v}" for key, v in settings.items()
    ]
    return f"{case.name}:{','.join(pairs)}"


@every_attack
def test_text_and_mapping_give_the_attack_back(case: Attack) -> None:
    assert parse(_text(case)) == case
    assert attack(_text(case)) == case
    assert attack(case.model_dump(mode="json")) == case


@pytest.mark.parametrize("name", ATTACKS)
def test_a_bare_name_means_the_defaults(name: str) -> None:
    assert parse(name) == parse(f"{name}:") == ATTACKS[name]()


def test_settings_in_text_are_used() -> None:
    assert parse("pgd:max_iter=7,eps_step=0.01,norm=2") == Pgd(max_iter=7, eps_step=0.01, norm="2")
    assert parse("gaussian-noise:std=[0.1,0.25]") == GaussianNoise(std=(0.1, 0.25))


def test_what_is_no_text_passes_unchanged() -> None:
    case = Pgd(max_iter=3)
    assert parse(case) is case
    assert parse({"name": "pgd"}) == {"name": "pgd"}


WRONG = {
    "deepfool-9000": "unknown attack 'deepfool-9000' (one of fgsm, pgd",
    "": "unknown attack ''",
    "pgd:steps=4": "'steps=4' is not a setting of pgd (key=value with norm, eps_step, max_iter, ",
    "pgd:max_iter": "'max_iter' is not a setting of pgd",
    "pgd:max_iter=0": "pgd:max_iter: Input should be greater than or equal to 1, got '0'",
    "pgd:max_iter=ten": "pgd:max_iter: Input should be a valid integer",
    "pgd:eps_step=-1": "pgd:eps_step: Input should be greater than 0",
    "pgd:eps_step=nan": "pgd:eps_step: Input should be",
    "fgsm:norm=7": "fgsm:norm: Input should be 'inf' or '2', got '7'",
    "fgsm:name=pgd": "fgsm:name: Input should be 'fgsm'",
    "gaussian-noise:std=[]": "gaussian-noise:std: Input should be a valid number",
    "gaussian-noise:std=[0.1,99]": "gaussian-noise:std: Input should be less than or equal to 10",
    "gaussian-noise:std=[0.1,0.2": "gaussian-noise:std: Input should be a valid tuple",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_wrong_declaration_is_one_line_that_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        attack(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- science ------------------------------------------------------------------------------------------------

N = 48


@pytest.fixture(scope="module")
def outcome(classifier: CompiledClassifier, digits: Dataset) -> Any:
    """What an attack did to the first test images, made once for each attack and budget."""
    made: dict[tuple[Attack, float], Attacked] = {}

    def get(case: Attack, eps: float) -> Attacked:
        if (case, eps) not in made:
            made[case, eps] = attack_all(classifier, case, digits.x_test, digits.y_test, np.arange(N), eps, seed=0)
        return made[case, eps]

    return get


def succeeded(result: Attacked) -> float:
    return float(result.fooled.mean())


@pytest.mark.parametrize(
    ("case", "budgets"),
    [
        (Fgsm(), (0.02, 0.07, 0.2)),
        (Pgd(max_iter=10), (0.02, 0.07, 0.2)),
        (Fgsm(norm="2"), (0.2, 1.0, 3.0)),
        (Pgd(norm="2", max_iter=10), (0.2, 1.0, 3.0)),
    ],
    ids=lambda value: _id(value) if isinstance(value, Attack) else "",
)
def test_a_larger_budget_succeeds_more_often(case: Attack, budgets: tuple[float, ...], outcome: Any) -> None:
    rates = [succeeded(outcome(case, eps)) for eps in budgets]
    assert rates == sorted(rates)
    assert rates[-1] > rates[0] + 0.3


def test_many_steps_beat_one_step_and_one_step_beats_noise(outcome: Any) -> None:
    pgd, fgsm, noise = (succeeded(outcome(case, 0.07)) for case in (Pgd(max_iter=10), Fgsm(), GaussianNoise()))
    assert pgd >= fgsm > noise
    assert fgsm - noise > 0.1


def test_many_steps_beat_one_step_in_l2(outcome: Any) -> None:
    assert succeeded(outcome(Pgd(norm="2", max_iter=10), 1.0)) >= succeeded(outcome(Fgsm(norm="2"), 1.0)) > 0


def test_half_the_pixel_range_leaves_no_better_than_chance(outcome: Any) -> None:
    assert min(outcome(case, 0.5).robust.mean() for case in (Fgsm(), Pgd(max_iter=10))) <= 0.1


def test_noise_has_the_standard_deviation_that_was_asked_for(crafted: Crafted) -> None:
    grey = np.full_like(crafted.x, 0.5)
    noise = GaussianNoise().run(crafted.classifier, grey, crafted.y, 0.1, seed=0) - grey
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.005)


def test_the_default_step_reaches_the_border_from_anywhere() -> None:
    assert Pgd(max_iter=40).step(0.4) == pytest.approx(0.025)
    assert Pgd(max_iter=1).step(0.4) == 0.4
    assert Pgd(eps_step=0.01).step(0.4) == 0.01


# --- cross-checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_fgsm_is_the_same_from_either_library(norm: str, crafted: Crafted) -> None:
    ours, theirs = (crafted(Fgsm(norm=norm, library=library)) for library in ("art", "foolbox"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_pgd_without_a_random_start_is_the_same_from_either_library(crafted: Crafted) -> None:
    ours, theirs = (crafted(Pgd(max_iter=5, num_random_init=0, library=name)) for name in ("art", "foolbox"))
    assert (np.abs(ours - theirs) > 1e-4).mean() < 1e-3


def test_restarts_with_foolbox_are_no_weaker_than_one(outcome: Any) -> None:
    one, three = (outcome(Pgd(max_iter=5, num_random_init=n, library="foolbox"), 0.1) for n in (1, 3))
    assert succeeded(three) >= succeeded(one) - 0.02


def test_a_missing_foolbox_is_one_line(crafted: Crafted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(SettingError, match=r"^library: Foolbox is not installed \(pip install -r requirements.txt"):
        crafted.fresh(Fgsm(library="foolbox"))


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_pgd_is_the_same_on_arts_own_classifier(norm: str, crafted: Crafted, model: Any) -> None:
    plain = TensorFlowV2Classifier(
        model, 10, (28, 28, 1), loss_object=CategoricalCrossentropy(from_logits=True), clip_values=(0.0, 1.0)
    )
    case = Pgd(norm=norm, max_iter=5)
    eps = {"inf": 0.1, "2": 1.0}[norm]
    ours, theirs = (case.run(c, crafted.x, crafted.y, eps, seed=7) for c in (crafted.classifier, plain))
    # Rounding differs between a compiled and an eager gradient, so the sign of one that is nearly zero may
    # flip and move its pixel by a step or two; that may befall a pixel in a thousand, not an image.
    assert (np.abs(ours - theirs) > 1e-4).mean() < 1e-3


def test_true_labels_are_one_hot() -> None:
    np.testing.assert_array_equal(one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
