"""Tables of the documentation are what the code computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import hostile, scanners
from benchmarks.thresholds import COPIES, PROBES, copies, markdown, probes, verdicts

DOCS = Path(__file__).parents[1] / "docs"


def test_the_thresholds_of_the_documentation_are_the_codes() -> None:
    assert markdown(PROBES, probes()) in (DOCS / "attacks.md").read_text(encoding="utf-8")
    assert markdown(COPIES, copies()) in (DOCS / "reports.md").read_text(encoding="utf-8")


def test_verdicts_are_exhaustive_and_symmetric() -> None:
    low, high = verdicts(0.05, 0.07, 2_000), verdicts(0.95, 0.93, 2_000)
    assert low == pytest.approx(high, abs=1e-9)
    assert sum(low) == pytest.approx(1)
    assert verdicts(0.05, 0.15, 2_000)[1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", ["Keras configurations", "pickles in containers", "pickles by hand"])
def test_the_scanner_calls_no_hostile_file_of_the_comparison_clean(kind: str, tmp_path: Path) -> None:
    files = [scanners.File(kind, path) for path in hostile.KINDS[kind](tmp_path)]
    assert len(files) > 10
    assert {said.word for said in scanners.ours(files)} == {"found"}


def test_what_another_scanner_finds_and_ours_does_not_is_missed(tmp_path: Path) -> None:
    files = [scanners.File("bad", tmp_path / "a.pkl"), scanners.File(scanners.HARMLESS, tmp_path / "b.pkl")]
    hit, clean, gap = scanners.Said(True, True, 1), scanners.Said(False, True, 1), scanners.Said(False, False, 1)
    answers = {scanners.OURS: [gap, clean], "other": [hit, hit]}
    assert scanners.missed(files, answers) == [f"{tmp_path.name}/a.pkl: other"]
    assert scanners.missed(files, answers | {scanners.OURS: [hit, clean]}) == []
    counted = {row[0]: row[1:] for row in scanners.rows(files, answers)}
    assert counted["**found**"] == ["1", "0", "1"]
    assert counted["called clean"] == ["1", "0", "0"]
    assert counted["harmless: false alarms"] == ["1", "0", "1"]


def test_the_table_of_scanners_has_its_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "scanning.md"
    page.write_text((DOCS / "scanning.md").read_text(encoding="utf-8"), encoding="utf-8")
    scanners.written(page, "| a table |\n")
    assert f"{scanners.START}| a table |\n{scanners.END}\n**Called clean**" in page.read_text(encoding="utf-8")
