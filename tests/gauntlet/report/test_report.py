"""Measurements, the table made of them, and the report in each of its forms."""

from __future__ import annotations

import json
import math
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError
from rich.console import Console

from gauntlet.measurement import Measurement, counts, doubts, table, wilson
from gauntlet.report.document import Report, tables, to_html, to_json, to_markdown, to_text

EVIL = "<script>alert('x')</script>"


def measured(condition: str = "clean", successes: int = 980, n: int = 1000, **rest: object) -> Measurement:
    low, high = wilson(successes, n)
    shares = {"value": successes / n, "low": low, "high": high, "n": n}
    return Measurement.model_validate({"model": "baseline", "condition": condition, **shares, **rest})


def attacked(condition: str, eps: float, successes: int = 500, **rest: object) -> Measurement:
    return measured(condition, successes, **{"eps": eps, "norm": "inf", "knowledge": "white-box", **rest})


SUITE = [
    measured("trigger", 5, metric="attack_success_rate"),
    attacked("fgsm", 0.25, knowledge="transfer"),
    measured("trigger", 970),
    attacked("pgd", 0.3, validity="SUSPECT", reasons=("the loss does not rise",)),
    attacked("fgsm", 0.25),
    attacked("fgsm", 0.1),
    attacked("hopskipjump", 1, norm="2", knowledge="black-box", validity="INVALID", reasons=("masked", "NaN")),
    measured("gaussian-noise", 950, eps=0.3, norm="std"),
    measured("clean"),
    measured("clean", 985, model="poisoned"),
    measured("trigger", 990, model="poisoned", metric="attack_success_rate"),
]
ORDER = [
    "clean",
    "gaussian-noise 0.3",
    "fgsm 0.1",
    "fgsm 0.25",
    "pgd 0.3",
    "black-box hopskipjump L2 1",
    "transfer fgsm 0.25",
    "trigger",
    "trigger ASR",
]


def report(**rest: object) -> Report:
    parts = {"title": "Night", "facts": {"dataset": "mnist", "seed": 0}, "measurements": SUITE}
    return Report(**{**parts, **rest})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("eps", "shown"),
    [
        (0.25, "0.25"),
        (8 / 255, "8/255"),
        (0.0314, "0.0314"),
        (51 / 255, "0.2"),
        (1.0, "1"),
        (0.123456, "0.1235"),
    ],
)
def test_label_shows_the_budget(eps: float, shown: str) -> None:
    assert attacked("fgsm", eps).label == f"fgsm {shown}"


def test_label_of_a_float32_fraction() -> None:
    assert attacked("pgd", 0.031372550874948502).label == "pgd 8/255"


@pytest.mark.parametrize(
    "wrong",
    [{"value": 1.2}, {"value": math.nan}, {"low": 0.99}, {"n": 0}, {"eps": math.inf}, {"colour": "red"}],
)
def test_measurement_refuses_nonsense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Measurement.model_validate({**measured().model_dump(), **wrong})


def test_wilson_agrees_with_the_textbook() -> None:
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10)[1] == 1


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
        wilson(successes, n)


def test_table_has_models_as_first_seen_and_columns_in_order() -> None:
    frame = table(SUITE)
    assert list(frame.index) == ["baseline", "poisoned"]
    assert list(frame.columns) == ORDER
    assert frame.loc["baseline", "clean"] == "98.00 [96.9, 98.7]"
    assert frame.loc["poisoned", "pgd 0.3"] == "\N{EN DASH}"


def test_doubtful_cells_are_marked_and_explained() -> None:
    frame = table(SUITE)
    assert frame.loc["baseline", "pgd 0.3"].endswith("] ?")
    assert frame.loc["baseline", "black-box hopskipjump L2 1"].endswith("] ✗")
    assert doubts(SUITE) == [
        "? baseline, pgd 0.3: SUSPECT: the loss does not rise",
        "✗ baseline, black-box hopskipjump L2 1: INVALID: masked; NaN",
    ]


def test_n_goes_into_the_cell_where_it_differs_in_the_column() -> None:
    mixed = [measured(n=10_000), measured(n=1000, model="other"), attacked("fgsm", 0.1)]
    assert counts(mixed) == {"clean": None, "fgsm 0.1": 1000}
    assert table(mixed).loc["baseline", "clean"].endswith("n=10,000")
    assert "n=" not in table(mixed).loc["baseline", "fgsm 0.1"]
    assert "n varies" in to_html(report(measurements=mixed))


def test_no_number_hides_another_of_the_same_cell() -> None:
    cell = table([measured(successes=980), measured(successes=500)]).loc["baseline", "clean"]
    assert "98.00" in cell
    assert "50.00" in cell


