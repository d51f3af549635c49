"""Every picture can be drawn, from the usual and from the least there can be, and says what it shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from gauntlet.measurement import Measurement, wilson
from gauntlet.report import figures, pictures

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = [*map(str, range(9)), "a very long name of a class"]


def measured(model: str, condition: str, successes: int, n: int = 1000, **rest: object) -> Measurement:
    low, high = wilson(successes, n)
    shares = {"value": successes / n, "low": low, "high": high, "n": n}
    return Measurement.model_validate({"model": model, "condition": condition, **shares, **rest})


def suite(*models: str, attacks: tuple[str, ...] = ("fgsm", "pgd"), norm: str = "inf") -> list[Measurement]:
    measurements = []
    for model in models:
        measurements += [measured(model, "clean", 980), measured(model, "trigger", 300)]
        measurements += [measured(model, "gaussian-noise", 950, eps=0.3, norm="std")]
        measurements += [measured(model, "trigger", 970, metric="attack_success_rate")]
        for knowledge in ("white-box", "transfer"):
            for attack in attacks:
                budget = {"knowledge": knowledge, "norm": norm}
                measurements += [measured(model, attack, int(900 - 2000 * e), eps=e, **budget) for e in (0.1, 0.3)]
    return measurements


def images(n: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(n, 12, 12, channels)).astype(np.float32)


def examples(n: int, channels: int = 1) -> Figure:
    x, y = images(n, channels), np.arange(n) % 10
    return pictures.adversarial_examples(x, np.clip(x + 0.1, 0, 1), y, y, (y + 1) % 10, NAMES, "title")


def poisoned(n: int, channels: int = 1) -> Figure:
    x, y = images(n, channels), np.arange(n) % 10
    return pictures.poisoned_examples(x, x, y, np.zeros_like(y), NAMES, "title")


def samples(n: int, channels: int = 1) -> Figure:
    return pictures.sample_images(images(n, channels), np.arange(n) % 10, NAMES, "title")


def matrix(classes: int) -> Figure:
    counts = np.diag(np.arange(classes) * 1000)
    return figures.confusion_matrix(counts, [f"class {i}" for i in range(classes)], "title")


def curves(epochs: int) -> Figure:
    keys = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    return figures.training_curves({key: [0.5] * epochs for key in keys}, "title")


FOUR = ("baseline", "poisoned", "adversarial-training", "on-the-fly")
DRAWINGS: dict[str, Callable[[], Figure]] = {
    "matrix-10": lambda: matrix(10),
    "matrix-2": lambda: matrix(2),
    "matrix-20": lambda: matrix(20),
    "curves": lambda: curves(5),
    "curves-one-epoch": lambda: curves(1),
    "curves-none": lambda: figures.training_curves({}, "title"),
    "robustness-4": lambda: figures.robustness_curves(suite(*FOUR), "title", chance=0.1),
    "robustness-1": lambda: figures.robustness_curves(suite("baseline"), "title"),
    "robustness-none": lambda: figures.robustness_curves([measured("m", "clean", 9, 10)], "title"),
    "conditions-4": lambda: figures.accuracy_by_condition(suite(*FOUR), "title"),
    "conditions-1": lambda: figures.accuracy_by_condition(suite("baseline")[:1], "title"),
    "conditions-9": lambda: figures.accuracy_by_condition(suite(*"abcdefghi"), "title"),
    "conditions-none": lambda: figures.accuracy_by_condition([], "title"),
    "backdoor": lambda: figures.backdoor_success(suite("baseline", "poisoned"), "title"),
    "backdoor-half": lambda: figures.backdoor_success([measured("m", "clean", 9, 10)], "title"),
    **{f"examples-{n}-{c}": (lambda n=n, c=c: examples(n, c)) for n, c in ((0, 1), (1, 1), (20, 1), (9, 3))},
    **{f"poisoned-{n}-{c}": (lambda n=n, c=c: poisoned(n, c)) for n, c in ((0, 1), (1, 3), (9, 1))},
    **{f"samples-{n}-{c}": (lambda n=n, c=c: samples(n, c)) for n, c in ((0, 1), (1, 1), (30, 3))},
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_to_png_with_its_title(name: str) -> None:
    figure = DRAWINGS[name]()
    assert figures.png(figure).startswith(PNG)
    assert figure.get_suptitle() == "title"
    assert figure.get_figwidth() <= 14.5


@pytest.mark.parametrize("name", ["matrix-2", "curves", "robustness-1", "conditions-1", "backdoor"])
def test_axes_are_labelled_with_units(name: str) -> None:
    axes = [a for a in DRAWINGS[name]().axes if a.axison]
    assert all(a.get_ylabel() for a in axes)
    assert any("%" in a.get_ylabel() for a in axes) or "matrix" in name


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.axison and axes.get_title()]


def test_no_pyplot_figure_stays_behind() -> None:
    import matplotlib.pyplot as plt

    figures.png(matrix(2))
    assert plt.get_fignums() == []


def test_confusion_matrix_shows_every_count() -> None:
    figure = figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ["cat", "dog"], "title")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[75, 25], [0, 0]]


def test_one_epoch_is_a_visible_point_on_an_integer_axis() -> None:
    axes = curves(1).axes[0]
    assert axes.lines[0].get_marker() == "o"
    shown = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    assert shown == [1]


def test_training_and_validation_are_told_apart() -> None:
    loss = curves(3).axes[0]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]


def test_few_curves_share_axes_and_start_at_clean_accuracy() -> None:
    figure = figures.robustness_curves(suite("baseline"), "title", chance=0.1)
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 98], [0.1, 70], [0.3, 30]]
    assert legend(figure)[-1] == "chance"
    assert "L∞" in axes.get_xlabel()


def test_many_curves_get_axes_per_attack_with_dashed_transfer() -> None:
    figure = figures.robustness_curves(suite(*FOUR), "title")
    assert titles(figure) == ["fgsm", "pgd"]
    styles = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert styles["baseline"] == "-"
    assert styles["baseline (transfer)"] == "--"
    assert legend(figure)[:4] == list(FOUR)


def test_each_norm_has_its_axes() -> None:
    measurements = suite("m", attacks=("pgd",)) + suite("m", attacks=("pgd",), norm="2")
    assert titles(figures.robustness_curves(measurements, "title")) == ["L∞", "L2"]


def test_a_curve_without_clean_accuracy_starts_at_its_first_budget() -> None:
    attacked = [m for m in suite("m", attacks=("pgd",)) if m.condition == "pgd"]
    assert figures.robustness_curves(attacked, "title").axes[0].lines[0].get_xdata()[0] == 0.1


def test_success_rates_stand_apart_from_accuracy() -> None:
    figure = figures.accuracy_by_condition(suite(*FOUR), "title")
    assert titles(figure)[-1] == "attack success rate\n(lower is better)"
    rates = [a for a in figure.axes if "success" in a.get_ylabel()]
    assert [tick.get_text() for tick in rates[0].get_xticklabels()] == ["trigger\nASR"]
    assert legend(figure) == list(FOUR)


def test_bars_are_as_high_as_the_shares() -> None:
    figure = figures.backdoor_success(suite("baseline", "poisoned"), "title")
    heights = [[bar.get_height() for bar in axes.patches] for axes in figure.axes]
    assert heights == [[98, 98], [97, 97]]


def test_fooled_images_come_first_and_wrong_predictions_are_coloured() -> None:
    x, y = images(12), np.zeros(12, dtype=int)
    answers = np.array([0] * 10 + [3, 4])
    figure = pictures.adversarial_examples(x, x, y, y, answers, NAMES, "title")
    shown = figure.axes[2].get_xticklabels()
    assert [text.get_text() for text in shown] == ["3", "4", *"000000"]
    assert shown[0].get_color() == figures.VERMILION != shown[2].get_color()


def test_changed_labels_are_coloured() -> None:
    last = poisoned(9).axes[2].get_xticklabels()
    assert [text.get_color() == figures.VERMILION for text in last] == [False] + [True] * 7


def test_samples_take_each_class_in_turn() -> None:
    labels = np.array([0] * 30 + [1] * 30 + [2] * 30)
    figure = pictures.sample_images(images(90), labels, NAMES, "title")
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()][:6] == list("012012")


def test_names_are_not_read_as_mathematics_nor_left_out() -> None:
    figure = figures.accuracy_by_condition(suite("$x_$", "_hidden"), "$\\broken{$")
    assert figures.png(figure).startswith(PNG)
    assert len(legend(figure)) == 2


def test_training_times_name_every_model_with_its_ratio() -> None:
    figure = figures.training_times({"baseline": 10.0, "defended": 25.0}, "Training times")
    (axes,) = figure.axes
    texts = {text.get_text() for text in axes.texts}
    assert texts == {"10 s, 1.00 ×", "25 s, 2.50 ×"}
    assert axes.get_xlabel() == "training (s)"
