"""A threat model judged by its evidence: the status found beside the one claimed, as data, page, Markdown and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from gauntlet.assurance.stride.evidence import Evidence
from gauntlet.assurance.stride.threat_model import STATUSES, STRIDE, Check, Status, StrideModel, Threat
from gauntlet.report import document

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {"passed": "✓", "failed": "✗", "missing": "?"}
STYLES = {"enforced": "green", "partial": "yellow", "accepted": "cyan", "open": "magenta", "failed": "bold red"}


@dataclass(frozen=True)
class Judged:
    """A threat, and what its checks found."""

    threat: Threat
    found: Status
    evidence: tuple[Evidence, ...]

    def of(self, outcome: str) -> list[Evidence]:
        """The evidence with an outcome."""
        return [one for one in self.evidence if one.outcome == outcome]

    def problems(self, strict: bool) -> list[str]:
        """Why claims do not hold, one line each; without `strict` only what is claimed enforced and failed."""
        lines, threat = [], self.threat
        if threat.accepted:
            lapsed = strict and self.found == "open"
            return [f"{threat.id} was accepted until {threat.accepted.review_by}, which is over"] if lapsed else []
        if strict or threat.status == "enforced":
            lines += [f"{threat.id} is claimed {threat.status}: {e.says}: {e.detail}" for e in self.of("failed")]
        if strict:
            lines += [f"{threat.id} lacks evidence: {e.says}: {e.detail}" for e in self.of("missing")]
        return lines


def assess(model: StrideModel, gathered: Mapping[Check, Evidence], today: date) -> list[Judged]:
    """Every threat with the evidence of its checks and the status that follows."""
    judged = []
    for threat in model.threats:
        evidence = tuple(gathered[check] for check in threat.checks)
        judged.append(Judged(threat, threat.found([one.outcome for one in evidence], today), evidence))
    return judged


def counts(judged: Sequence[Judged]) -> dict[Status, int]:
    """The number of threats of each status found."""
    return {status: sum(one.found == status for one in judged) for status in STATUSES}


def matrix(judged: Sequence[Judged]) -> list[list[Any]]:
    """Rows of the summary: a STRIDE class, its threats by status found, and all of them."""
    rows: list[list[Any]] = []
    for stride in STRIDE:
        mine = [one for one in judged if one.threat.stride == stride]
        rows.append([stride, *counts(mine).values(), len(mine)])
    return [*rows, ["all", *counts(judged).values(), len(judged)]]


def to_json(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The judged threats as plain data."""
    return [
        one.threat.model_dump(mode="json", exclude={"checks"})
        | {"found": one.found, "evidence": [asdict(evidence) for evidence in one.evidence]}
        for one in judged
    ]


def _values(model: StrideModel, judged: Sequence[Judged]) -> dict[str, Any]:
    """What both templates show."""
    classes = {stride: [one for one in judged if one.threat.stride == stride] for stride in STRIDE}
    return {
        "model": model,
        "matrix": matrix(judged),
        "statuses": STATUSES,
        "classes": {stride: several for stride, several in classes.items() if several},
        "marks": MARKS,
        "glossary": {"Assets": model.assets, "Entry points": model.entry_points, "Adversaries": model.adversaries},
    }


def to_markdown(
    model: StrideModel, judged: Sequence[Judged], facts: Mapping[str, Any], problems: Sequence[str] = ()
) -> str:
    """The threat model as GitHub Markdown."""
    return document.render("threat_model.md.j2", facts=facts, problems=problems, **_values(model, judged))


def to_html(
    model: StrideModel, judged: Sequence[Judged], facts: Mapping[str, Any], problems: Sequence[str] = ()
) -> str:
    """The same as one self-contained page."""
    page = document.Report(model.title, facts, ())
    return document.to_html(page, "threat_model.html.j2", problems=problems, **_values(model, judged))


def to_text(judged: Sequence[Judged]) -> Table:
    """The same for a terminal, a line a threat."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "threat", "claimed", "found", "evidence"):
        grid.add_column(heading, no_wrap=True, overflow="ellipsis")
    for one in judged:
        threat, style = one.threat, STYLES[one.found]
        cells = threat.id, threat.title, threat.status, Text(one.found, style), _marks(one)
        grid.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return grid


def _marks(one: Judged) -> str:
    """`✓ 3 ? 1`: how many checks had each outcome."""
    return " ".join(f"{mark} {len(one.of(outcome))}" for outcome, mark in MARKS.items() if one.of(outcome))
