"""Every picture: functions from arrays or measurements to a matplotlib Figure.

The Figures belong to no pyplot session, so drawing them needs no display and leaves no state behind.
Shares are drawn in percent. Images are float arrays (N, H, W, C) in [0, 1] with 1 or 3 channels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gauntlet.measurement import Measurement, columns, models

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

# Okabe & Ito, Color Universal Design (2008), the palest (yellow) last.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
VERMILION = "#D55E00"
MARKERS = "osD^vPX*"
DASHES = {"white-box": "-", "black-box": "-.", "transfer": "--", "certified": ":"}
STRONGEST = "crown"
"""The certificate whose distance to the worst case is shaded."""
OPEN = "neither broken nor certified"
NORMS = {"inf": "L∞", "2": "L2", "1": "L1", "0": "L0"}
PAGE = 10.0  # inches; at DPI the 1200 pixels a report shows without shrinking
DPI = 120
SMALL = 9
CHANCE = "chance"
DASHED = "(transfer)"
ACCURACY = ("accuracy\n(higher is better)", "accuracy (%)")
SUCCESS = ("attack success rate\n(lower is better)", "attack success rate (%)")


def confusion_matrix(counts: Ints, class_names: Sequence[str], title: str) -> Figure:
    """Counts (K, K), rows true and columns predicted, as numbers coloured by their share of the row."""
    totals = counts.sum(axis=1, keepdims=True)
    share = 100 * counts / np.maximum(totals, 1)
    size = max(4.0, 0.5 * len(counts))
    figure = new_figure(size + 2.4, size + 1.2, title)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 55 else "black"
        # Not measured by the layout: a cell's number never leaves its cell.
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=SMALL).set_in_layout(False)
    names = [short(name, 16) for name in class_names]
    rotation = 45 if max(map(len, names)) > 4 else 0
    axes.set_xticks(range(len(names)), names, rotation=rotation, ha="right" if rotation else "center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.8)
    return figure


def training_curves(history: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Loss and accuracy per epoch side by side; keys as Keras names them: loss, val_accuracy, ..."""
    figure = new_figure(PAGE, 4, title)
    for place, (quantity, scale, unit) in enumerate((("loss", 1, "nats"), ("accuracy", 100, "%")), 1):
        axes = figure.add_subplot(1, 2, place)
        curves = {key: values for key, values in history.items() if key.endswith(quantity)}
        for index, (key, values) in enumerate(curves.items()):
            epochs, curve = range(1, len(values) + 1), scale * np.asarray(values, dtype=float)
            style = "--" if key.startswith("val_") else "-"
            axes.plot(epochs, curve, style, marker=MARKERS[index % 8], ms=4, color=PALETTE[index % 8])
        axes.set(xlabel="epoch", ylabel=f"{quantity} ({unit})", title=quantity)
        axes.set_xlim(0.75, max(map(len, curves.values()), default=1) + 0.25)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        tidy(axes)
        if curves:
            axes.legend(axes.lines, [_curve_name(key, quantity) for key in curves], frameon=False)
        else:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.35")
    return figure


def _curve_name(key: str, quantity: str) -> str:
    return {quantity: "training", f"val_{quantity}": "validation"}.get(key, plain(key))


class _Curve(NamedTuple):
    model: str
    condition: str
    knowledge: str
    norm: str
    points: Floats  # (P, 4): eps, and value, low, high in percent