def test_json_is_pure_and_gives_the_measurements_back() -> None:
    frame = pd.DataFrame({"auc": [0.9, math.nan]}, index=["loss", "squeeze"])
    facts = {"seed": 0, "seconds": math.nan, "loss": frame["auc"].iloc[0]}
    answer = to_json(report(facts=facts, tables={"Detectors": frame}, notes=("slow",)))
    back = json.loads(json.dumps(answer, allow_nan=False))
    assert [Measurement.model_validate(m) for m in back["measurements"]] == SUITE
    assert back["facts"] == {"seed": 0, "seconds": None, "loss": 0.9}
    assert back["tables"]["Detectors"] == [{"": "loss", "auc": 0.9}, {"": "squeeze", "auc": None}]
    assert back["notes"] == ["slow"]


def test_tables_are_made_of_rows_and_none_is_empty() -> None:
    made = tables({"Cost": [{"model": "a", "time": 1.5}, {"model": "b", "time": None}], "Scan": []})
    assert list(made) == ["Cost"]
    answer = to_json(report(tables=made))["tables"]
    assert answer == {"Cost": [{"model": "a", "time": 1.5}, {"model": "b", "time": None}]}


def test_markdown_tables_are_aligned() -> None:
    lines = to_markdown(report(tables={"T": pd.DataFrame({"a|b": [1.5, 2]})})).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    comparison = [row for row in rows if "a\\|b" not in row][:5]
    assert len({len(row) for row in comparison}) == 1
    assert re.match(r"\| n +\| +1,000 \|", comparison[2])
    assert "- **dataset**: mnist" in lines


def test_markdown_escapes_names() -> None:
    text = to_markdown(report(title=EVIL, facts={"a|b": "*x* [y](z)"}, notes=("# no\nheading",)))
    assert "<script>" not in text
    assert "- **a\\|b**: \\*x\\* [y\\](z)" in text
    assert "- \\# no heading" in text


def test_html_needs_nothing_from_elsewhere() -> None:
    page = to_html(report(figures={"drawn": Figure(), "stored": b"\x89PNG"}))
    assert "://" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert re.findall(r'src="([^",]*)', page) == ["data:image/png;base64"] * 2


def test_html_escapes_everything() -> None:
    frame = pd.DataFrame({EVIL: [EVIL]}, index=[EVIL])
    evil = attacked(EVIL, 0.1, model=EVIL, validity="INVALID", reasons=(EVIL, '"><b>'))
    page = to_html(
        report(
            title=EVIL,
            facts={EVIL: EVIL},
            measurements=[evil],
            figures={EVIL: b"png"},
            tables={EVIL: frame},
            notes=(EVIL,),
        )
    )
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("&lt;script&gt;") >= 12


def test_html_explains_what_it_uses_and_no_more() -> None:
    page = to_html(report())
    assert all(
        word in page for word in ("95 % Wilson", "against another model", "lower is better", "suspect", "n = 1,000")
    )
    assert "against another model" not in to_html(report(measurements=[measured()]))


def test_heat_is_worst_for_a_successful_backdoor() -> None:
    trigger = measured("trigger", 1000, metric="attack_success_rate")
    assert 'class="heat" style="--v: 0.0">' in to_html(report(measurements=[trigger]))


def test_an_empty_report_is_still_a_report() -> None:
    nothing = report(facts={}, measurements=[])
    assert "Comparison" not in to_html(nothing)
    assert to_markdown(nothing) == "# Night\n"
    assert to_text([]).row_count == 0


def rendered(measurements: list[Measurement], width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(to_text(measurements, "[bold]Night"))
    return capture.get()


def test_terminal_has_conditions_as_rows_when_there_are_many() -> None:
    many = to_text(SUITE)
    assert [str(column.header) for column in many.columns] == ["condition", "n", "baseline", "poisoned"]
    assert many.row_count == len(ORDER)
    few = to_text(SUITE[-3:])
    assert [str(column.header) for column in few.columns][:2] == ["model", "clean\nn = 1,000"]


def test_terminal_fits_eighty_columns_and_takes_names_literally() -> None:
    names = ("baseline", "poisoned", "adversarial-training", "[red]fly")
    text = rendered([m.model_copy(update={"model": name}) for name in names for m in SUITE[:9]])
    assert max(map(len, text.splitlines())) <= 80
    assert "[red]fly" in text
    assert "[bold]Night" in text
    assert "98.00" in text
    assert "96.9\N{EN DASH}98.7" in text


def test_no_way_out_drives_a_terminal_or_turns_lines_round() -> None:
    evil = Report("a\x1b[2Jb\u202ec", {"name": "x\x1b]0;t\x07"}, [], {}, {}, ["note \x9b31m"])
    for text in (to_html(evil), to_markdown(evil)):
        assert not {"\x1b", "\u202e", "\x07", "\x9b"} & set(text)
