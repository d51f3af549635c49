"""Does it hold? A verdict on every published figure, and on every conclusion by a rule, and RULES.

A rule is one small function: its parameters are the stages it needs, its result the verdict and the figures it rests
on. It sees what was measured and never what was published, so it cannot be written to please.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gauntlet.measurement import Measurement

Verdict = Literal["holds", "does not hold", "cannot be told"]
FigureVerdict = Literal["confirmed", "differs", "not comparable"]
MARGIN = 0.10
"""A model resists an attack when it loses at most these 10 points to it."""
LEARNED = 0.5
"""A backdoor is learned when it succeeds on at least half of the images."""


@dataclass(frozen=True)
class Measured:
    """What one stage measured: metrics by name (`x`, perhaps with `x_low` and `x_high`) and shares with intervals."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    measurements: Sequence[Measurement] = ()

    def attacked(self, knowledge: str = "white-box") -> list[Measurement]:
        """Accuracies under each attack."""
        found = [m for m in self.measurements if m.knowledge == knowledge and m.metric == "accuracy"]
        return [m for m in found if m.condition != "worst case"]

    def largest(self, knowledge: str = "white-box") -> list[Measurement]:
        """Those at the largest budget."""
        found = self.attacked(knowledge)
        return [m for m in found if m.eps == max(other.eps or 0.0 for other in found)]

    def worst(self, knowledge: str = "white-box") -> Measurement:
        """The lowest of those; `LookupError` when there are none."""
        return _first(sorted(self.largest(knowledge), key=lambda m: m.value))

    @property
    def clean(self) -> Measurement:
        """Clean accuracy."""
        return _first(m for m in self.measurements if m.condition == "clean")

    def backdoor(self, poisoned: bool) -> Measurement:
        """The trigger's success rate on the poisoned model, or on the clean one."""
        rates = [m for m in self.measurements if m.condition == "trigger" and m.metric == "attack_success_rate"]
        return _first(m for m in rates if (m.model != "baseline") == poisoned)


@dataclass(frozen=True)
class Ruling:
    """A verdict on a conclusion, and the figures it rests on."""

    verdict: Verdict
    evidence: str


def judge(published: float, value: float, low: float, high: float, tolerance: float = 0.01) -> FigureVerdict:
    """Confirmed when the published figure lies within the interval, or within `tolerance` of the measured value."""
    near = abs(published - value) <= tolerance + 1e-9
    return "confirmed" if near or low <= published <= high else "differs"


def backdoor_learned(poisoned: Measured) -> Ruling:
    """The trigger works on other classes' images far more often than on a clean model, and on most of them."""
    rate, clean = poisoned.backdoor(True), poisoned.backdoor(False)
    evidence = f"success on images of other classes {_said(rate)}, on the clean model {_said(clean)}"
    if rate.low <= clean.high or rate.high < LEARNED:
        return Ruling("does not hold", evidence)
    return Ruling("holds" if rate.value >= LEARNED else "cannot be told", evidence)


def robust_after_defense(white_box: Measured, transfer: Measured) -> Ruling:
    """Attacked itself, by one step and by many, the model keeps its clean accuracy but for 10 points."""
    worst = white_box.worst()
    own, others = _said(*white_box.largest()), _said(*transfer.largest("transfer"))
    evidence = f"attacked itself {own}; by another model's images {others}; {_clean(white_box)}"
    return _resists(worst, white_box.clean.value - MARGIN, evidence)


def naturally_robust(published: Measured, larger: Measured) -> Ruling:
    """At budgets usual for the data set, and under many steps, the model keeps its clean accuracy but for 10 points."""
    usual = _said(*larger.attacked())
    evidence = f"as published {_said(published.worst())}; at usual budgets and steps {usual}; {_clean(larger)}"
    return _resists(larger.worst(), larger.clean.value - MARGIN, evidence)


def defends_adaptively(white_box: Measured, transfer: Measured, undefended: Measured) -> Ruling:
    """To know the defense gains the attacker at most 10 points, and the undefended model does worse."""
    worst, other, bare = white_box.worst(), transfer.worst("transfer"), undefended.worst()
    said = [_said(*one) for one in (white_box.largest(), transfer.largest("transfer"), undefended.largest())]
    evidence = f"attacked through the defense {said[0]}; not knowing it {said[1]}; undefended {said[2]}"
    if worst.high <= bare.high:
        return Ruling(_unless_invalid(worst, "does not hold"), evidence)
    ruling = _resists(worst, other.value - MARGIN, evidence)
    # That it does better than the undefended model must be certain as well.
    unsure = ruling.verdict == "holds" and worst.low <= bare.high
    return Ruling("cannot be told", ruling.evidence) if unsure else ruling


