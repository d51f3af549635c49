"""The last nights, condition by condition, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from gauntlet.figures import PALETTE, legend_below, new_figure, plain, say_nothing, tidy

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
    found = []
    for key in sorted({*before.facts, *now.facts}):
        old, new = before.facts.get(key, "none"), now.facts.get(key, "none")
        if old != new:
            known = CAUSES.get(key)
            found.append(f"{known} changed" if known else f"{key} changed from {old} to {new}")
    return found


def attributed(before: Night | None, now: Night, least: float = 0.01) -> list[str]:
    """A line for every condition that dropped by more than `least` since the night before, and where to look.

    A drop of candidate and champion alike is the toolchain's or the data's; one of the candidate alone is the model's.
    """
    if before is None:
        return []
    differs = changed(before, now)
    causes = "; ".join(differs) or "nothing that is recorded changed"
    found = []
    for condition in (name for name in now.candidate if name in before.candidate):
        drop = before.candidate[condition] - now.candidate[condition]
        if drop <= least:
            continue
        other = before.champion.get(condition, 0.0) - now.champion.get(condition, 0.0)
        who = "candidate and champion alike" if other > least else "the candidate alone"
        found.append(f"{condition}: {100 * drop:.2f} points less than the night before, {who}; {causes}")
    return found


def figure(nights: Sequence[Night], title: str) -> Figure:
    """Shares of correct images over the nights: solid for the candidate, dashed for the champion."""
    drawn = new_figure(10.5, 5.2, title)
    conditions = list(dict.fromkeys(name for night in nights for name in night.candidate))[: 2 * len(PALETTE)]
    if not conditions:
        return say_nothing(drawn, "no night has been compared yet")
    axes, at = drawn.add_subplot(), range(len(nights))
    for number, name in enumerate(conditions):
        look: dict[str, Any] = {
            "color": PALETTE[number % len(PALETTE)],
            "marker": "o" if number < len(PALETTE) else "s",
        }
        values = [100 * night.candidate.get(name, float("nan")) for night in nights]
        axes.plot(at, values, label=plain(name), ms=4, **look)
        champion = [100 * night.champion.get(name, float("nan")) for night in nights]
        axes.plot(at, champion, ls="--", lw=1, alpha=0.6, **look | {"marker": ""})
    labels = [f"{night.started[5:10]}\n{night.verdict.lower()}" for night in nights]
    axes.set_xticks(list(at), labels, fontsize=8)
    axes.set(xlabel="night (dashed: the champion)", ylabel="correct images (%)", ylim=(-2, 102))
    tidy(axes)
    legend_below(drawn)
    return drawn
