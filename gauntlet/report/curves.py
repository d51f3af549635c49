"""Pictures of detectors, thefts and distances, in the look of figures.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from gauntlet.report.figures import (
    CHANCE,
    MARKERS,
    PALETTE,
    Floats,
    legend_below,
    new_figure,
    plain,
    say_nothing,
    tidy,
)
from gauntlet.roc import Detection

if TYPE_CHECKING:
    from gauntlet.privacy import TheftResult

BINS = 40


def roc_curves(detections: Mapping[str, Detection], title: str) -> Figure:
    """True against false positive rate for each condition, with its area; a dot is the detector's own threshold."""
    figure = new_figure(8.5, 6.6, title)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color="0.35", ls=":", label="chance")
    for number, (condition, detection) in enumerate(detections.items(), 1):  # the colours of the histogram
        colour = PALETTE[number % len(PALETTE)]
        label = f"{condition}: AUC {detection.auc.value:.3f} [{detection.auc.low:.3f}, {detection.auc.high:.3f}]"
        axes.plot(100 * detection.fpr, 100 * detection.tpr, color=colour, label=plain(label))
        axes.plot(
            100 * detection.fpr_at_threshold.value, 100 * detection.tpr_at_threshold.value, "o", ms=7, color=colour
        )
    axes.plot([], [], "o", ms=7, color="0.35", label="at the detector's threshold")
    axes.set(xlabel="false positive rate (%): clean images flagged", ylabel="true positive rate (%)")
    axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
    tidy(axes)
    legend_below(figure)
    return figure


def membership_roc(thefts: Mapping[str, TheftResult], title: str) -> Figure:
    """True against false positive rate on logarithmic axes, which show the images recognised without mistakes.

    An attack without a score is one point. Carlini et al. 2022, section III, say why not on linear axes.
    """
    figure = new_figure(8.5, 6.6, title)
    axes = figure.add_subplot()
    smallest = 1 / max(evidence.counts["non_members"] for evidence in thefts.values())
    axes.plot([smallest, 1], [smallest, 1], color="0.35", ls=":", label=CHANCE)
    for number, (name, evidence) in enumerate(thefts.items()):
        rate, colour = evidence.headline, PALETTE[number % len(PALETTE)]
        points = [np.maximum(rates, smallest) for rates in evidence.roc or ()]
        label = f"{name}: advantage {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
        marker = "o" if points and len(points[0]) == 1 else ""
        axes.plot(*points, color=colour, label=plain(label), marker=marker, ms=8)
    axes.set(xscale="log", yscale="log", xlim=(smallest, 1.1), ylim=(smallest, 1.1), aspect="equal")
    axes.set(xlabel="false positive rate: test images taken for members", ylabel="true positive rate")
    tidy(axes)
    legend_below(figure)
    return figure


def copies(thefts: Mapping[str, TheftResult], title: str) -> Figure:
    """Of each theft of a model how often its copy answers alike, beside the floors, with 95 % intervals."""
    figure = new_figure(8.5, 0.9 * len(thefts) + 2.2, title)
    axes = figure.add_subplot()
    kinds = {"fidelity": "copy", "fidelity_floor": "same images, true labels", "fidelity_majority": "one class for all"}
    for number, (metric, label) in enumerate(kinds.items()):
        rates = [evidence.rates[metric] for evidence in thefts.values()]
        values = [100 * rate.value for rate in rates]
        ends = [[100 * (rate.value - rate.low) for rate in rates], [100 * (rate.high - rate.value) for rate in rates]]
        places = np.arange(len(thefts)) + 0.2 * (number - 1)
        axes.errorbar(values, places, xerr=ends, fmt=MARKERS[number], color=PALETTE[number], capsize=3, label=label)
    names = [f"{name}\n{evidence.counts['queries']:,} queries" for name, evidence in thefts.items()]
    axes.set_yticks(range(len(thefts)), [plain(name) for name in names])
    axes.set(xlabel="answers like the victim's (%)", xlim=(-2, 102), ylim=(len(thefts) - 0.5, -0.5))
    tidy(axes)
    legend_below(figure)
    return figure


def score_histogram(clean: Floats, attacked: Mapping[str, Floats], threshold: float, title: str) -> Figure:
    """How anomalous clean images (N,) and those of each condition (M,) score; above the threshold they are flagged."""
    figure = new_figure(7.5, 4.6, title)
    groups = [("clean", clean), *attacked.items()]
    scores = np.concatenate([values for _, values in groups])
    if not len(scores):
        return say_nothing(figure, "no scores")
    axes = figure.add_subplot()
    edges = np.linspace(min(scores.min(), threshold), max(scores.max(), threshold), BINS + 1)
    for number, (name, values) in enumerate(groups):
        counts = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
        label = plain(f"{name} (n = {len(values):,})")
        # The first is filled, the rest are outlines: more than two fillings hide one another.
        axes.stairs(counts, edges, fill=not number, color=PALETTE[number % 8], alpha=1 if number else 0.4, label=label)
    axes.axvline(threshold, color="0.35", ls="--", label="threshold")
    axes.set(xlabel="anomaly score", ylabel="images (%)")
    tidy(axes)
    legend_below(figure)
    return figure


def distances(away: Floats, title: str, norm: str) -> Figure:
    """Share of images (N,) that no perturbation of a length fooled, against that length; infinite where none did."""
    figure = new_figure(7.5, 4.6, title)
    finite = np.sort(away[np.isfinite(away)])
    if not len(finite):
        return say_nothing(figure, "no image was fooled")
    axes = figure.add_subplot()
    left = 100 * (1 - np.arange(1, len(finite) + 1) / len(away))
    axes.step([0, *finite], [100, *left], where="post", color=PALETTE[0], label=f"n = {len(away):,} correct images")
    axes.axvline(float(np.median(finite)), color="0.35", ls="--", label=f"median of the found {np.median(finite):.3g}")
    axes.set(xlabel=f"L{norm} of the perturbation (pixels in [0, 1])", ylabel="still correct (%)")
    axes.set(ylim=(-2, 102), xlim=(0, 1.05 * finite[-1]))
    tidy(axes)
    legend_below(figure)
    return figure
