"""The last nights, condition by condition, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from gauntlet.report.figures import PALETTE, legend_below, new_figure, plain, say_nothing, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAUSES = {
    "model_digest": "the candidate model",
    "dataset_digest": "the data",
    "attacks": "the attacks' settings",
    "code_digest": "Gauntlet's code",
}


class Night(BaseModel):
    """One night: its shares of correct images by condition, and what they depend on."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    started: str
    """UTC, ISO 8601."""
    verdict: str
    candidate: Mapping[str, float]
    champion: Mapping[str, float]
    facts: Mapping[str, str]
    """Digests of model, data, attacks and code, and the versions of the libraries."""


def changed(before: Night, now: Night) -> list[str]:
    """What differs between two nights, in words; empty when nothing does."""
    lines = []
    for key in sorted({*before.facts, *now.facts}):
        old, new = before.facts.get(key, "none"), now.facts.get(key, "none")
        if old != new:
            known = CAUSES.get(key)
            lines.append(f"{known} changed" if known else f"{key} changed from {old} to {new}")
    return lines


def attributed(before: Night | None, now: Night, least: float = 0.01) -> list[str]:
    """A line for every condition that dropped by more than `least` since the night before, and where to look.

    A drop of candidate and champion alike is the toolchain's or the data's; one of the candidate alone is the model's.
    """
    if before is None:
        return []
    differs = changed(before, now)
    causes = "; ".join(differs) or "nothing that is recorded changed"
    lines = []
    for condition in (name for name in now.candidate if name in before.candidate):
        drop = before.candidate[condition] - now.candidate[condition]
        if drop <= least:
            continue
        other = before.champion.get(condition, 0.0) - now.champion.get(condition, 0.0)
        who = "candidate and champion alike" if other > least else "the candidate alone"
        lines.append(f"{condition}: {100 * drop:.2f} points less than the night before, {who}; {causes}")
    return lines


def figure(nights: Sequence[Night], title: str) -> Figure:
    """A small panel per condition: solid the candidate, dashed the champion, crossed the nights that failed."""
    conditions = list(dict.fromkeys(name for night in nights for name in night.candidate))
    rows = max(1, -(-len(conditions) // ACROSS))
    drawn = new_figure(12, 1.1 + 1.6 * rows, title)
    if not conditions:
        return say_nothing(drawn, "no night has been compared yet")
    grid = list(drawn.subplots(rows, ACROSS, sharey=True, squeeze=False).flat)
    for axes, name in zip(grid, conditions, strict=False):
        _panel(axes, nights, name)
    for axes in grid[len(conditions) :]:
        axes.set_visible(False)
    drawn.supylabel("correct images (%)", fontsize=9)
    legend_below(drawn)
    return drawn


ACROSS = 5
"""Panels in a row."""


def _panel(axes: Axes, nights: Sequence[Night], condition: str) -> None:
    """One condition over the nights; the first and the last night have their dates below."""
    shares = {who: [100 * getattr(night, who).get(condition, float("nan")) for night in nights] for who in WHO}
    at, failed = range(len(nights)), [i for i, night in enumerate(nights) if night.verdict in ("FAIL", "INVALID")]
    axes.plot(at, shares["candidate"], color=PALETTE[0], marker=".", ms=4, lw=1.3, label="candidate")
    axes.plot(at, shares["champion"], color="0.4", ls="--", lw=1, label="champion")
    crossed = [shares["candidate"][i] for i in failed]
    axes.plot(failed, crossed, color=PALETTE[5], marker="x", ms=7, mew=2, ls="", label="night failed or invalid")
    axes.set_title(plain(condition), fontsize=9)
    axes.set(ylim=(-4, 104), yticks=(0, 50, 100), xlim=(-0.7, len(nights) - 0.3))
    ends = sorted({0, len(nights) - 1})
    axes.set_xticks(ends, [nights[i].started[5:10] for i in ends])
    axes.tick_params(labelsize=8)
    tidy(axes)


WHO = ("candidate", "champion")
