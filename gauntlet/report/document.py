"""A report: facts, measurements, tables and pictures, as JSON, Markdown, HTML and for the terminal."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gauntlet.measurement import MISSING, Measurement, cells, columns, counts, doubts, models, table
from gauntlet.quiet import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from rich.table import Table
    from rich.text import Text

LEGEND = {
    "98.72 [98.5, 98.9]": "percent of the n images, with the 95 % Wilson interval",
    "clean": "test images, unattacked",
    "certified": "proven: no image within the budget is classified otherwise; below it nothing can be attacked",
    "smoothing": "proven of the smoothed model, which is another one",
    "white-box": "the attack was made against the very model in the row, its defense included",
    "black-box": "the attack saw only the answers of the model in the row",
    "transfer": "the attack was made against another model",
    "trigger": "images carrying the backdoor's trigger, scored by their true class",
    "ASR": "attack success rate; lower is better",
    "?": "suspect: an evaluation check raised a doubt, given below the table",
    "✗": "invalid: the number must not be used, for the reason given below the table",
}


@dataclass(frozen=True)
class Report:
    """All that is shown of one suite, comparison or nightly; captions are the keys of figures and tables."""

    title: str
    facts: Mapping[str, str | int | float]
    measurements: Sequence[Measurement]
    figures: Mapping[str, Figure | bytes] = field(default_factory=dict)  # bytes are a PNG file
    tables: Mapping[str, DataFrame] = field(default_factory=dict)
    notes: Sequence[str] = ()


def tables(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, DataFrame]:
    """The tables of a report by caption; one without rows is left out."""
    return {caption: frame(lines) for caption, lines in rows.items() if lines}


def frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """A table from its rows, each a mapping of columns to cells."""
    from pandas import DataFrame

    return DataFrame(list(rows))


def to_json(report: Report) -> dict[str, Any]:
    """The report without its pictures, in pure JSON types; what is not a finite number is null."""
    return {
        "title": report.title,
        "facts": {key: _plain(value) for key, value in report.facts.items()},
        "measurements": [m.model_dump(mode="json") for m in report.measurements],
        "tables": {caption: _records(frame) for caption, frame in report.tables.items()},
        "notes": list(report.notes),
    }


def _records(frame: DataFrame) -> list[dict[str, Any]]:
    header, rows = _header_and_rows(frame)
    return [dict(zip(header, map(_plain, row), strict=True)) for row in rows]


def _plain(value: Any) -> str | int | float | bool | None:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int) or value is None else str(value)


def _header_and_rows(frame: DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Column names and cells of a frame; its index is a column unless it only counts the rows."""
    from pandas import RangeIndex

    if not isinstance(frame.index, RangeIndex):
        # A nameless index becomes the column of row names, whose header stays empty.
        frame = frame.rename_axis(index=[str(name or "") for name in frame.index.names]).reset_index()
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
    return names, [list(row) for row in frame.itertuples(index=False, name=None)]


