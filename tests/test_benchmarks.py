"""Tables of the documentation are what the code computes."""

from __future__ import annotations

from pathlib import Path

import pytest

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
