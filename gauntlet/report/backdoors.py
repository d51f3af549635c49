"""Pictures of a model's scan for backdoors: the triggers found, and how unusual each class is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gauntlet.backdoor.scan import ScanResult, size_text
from gauntlet.backdoor.triggers import ANY, Found
from gauntlet.report.figures import PALETTE, VERMILION, Floats, new_figure, short, tidy
from gauntlet.report.pictures import show_row

MOST = 16
"""Classes drawn, the most suspicious first."""


def inverted_triggers(result: ScanResult, image: Floats, class_names: Sequence[str], title: str) -> Figure:
    """Of each kind the best candidate of every goal, alone and on one clean image (h, w, c) in [0, 1].

    Below each the class and the size; the suspected one is vermilion.
    """
    names = [*class_names, ANY]
    order = sorted(result.classes, key=lambda one: (one.p_value, one.statistic))[:MOST]
    labels = sorted(one.label for one in order)
    figure = new_figure(max(5.0, 1.05 * len(labels) + 0.8), 2.6 * len(result.found) + 0.5, title)
    grid: Any = figure.subplots(2 * len(result.found), 1, squeeze=False)[:, 0]
    for number, one in enumerate(result.found):
        wrong = [label in result.accused for label in labels]
        texts = [f"{short(names[k], 10)}\n{_size(one, k)}" for k in labels]
        alone = np.stack([_alone(one, k) for k in labels])
        on_image = np.stack([one.show(image[None], k, (0.0, 1.0))[0] for k in labels])
        show_row(grid[2 * number], alone, label=f"{one.kind},\nalone")
        show_row(grid[2 * number + 1], on_image, texts, wrong, f"{one.kind},\non an image")
    return figure


def _size(one: Found, k: int) -> str:
    return size_text(one, float(one.sizes[k])) if np.isfinite(one.sizes[k]) else "none works"


def _alone(one: Found, k: int) -> Floats:
    """What replaces pixels on grey; what is added as a change from grey, scaled to be seen."""
    if one.added:
        largest = float(np.abs(one.pattern[k]).max()) or 1.0
        changed: Floats = 0.5 + one.pattern[k] / (2 * largest)
        return changed
    mixed: Floats = 0.5 + one.mask[k] * (one.pattern[k] - 0.5)
    return mixed


LETTERS = 60
"""Of all classes' names that fit below the axes in one line."""


def class_values(result: ScanResult, class_names: Sequence[str], title: str) -> Figure:
    """Of each kind the model's value of every class, the references' beside it, and where the alarm begins."""
    figure = new_figure(9, 2.5 * len(result.found) + 0.6, title)
    grid: Any = figure.subplots(len(result.found), 1, squeeze=False)[:, 0]
    places, names = np.arange(len(result.classes)), [short(name, 10) for name in (*class_names, ANY)]
    crowded = sum(map(len, names)) > LETTERS
    for axes, one, test, known in zip(grid, result.found, result.tested, result.known, strict=True):
        for row in known:
            axes.plot(places, row, ".", color="0.6", ms=5, label="clean models" if axes is grid[0] else None)
        hit = np.isin(places, result.accused)
        axes.plot(places[~hit], one.values[~hit], "o", color=PALETTE[0], label="this model")
        axes.plot(places[hit], one.values[hit], "o", color=VERMILION, label="this model, suspected class")
        axes.plot(places, test.critical, "_", color="black", ms=16, label="alarm below")
        axes.set(xticks=places, ylabel=_axis(one))
        axes.set_xticklabels(names, rotation=30 if crowded else 0, ha="right" if crowded else "center")
        tidy(axes)
    handles = dict(zip(*reversed(grid[0].get_legend_handles_labels()), strict=True))
    grid[0].legend(handles.values(), handles.keys(), fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _axis(one: Found) -> str:
    return "probe:\n\N{MINUS SIGN}logit of success" if one.kind == "probe" else f"{one.kind}:\nlog size ({one.unit})"