def robustness_curves(measurements: Sequence[Measurement], title: str, chance: float | None = None) -> Figure:
    """Accuracy against eps with 95 % bands, a line per model, attack and knowledge (transfer is dashed).

    Lines start at the model's clean accuracy where it was measured. Each norm has its own axes;
    with more than six lines each attack has. `chance` is the accuracy of guessing, in [0, 1].
    """
    curves = _curves(measurements)
    split = len(curves) > 6
    panels = list(dict.fromkeys(_panel(curve, split) for curve in curves))
    wide = min(max(len(panels), 1), 3)
    tall = -(-max(len(panels), 1) // wide)
    figure = new_figure(PAGE if wide > 1 else 7.5, 4.2 * tall + 0.8, title)
    grid: Any = figure.subplots(tall, wide, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _curve_axes(axes, panel, [c for c in curves if _panel(c, split) == panel], curves, split)
        if chance is not None:
            axes.axhline(100 * chance, color="0.35", ls=":", label=CHANCE)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    if not panels:
        say_nothing(figure, "no accuracy under an attack with a budget")
    legend_below(figure)
    return figure


def _curves(measurements: Sequence[Measurement]) -> list[_Curve]:
    clean = {m.model: m for m in measurements if m.group == "clean"}
    groups: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for m in measurements:
        if m.group in DASHES and m.eps is not None:
            groups.setdefault((m.model, m.condition, m.group, m.norm or "inf"), []).append(m)
    curves = []
    for key, members in groups.items():
        start = {0.0: clean[key[0]]} if key[0] in clean else {}
        at = {**start, **{m.eps or 0.0: m for m in members}}
        points = [(eps, 100 * m.value, 100 * m.low, 100 * m.high) for eps, m in sorted(at.items())]
        curves.append(_Curve(*key, np.array(points)))
    return curves


def _panel(curve: _Curve, split: bool) -> tuple[str, str]:
    return curve.norm, curve.condition if split else ""


def _curve_axes(
    axes: Axes, panel: tuple[str, str], curves: Sequence[_Curve], all_curves: Sequence[_Curve], split: bool
) -> None:
    """Draw one panel; colour is the model, or the attack when there is one model only."""
    names = list(dict.fromkeys(curve.model for curve in all_curves))
    attacks = list(dict.fromkeys(curve.condition for curve in all_curves))
    for curve in curves:
        model, attack = names.index(curve.model), attacks.index(curve.condition)
        colour = PALETTE[(attack if len(names) == 1 and not split else model) % 8]
        marker = MARKERS[(model if split else attack) % 8]
        eps, value, low, high = curve.points.T
        style: dict[str, Any] = {"color": colour, "ls": DASHES[curve.knowledge], "marker": marker, "ms": 5}
        axes.plot(eps, value, **style, label=_curve_label(curve, split))
        axes.fill_between(eps, low, high, color=colour, alpha=0.13, lw=0)
    _open_band(axes, curves)
    norm = NORMS.get(panel[0], panel[0])
    axes.set(xlabel=f"eps ({norm}, pixel range 0 to 1)", ylim=(-3, 103), title=plain(panel[1] or norm))
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axes.set_ylabel("accuracy (%)")
    tidy(axes)


def _open_band(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Shade what is open between a model's worst case and what is certified of it."""
    worst = {curve.model: curve.points for curve in curves if curve.condition == "worst case"}
    proven = {curve.model: curve.points for curve in curves if curve.condition.endswith(STRONGEST)}
    for number, model in enumerate(name for name in worst if name in proven):
        eps, above, below = np.intersect1d(worst[model][:, 0], proven[model][:, 0], return_indices=True)
        label = OPEN if number == 0 else None
        axes.fill_between(
            eps, proven[model][below, 1], worst[model][above, 1], color="0.5", alpha=0.25, lw=0, label=label
        )


def _curve_label(curve: _Curve, split: bool) -> str:
    knowledge = "" if curve.knowledge in ("white-box", "certified") else f" ({curve.knowledge})"
    return plain(f"{curve.model}{'' if split else f', {curve.condition}'}{knowledge}")


def accuracy_by_condition(measurements: Sequence[Measurement], title: str) -> Figure:
    """Accuracy of each model under each condition, and attack success rates on axes of their own."""
    accuracy = [m for m in measurements if m.metric == "accuracy"]
    success = [m for m in measurements if m.metric != "accuracy"]
    colours = _colours(measurements)
    labels, rates = columns(accuracy), columns(success)
    group = max(0.75, 0.2 * (len(colours) + 1))  # inches that leave each bar room for its number
    rows, widths = _bar_rows(len(labels), len(rates), group)
    figure = new_figure(sum(widths) + 1.2, 3.4 * rows + 0.8, title)
    if not measurements:
        return say_nothing(figure, "no measurements")
    grid = figure.add_gridspec(rows, len(widths), width_ratios=widths)
    sides = [(accuracy, labels, ACCURACY), (success, rates, SUCCESS)]
    for column, (members, names, (heading, unit)) in enumerate(side for side in sides if side[1]):
        per_row = -(-len(names) // rows)
        for row, start in enumerate(range(0, len(names), per_row)):
            axes = figure.add_subplot(grid[row, column])
            _bar_axes(axes, members, names[start : start + per_row], colours, unit, per_row)
            axes.set_title("" if row else heading, fontsize=10)
    legend_below(figure)
    return figure


def _bar_rows(labels: int, rates: int, group: float) -> tuple[int, list[float]]:
    """The fewest rows of axes that fit the page, and the widths (inches) of the sides that hold bars."""
    for rows in range(1, max(labels, rates, 1) + 1):
        # Too narrow, and the heading would not fit.
        widths = [max(2.0, -(-names // rows) * group) for names in (labels, rates) if names]
        if sum(widths) + 1.2 <= PAGE:
            break
    return rows, widths or [PAGE / 2]


def backdoor_success(measurements: Sequence[Measurement], title: str) -> Figure:
    """Clean accuracy of each model beside the success rate of its trigger, with 95 % intervals."""
    clean = [m for m in measurements if m.group == "clean"]
    success = [m for m in measurements if m.condition.startswith("trigger") and m.metric != "accuracy"]
    colours = _colours([*clean, *success])
    figure = new_figure(8, 4.6, title)
    for place, (members, (heading, unit)) in enumerate(((clean, ACCURACY), (success, SUCCESS)), 1):
        axes = figure.add_subplot(1, 2, place)
        _bar_axes(axes, members, columns(members), colours, unit, len(columns(members)))
        axes.set_title(heading, fontsize=10)
    legend_below(figure)
    return figure


def _colours(measurements: Sequence[Measurement]) -> dict[str, str]:
    return {model: PALETTE[index % 8] for index, model in enumerate(models(measurements))}


def _bar_axes(
    axes: Axes,
    measured: Sequence[Measurement],
    labels: list[str],
    colours: dict[str, str],
    unit: str,
    room: int,
) -> None:
    """Draw a group of bars per label, in axes as wide as `room` groups."""
    width = 0.84 / max(len(colours), 1)
    for index, (model, colour) in enumerate(colours.items()):
        offset = (index - (len(colours) - 1) / 2) * width
        for m in measured:
            if m.model == model and m.label in labels:
                _bar(axes, labels.index(m.label) + offset, m, width, colour, steep=len(colours) > 2)
    axes.set_xticks(range(len(labels)), [_broken(label) for label in labels], fontsize=SMALL)
    axes.set(ylabel=unit, ylim=(0, 122), xlim=(-0.5, max(room, 1) - 0.5))
    axes.set_yticks(range(0, 101, 20))
    tidy(axes)


def _bar(axes: Axes, x: float, m: Measurement, width: float, colour: str, steep: bool) -> None:
    value, low, high = 100 * m.value, 100 * m.low, 100 * m.high
    error = [[max(value - low, 0)], [max(high - value, 0)]]
    axes.bar(x, value, width * 0.92, color=colour, yerr=error, ecolor="0.25", capsize=2, label=plain(m.model))
    text = f"{value:.1f}{m.mark}"
    axes.text(x, max(high, value) + 2, text, rotation=90 if steep else 0, ha="center", va="bottom", fontsize=SMALL)


def training_times(seconds: Mapping[str, float], title: str) -> Figure:
    """Seconds of every model's training as bars, with their ratio to the first."""
    figure = new_figure(8, 0.5 * len(seconds) + 1.6, title)
    axes = figure.add_subplot()
    first = next(iter(seconds.values()), 1.0)
    bars = axes.barh([plain(name) for name in seconds], list(seconds.values()), color=PALETTE[0])
    axes.bar_label(
        bars, [f"{value:.0f} s, {value / first:.2f} ×" for value in seconds.values()], padding=4, fontsize=SMALL
    )
    axes.set(xlabel="training (s)", xlim=(0, 1.25 * max(seconds.values(), default=1.0)))
    axes.invert_yaxis()
    tidy(axes)
    axes.grid(axis="y", visible=False)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; laid out once and drawn once, where `savefig` walks through it twice."""
    layout = figure.get_layout_engine()
    if figure.axes and layout is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of that size in inches with its title."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(plain(title), fontsize=12, wrap=True)
    return figure


def tidy(axes: Axes) -> None:
    """Axes with horizontal lines only, behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def legend_below(figure: Figure) -> None:
    """One legend for all axes, each label once."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries = {**entries, **dict(zip(labels, handles, strict=True))}
    if entries:
        # About 11.5 letters to the inch, and a sample as wide as 7 beside each name.
        rows = -(-sum(len(label) + 7 for label in entries) // int(11.5 * figure.get_figwidth()))
        names = sorted(entries, key=lambda label: (label == CHANCE, DASHED in label))
        handles = [entries[name] for name in names]
        figure.legend(handles, names, loc="outside lower center", ncols=-(-len(names) // rows), frameon=False)


def say_nothing(figure: Figure, text: str) -> Figure:
    """The figure with a text where there is nothing to draw."""
    figure.text(0.5, 0.45, text, ha="center", color="0.35")
    return figure


def short(text: str, length: int) -> str:
    return plain(text if len(text) <= length else f"{text[: length - 1]}…")


def _broken(label: str) -> str:
    """A label in short lines, to stand under a narrow group of bars."""
    return plain(label).replace("-", "-\n", 1 if len(label) > 9 else 0).replace(" ", "\n")


def plain(text: str) -> str:
    """Text as it is: matplotlib sets dollars as mathematics and leaves `_names` out of legends."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")
