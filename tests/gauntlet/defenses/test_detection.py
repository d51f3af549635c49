"""Every detector knows noise from images and repeats itself; what a detector is worth is counted right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from gauntlet.data.datasets import Dataset
from gauntlet.defenses.detection import DETECTORS, Detector, FittedDetector, GanDiscriminator, detector, parse
from gauntlet.errors import SettingError
from gauntlet.report import curves, figures
from gauntlet.roc import Detection, evaluate_detector

# A newcomer to DETECTORS is tested by everything below that names no detector.
every_detector = pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)


def quick(kind: type[Detector]) -> Detector:
    """The detector with as many passes as seconds allow, if it passes."""
    return kind(**({"epochs": 8} if "epochs" in kind.model_fields else {}))


@pytest.fixture(scope="module")
def told() -> dict[type[Detector], list[float]]:
    """The progress that each detector told."""
    return {}


@pytest.fixture(scope="module")
def fitted(digits: Dataset, told: dict[type[Detector], list[float]]) -> Callable[[type[Detector]], FittedDetector]:
    """A detector fitted to the digits, once."""
    made: dict[type[Detector], FittedDetector] = {}

    def get(kind: type[Detector]) -> FittedDetector:
        if kind not in made:
            shares = told[kind] = []
            made[kind] = quick(kind).fit(digits, 0, lambda _, share: shares.append(share))
        return made[kind]

    return get


@every_detector
def test_noise_is_told_from_digits(
    kind: type[Detector], fitted: Callable[[type[Detector]], FittedDetector], digits: Dataset
) -> None:
    noise = np.random.default_rng(0).random(digits.x_test.shape, dtype=np.float32)
    clean, strange = (fitted(kind).scores(x) for x in (digits.x_test, noise))
    assert clean.dtype == np.float64
    assert clean.shape == (len(digits.x_test),)
    assert evaluate_detector(clean, strange, fitted(kind).threshold).auc.value > 0.9


@every_detector
def test_a_seed_gives_the_same_scores(kind: type[Detector], small: Dataset) -> None:
    brief = quick(kind).model_copy(update={"epochs": 2} if "epochs" in kind.model_fields else {})
    first, again, other = (brief.fit(small, seed).scores(small.x_test) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@every_detector
def test_a_fit_says_what_it_cost_and_what_happened(
    kind: type[Detector],
    fitted: Callable[[type[Detector]], FittedDetector],
    told: dict[type[Detector], list[float]],
) -> None:
    assert fitted(kind).seconds > 0
    assert all(np.isfinite(values).all() for values in fitted(kind).history.values())
    assert told[kind] == sorted(told[kind])
    assert told[kind][-1] == pytest.approx(1)


@every_detector
def test_scores_of_images_do_not_depend_on_their_company(
    kind: type[Detector], fitted: Callable[[type[Detector]], FittedDetector], digits: Dataset
) -> None:
    many, few = fitted(kind).scores(np.tile(digits.x_test, (3, 1, 1, 1))), fitted(kind).scores(digits.x_test[:5])
    np.testing.assert_allclose(many[:5], few, rtol=1e-4)
    assert fitted(kind).scores(digits.x_test[:0]).shape == (0,)


def test_the_published_rule_flags_what_is_less_probably_real_than_the_threshold(small: Dataset) -> None:
    brief = GanDiscriminator(epochs=1, threshold=0.3).fit(small, 0)
    assert brief.threshold == pytest.approx(0.7)


def test_scores_that_are_not_finite_are_refused(small: Dataset) -> None:
    broken = FittedDetector(lambda x: np.full(len(x), np.nan), 0.5, {}, 0.0)
    with pytest.raises(SettingError, match="120 of 120 scores are not finite"):
        broken.scores(small.x_test)


LOW, HIGH = np.linspace(0.0, 0.4, 100), np.linspace(0.6, 1.0, 50)

# --- pictures -----------------------------------------------------------------------------------------------


def conditions(count: int) -> dict[str, Detection]:
    return {f"fgsm 0.{number}": evaluate_detector(LOW, HIGH - 0.1 * number, 0.5) for number in range(count)}


@pytest.mark.parametrize("count", [0, 1, 9])
def test_roc_curves_name_every_area(count: int) -> None:
    figure = curves.roc_curves(conditions(count), "title")
    assert figures.png(figure).startswith(b"\x89PNG")
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum("AUC" in text for text in shown) == count
    assert "chance" in shown


def test_the_dot_of_a_roc_curve_is_the_threshold() -> None:
    figure = curves.roc_curves({"x": evaluate_detector(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 0.5)}, "title")
    assert [50, 100] in [line.get_xydata().tolist()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1]


@pytest.mark.parametrize("count", [0, 1, 9])
def test_histograms_hold_every_image(count: int) -> None:
    figure = curves.score_histogram(LOW, {f"fgsm {number}": HIGH for number in range(count)}, 0.5, "title")
    assert figures.png(figure).startswith(b"\x89PNG")
    stairs = figure.axes[0].patches
    assert [round(patch.get_data().values.sum()) for patch in stairs] == [100] * (count + 1)


def test_a_histogram_of_nothing_says_so() -> None:
    assert figures.png(curves.score_histogram(LOW[:0], {}, 0.5, "title"))


# --- declarations -------------------------------------------------------------------------------------------


@every_detector
def test_text_and_mapping_give_the_detector_back(kind: type[Detector]) -> None:
    case = quick(kind)
    settings = case.model_dump(exclude={"name"}, exclude_none=True)
    assert detector(f"{case.name}:{','.join(f'{key}={value}' for key, value in settings.items())}") == case
    assert detector(case.model_dump(mode="json")) == case
    assert parse(case) is case
    assert parse(case.name) == kind()


@pytest.mark.parametrize("wrong", [{"threshold": 1}, {"epochs": 0}, {"latent": 0}, {"beta1": 1}, {"batch_size": 1}])
def test_a_setting_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        GanDiscriminator(**wrong)


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"unknown detector 'nose' \(one of gan-discriminator"):
        detector("nose")