def _text(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return MISSING
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_markdown(report: Report) -> str:
    """The report as GitHub Markdown, its tables also aligned as plain text; pictures are left out."""
    parts = [f"# {_markdown(report.title)}", _bullets(_fact_lines(report))]
    if report.measurements:
        parts += ["## Comparison", _comparison(report.measurements)]
        parts += [_bullets(map(_markdown, doubts(report.measurements)))]
        parts += [_bullets(f"`{sign}` {meaning}" for sign, meaning in _legend(report.measurements).items())]
    for caption, frame in report.tables.items():
        header, rows = _header_and_rows(frame)
        parts += [f"## {_markdown(caption)}", _grid(header, [list(map(_text, row)) for row in rows])]
    if report.notes:
        parts += ["## Notes", _bullets(map(_markdown, report.notes))]
    return printable("\n\n".join(part for part in parts if part) + "\n")


def _fact_lines(report: Report) -> list[str]:
    return [f"**{_markdown(key)}**: {_markdown(_text(value))}" for key, value in report.facts.items()]


def _comparison(measurements: Sequence[Measurement]) -> str:
    header, rows = _header_and_rows(table(measurements))
    return _grid(header, [["n", *map(_count, counts(measurements).values())], *rows])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table: the first column and words to the left, numbers to the right."""
    lines = [[_markdown(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    left = [i == 0 or are_words(column) for i, column in enumerate(zip(*rows, strict=True))] or [True] * len(header)
    rule = ["-" * w if to_left else "-" * (w - 1) + ":" for w, to_left in zip(widths, left, strict=True)]
    padded = [[_pad(*place) for place in zip(line, widths, left, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def _pad(cell: str, width: int, to_left: bool) -> str:
    return cell.ljust(width) if to_left else cell.rjust(width)


def are_words(column: Iterable[Any]) -> bool:
    """Whether no cell of a column begins like a number; a cell that says nothing does not count."""
    said = [text for text in map(_text, column) if text != MISSING]
    return bool(said) and not any(text[:1].isdigit() or text[:1] in "+-" for text in said)


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\`*|]|\](?=\()|(?<!\w)_|_(?!\w))", r"\\\1", text)
    return re.sub(r"^([#>+-])", r"\\\1", text)


def _legend(measurements: Sequence[Measurement]) -> dict[str, str]:
    """The lines of the legend that these measurements need."""
    groups, marks = {m.group for m in measurements}, {m.mark for m in measurements}
    smoothed = any("smoothing" in m.condition for m in measurements)
    shown = {"98.72 [98.5, 98.9]", *groups, *marks, *(["ASR"] if "attack success rate" in groups else [])}
    shown |= {"smoothing"} if smoothed else set()
    return {sign: meaning for sign, meaning in LEGEND.items() if sign in shown}


def to_html(report: Report, template: str = "report.html.j2", **more: Any) -> str:
    """The report as one self-contained page: no scripts, no requests, pictures inside.

    Another template extends the usual one, and is given `more`.
    """
    return render(
        template,
        report=report,
        rows=models(report.measurements),
        labels=columns(report.measurements),
        spans=_spans(report.measurements),
        cells=cells(report.measurements),
        counts=counts(report.measurements),
        doubts=doubts(report.measurements),
        legend=_legend(report.measurements),
        tables={caption: _header_and_rows(frame) for caption, frame in report.tables.items()},
        are_words=are_words,
        pictures={caption: _data_uri(picture) for caption, picture in report.figures.items()},
        missing=MISSING,
        **more,
    )


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in; what goes into HTML is escaped, into Markdown by the filter `markdown`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("gauntlet.report"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"text": _text, "markdown": _markdown}
    return printable(environment.get_template(template).render(**values))


def _spans(measurements: Sequence[Measurement]) -> list[tuple[str, int]]:
    """The kinds of columns from left to right, each with how many columns it spans."""
    group = {m.label: m.group for m in measurements}
    return [(kind, len(list(run))) for kind, run in groupby(group[label] for label in columns(measurements))]


def _data_uri(picture: Figure | bytes) -> str:
    if not isinstance(picture, bytes):
        from gauntlet.report.figures import png

        picture = png(picture)
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def to_text(measurements: Sequence[Measurement], title: str = "") -> Table:
    """The comparison for a terminal; with more than five conditions those are the rows, which is narrower."""
    from rich.table import Table
    from rich.text import Text

    grouped, ns = cells(measurements), counts(measurements)
    flipped = len(ns) > 5
    across, down = (models(measurements), list(ns)) if flipped else (list(ns), models(measurements))
    caption = Text("\n".join(["percent, 95 % Wilson interval", *doubts(measurements)]))
    grid = Table(title=Text(title) if title else None, caption=caption, caption_justify="left")
    for index, heading in enumerate(_headings(across, ns, flipped)):
        grid.add_column(Text(heading), justify="right" if index else "left", overflow="fold")
    for row in down:
        keys = [(name, row) if flipped else (row, name) for name in across]
        start = [row, _count(ns[row])] if flipped else [row]
        grid.add_row(*map(Text, start), *(_entry(grouped.get(key, []), ns[key[1]], len(across) > 3) for key in keys))
    return grid


def _headings(across: Sequence[str], ns: Mapping[str, int | None], flipped: bool) -> list[str]:
    if not flipped:
        return ["model", *(f"{label}\nn {'= ' if ns[label] else ''}{_count(ns[label])}" for label in across)]
    # Rich breaks lines at spaces only; a long name may break after its hyphens too.
    return ["condition", "n", *(name.replace("-", "-\n") if len(name) > 12 else name for name in across)]


def _entry(measurements: Sequence[Measurement], n: int | None, stacked: bool) -> Text:
    """A terminal's cell, its interval on a second line where there are many columns."""
    from rich.text import Text

    entry = Text("" if measurements else MISSING)
    for m in measurements:
        style = {"SUSPECT": "yellow", "INVALID": "red"}.get(m.validity or "", "")
        entry.append("\n" if entry else "").append(f"{100 * m.value:.2f}{m.mark and ' '}{m.mark}", style)
        low, high = f"{100 * m.low:.1f}", f"{100 * m.high:.1f}"
        interval = f"\n{low}{MISSING}{high}" if stacked else f" [{low}, {high}]"
        entry.append(interval + ("" if n else f" n={m.n:,}"), "dim")
    return entry


def _count(n: int | None) -> str:
    return "varies" if n is None else f"{n:,}"