def detects_better_than_chance(detector: Measured) -> Ruling:
    """The area under the detector's ROC curve is above one half."""
    found = detector.metrics
    low, high = found["detect/auc_low"], found["detect/auc_high"]
    evidence = (
        f"AUC {found['detect/auc']:.3f} [{low:.3f}, {high:.3f}]; "
        f"detects {_percent(found['detect/tpr_at_fpr_5'])} at 5 % false alarms, "
        f"{_percent(found['detect/tpr_at_fpr_1'])} at 1 %; its fixed threshold "
        f"{_percent(found['detect/tpr_at_threshold'])} at {_percent(found['detect/fpr_at_threshold'])} false alarms; "
        "the attacker knows of no detector"
    )
    verdict: Verdict = "holds" if low > 0.5 else "does not hold" if high <= 0.5 else "cannot be told"
    return Ruling(verdict, evidence)


def scan_clean(scan: Measured) -> Ruling:
    """The scanner finds nothing, and could read every file."""
    counts = {level: int(scan.metrics[f"scan/{level}"]) for level in ("high", "medium", "low")}
    evidence = "findings: " + ", ".join(f"{count} {level}" for level, count in counts.items())
    evidence += f" in {int(scan.metrics['scan/lines']):,} lines; {int(scan.metrics['scan/errors'])} files not scanned"
    if any(counts.values()):
        return Ruling("does not hold", evidence)
    return Ruling("cannot be told" if scan.metrics["scan/errors"] else "holds", evidence)


def scan_finds_pickle(scan: Measured) -> Ruling:
    """The scanner flags the loading of a pickle (B301)."""
    found = int(scan.metrics.get("scan/B301", 0))
    files = int(scan.metrics["scan/errors"])
    evidence = f"B301 found {found} times in {int(scan.metrics['scan/lines']):,} lines; {files} files not scanned"
    return Ruling("holds" if found else "cannot be told" if files else "does not hold", evidence)


Rule = Callable[..., Ruling]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        backdoor_learned,
        robust_after_defense,
        naturally_robust,
        defends_adaptively,
        detects_better_than_chance,
        scan_clean,
        scan_finds_pickle,
    )
}


def roles(rule: str) -> tuple[str, ...]:
    """The stages that a rule needs, by the names of its parameters."""
    return tuple(inspect.signature(RULES[rule]).parameters)


def conclude(rule: str, stages: Mapping[str, Measured | None]) -> Ruling:
    """The ruling of a rule; it cannot be told when a stage failed or did not measure what the rule needs."""
    failed = [role for role, measured in stages.items() if measured is None]
    if failed:
        return Ruling("cannot be told", f"stage failed: {', '.join(failed)}")
    try:
        return RULES[rule](**stages)
    except LookupError:
        return Ruling("cannot be told", "what the rule needs was not measured")


def _first(found: Iterable[Measurement]) -> Measurement:
    """The first, or `LookupError`: `conclude` says so when what a rule needs was not measured."""
    return list(found)[0]  # noqa: RUF015 - next() would raise StopIteration


def _resists(worst: Measurement, needed: float, evidence: str) -> Ruling:
    """Whether an accuracy under attack reaches what is needed, as far as its interval can tell."""
    evidence += f"; needed {_percent(needed)}"
    if worst.low >= needed:
        return Ruling(_unless_invalid(worst, "holds"), evidence)
    return Ruling(_unless_invalid(worst, "does not hold" if worst.high < needed else "cannot be told"), evidence)


def _unless_invalid(m: Measurement, verdict: Verdict) -> Verdict:
    return "cannot be told" if m.validity == "INVALID" else verdict


def _said(*found: Measurement) -> str:
    return ", ".join(f"{m.label} {m.text} % (n = {m.n:,})" for m in found)


def _clean(measured: Measured) -> str:
    return f"clean {measured.clean.text} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
