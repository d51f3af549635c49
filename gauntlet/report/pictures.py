"""Pictures of images: before and after an attack or a poisoning, and samples of a data set.

Images are float arrays (N, H, W, C) in [0, 1] with 1 or 3 channels. A row of images is drawn as one picture, which is
several times quicker than axes for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.measurement import budget
from gauntlet.report.figures import SMALL, VERMILION, Floats, Ints, new_figure, say_nothing, short

PICTURES = 8  # images side by side
GAP = 0.12  # between two images, as a share of their width


def adversarial_examples(
    clean: Floats,
    adversarial: Floats,
    labels: Ints,
    clean_predictions: Ints,
    adversarial_predictions: Ints,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Up to eight images (N, H, W, C) before and after the attack, those that fooled the model first.

    Labels and predictions are class indices (N,). Wrong predictions are vermilion.
    """
    fooled = (clean_predictions == labels) & (adversarial_predictions != labels)
    chosen = np.argsort(~fooled, kind="stable")[:PICTURES]
    rows = [
        ("clean image,\nprediction", clean[chosen], clean_predictions[chosen]),
        ("adversarial,\nprediction", adversarial[chosen], adversarial_predictions[chosen]),
    ]
    return _before_after(rows, labels[chosen], class_names, title, "true")


def poisoned_examples(
    clean: Floats,
    poisoned: Floats,
    labels_before: Ints,
    labels_after: Ints,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Up to eight training images (N, H, W, C) before and after poisoning; changed labels are vermilion."""
    rows = [
        ("clean image,\nlabel", clean[:PICTURES], labels_before[:PICTURES]),
        ("poisoned,\nlabel", poisoned[:PICTURES], labels_after[:PICTURES]),
    ]
    return _before_after(rows, labels_before[:PICTURES], class_names, title, "")


def _before_after(
    rows: list[tuple[str, Floats, Ints]], truth: Ints, class_names: Sequence[str], title: str, heading: str
) -> Figure:
    """Three rows: before, the change, after; under the images the class given to them."""
    (_, before, _), (_, after, _) = rows
    figure = new_figure(max(4.5, 1.2 * len(truth) + 0.4), 4.6, title)
    if not len(truth):
        return say_nothing(figure, "no images")
    grid: Any = figure.subplots(3, 1)
    for axes, (label, images, given) in zip(grid[::2], rows, strict=True):
        show_row(axes, images, [_name(class_names, one) for one in given], given != truth, label)
    if heading:
        _head(grid[0], before, [f"{heading}: {_name(class_names, one)}" for one in truth])
    change = after.astype(float) - before
    scale = float(np.abs(change).max()) or 1.0
    most = budget(scale)
    key = f"red +{most}\nblue \N{MINUS SIGN}{most}" if before.shape[-1] == 1 else f"± {most}\ngrey: none"
    show_row(grid[1], 0.5 + change / (2 * scale), label=f"change\n{key}", cmap="RdBu_r")
    return figure


def sample_images(images: Floats, labels: Ints, class_names: Sequence[str], title: str) -> Figure:
    """Up to 24 images (N, H, W, C) with their labels (N,), taking each class in turn."""
    turn = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels[:2000])], dtype=int)
    chosen = np.lexsort((labels[: len(turn)], turn))[: 3 * PICTURES]
    rows = [chosen[start : start + PICTURES] for start in range(0, len(chosen), PICTURES)]
    wide = min(max(len(chosen), 1), PICTURES)
    figure = new_figure(max(4.5, 1.2 * wide), 1.45 * max(len(rows), 1) + 0.6, title)
    if not rows:
        return say_nothing(figure, "no images")
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False).flat, rows, strict=True):
        show_row(axes, images[row], [_name(class_names, labels[index]) for index in row], room=wide)
    return figure


def suspected_images(
    images: Floats, labels: Ints, suspects: Mapping[str, Ints], class_names: Sequence[str], title: str
) -> Figure:
    """A row of up to eight of the images (N, H, W, C) that each detector suspects, by the detector's name.

    `suspects` are positions, drawn evenly over all of them; below each image the label that it has.
    """
    figure = new_figure(1.2 * PICTURES + 0.6, 1.45 * len(suspects) + 0.6, title)
    grid: Any = figure.subplots(len(suspects), 1, squeeze=False)[:, 0]
    for axes, (name, rows) in zip(grid, suspects.items(), strict=True):
        some = rows[np.unique(np.linspace(0, len(rows) - 1, PICTURES).astype(int))]
        show_row(axes, images[some], [_name(class_names, labels[one]) for one in some], label=name, room=PICTURES)
    return figure


def show_row(
    axes: Axes,
    images: Floats,
    texts: Sequence[str] = (),
    wrong: Sequence[bool] | Ints = (),
    label: str = "",
    cmap: str = "gray",
    room: int = 0,
) -> None:
    """Images (N, H, W, C) in [0, 1] side by side, a text below each, vermilion when wrong.

    `room` is for how many images there is place; grey images are drawn in the colours of `cmap`.
    """
    n, height, width, channels = images.shape
    step, room = _step(width), room or n
    strip = np.full((height, room * step - (step - width), channels), np.nan if channels == 1 else 1.0)
    for place, image in enumerate(np.clip(images, 0, 1)):
        strip[:, place * step : place * step + width] = image
    axes.imshow(strip[..., 0] if channels == 1 else strip, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=_centres(n, width), yticks=[], xticklabels=texts or [""] * n)
    axes.tick_params(length=0, labelsize=SMALL)
    for tick, is_wrong in zip(axes.get_xticklabels(), wrong, strict=False):
        tick.set_color(VERMILION if is_wrong else "black")
    axes.spines[:].set_visible(False)
    axes.set_ylabel(label, fontsize=SMALL)


def _head(axes: Axes, images: Floats, texts: Sequence[str]) -> None:
    """A text above each image of a row."""
    for centre, text in zip(_centres(len(images), images.shape[2]), texts, strict=True):
        axes.annotate(text, (centre, -0.5), (0, 3), "data", "offset points", ha="center", va="bottom", fontsize=SMALL)


def _step(width: int) -> int:
    """Pixels from the left edge of an image to that of the next."""
    return width + max(1, round(GAP * width))


def _centres(n: int, width: int) -> list[float]:
    return [place * _step(width) + (width - 1) / 2 for place in range(n)]


def _name(class_names: Sequence[str], index: Any) -> str:
    return short(class_names[int(index)], 13)
