"""One measured share, the record every table and chart is made of, and the comparison table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field, model_validator

if TYPE_CHECKING:
    from pandas import DataFrame

Group = Literal["clean", "noise", "certified", "white-box", "black-box", "transfer", "trigger", "attack success rate"]

# The order of a table's columns, left to right.
GROUPS: tuple[Group, ...] = (
    "clean",
    "noise",
    "certified",
    "white-box",
    "black-box",
    "transfer",
    "trigger",
    "attack success rate",
)
MARKS = {"SUSPECT": "?", "INVALID": "✗"}
MISSING = "\N{EN DASH}"


class Measurement(BaseModel, frozen=True, extra="forbid"):
    """A share of images, measured for one model under one condition.

    Raises `pydantic.ValidationError` unless 0 <= low <= value <= high <= 1.
    """

    model: str = Field(description="the row: baseline, poisoned, adversarial-training, ...")
    condition: str = Field(description="clean, an attack's name (fgsm, pgd, noise-gaussian), or trigger")
    metric: Literal["accuracy", "attack_success_rate"] = "accuracy"
    knowledge: Literal["none", "white-box", "black-box", "transfer"] = Field(
        "none", description="what the attacker knew; none for clean, noise and trigger"
    )
    eps: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="budget, in units of the pixel range (std for noise)"
    )
    norm: str | None = Field(None, description="of the budget: inf, 2, or std")
    value: float = Field(ge=0, le=1, description="the share")
    low: float = Field(ge=0, le=1, description="lower end of its 95 % Wilson interval")
    high: float = Field(ge=0, le=1, description="upper end of its 95 % Wilson interval")
    n: int = Field(ge=1, description="images the share is of")
    proven: float | None = Field(None, ge=0, le=1, description="share of the same images that is certified")
    validity: Literal["VALID", "SUSPECT", "INVALID"] | None = None
    reasons: tuple[str, ...] = ()
    run_id: str | None = None

    @model_validator(mode="after")
    def _interval_holds_value(self) -> Measurement:
        # A share read back from a store may have lost its last digits.
        if not self.low - 1e-6 <= self.value <= self.high + 1e-6:
            raise ValueError(f"expected low <= value <= high, got {self.low}, {self.value}, {self.high}")
        return self

    @property
    def group(self) -> Group:
        """The kind of column this belongs to, one of `GROUPS`."""
        if self.metric == "attack_success_rate":
            return "attack success rate"
        if self.condition == "clean":
            return "clean"
        if self.condition.startswith("trigger"):
            return "trigger"
        if self.condition.startswith("certified"):
            return "certified"
        return "noise" if self.knowledge == "none" else self.knowledge

    @property
    def label(self) -> str:
        """The column's header, such as `clean`, `pgd L2 1`, `transfer fgsm 8/255` or `trigger ASR`."""
        parts = [
            self.knowledge if self.knowledge in ("black-box", "transfer") else "",
            self.condition,
            "" if self.norm in (None, "inf", "std") else f"L{self.norm}",
            "" if self.eps is None else budget(self.eps),
            "ASR" if self.metric == "attack_success_rate" else "",
        ]
        return " ".join(part for part in parts if part)

    @property
    def mark(self) -> str:
        """`?` if the number is suspect, `✗` if it is invalid, otherwise empty."""
        return MARKS.get(self.validity or "", "")

    @property
    def text(self) -> str:
        """The number in percent with its interval and mark: `98.72 [98.5, 98.9] ?`.

        With what is proven of the same images it is an interval itself, `61.20–68.90 [58.1, 71.8]`: proven to attacked,
        and from the lower end of the one's sampling interval to the upper end of the other's.
        """
        low, value = self.low, f"{100 * self.value:.2f}"
        if self.proven is not None:
            low, value = wilson(round(self.proven * self.n), self.n)[0], f"{100 * self.proven:.2f}{MISSING}{value}"
        return f"{value} [{100 * low:.1f}, {100 * self.high:.1f}] {self.mark}".rstrip()

    def with_proven(self, count: int) -> Measurement:
        """The same with the number of its images that are certified."""
        return self.model_copy(update={"proven": count / self.n})


def budget(eps: float) -> str:
    """`eps` with four significant digits, or as `8/255` when it is that fraction and no round decimal."""
    k = round(eps * 255)
    is_fraction = 1 <= k <= 64 and abs(eps * 255 - k) < 1e-5
    is_decimal = abs(eps - round(eps, 3)) < 1e-7
    return f"{k}/255" if is_fraction and not is_decimal else f"{eps:.4g}"


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval (low, high), in [0, 1], of a share of `successes` out of `n`, at confidence `level`.

    E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
    J. Am. Stat. Assoc. 22 (1927) 209-212.
    Raises ValueError unless 0 <= successes <= n, n > 0 and 0 < level < 1.
    """
    if not (0 <= successes <= n and n > 0 and 0 < level < 1):
        raise ValueError(f"expected 0 <= successes <= n, n > 0, 0 < level < 1, got {successes}, {n}, {level}")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    # At 0 and at n the end of the interval is the share itself, but for rounding.
    return max(0.0, min(float(low), successes / n)), min(1.0, max(float(high), successes / n))


def models(measurements: Sequence[Measurement]) -> list[str]:
    """The models, in the order in which they are first seen."""
    return list(dict.fromkeys(m.model for m in measurements))


def columns(measurements: Sequence[Measurement]) -> list[str]:
    """The labels: clean, noise, attacks by name and budget, transfer, trigger, attack success rates."""
    return list(dict.fromkeys(m.label for m in sorted(measurements, key=_place)))


def _place(m: Measurement) -> tuple[int, bool, str, str, str, float]:
    """Where a column stands; a trigger's success comes last of the success rates."""
    is_trigger = m.condition.startswith("trigger")
    return GROUPS.index(m.group), is_trigger, m.knowledge, m.condition, m.norm or "", m.eps or 0.0


def cells(measurements: Sequence[Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    """The measurements by (model, label). More than one in a cell differ in what no label shows."""
    grouped: dict[tuple[str, str], list[Measurement]] = {}
    for m in measurements:
        grouped.setdefault((m.model, m.label), []).append(m)
    return grouped


def counts(measurements: Sequence[Measurement]) -> dict[str, int | None]:
    """The number of images behind each label, None where the models' numbers differ."""
    seen: dict[str, set[int]] = {label: set() for label in columns(measurements)}
    for m in measurements:
        seen[m.label].add(m.n)
    return {label: ns.copy().pop() if len(ns) == 1 else None for label, ns in seen.items()}


def table(measurements: Sequence[Measurement]) -> DataFrame:
    """The comparison: a row per model, a column per label, cells such as `98.72 [98.5, 98.9]` in percent.

    A cell names its n where n differs within the column (see `counts`); several numbers of one
    cell stand side by side; what was not measured is a dash; `?` is suspect and `✗` invalid.
    """
    from pandas import DataFrame, Index

    grouped, same = cells(measurements), counts(measurements)
    rows, labels = models(measurements), columns(measurements)
    text = [[_cell(grouped.get((row, label), []), same[label]) for label in labels] for row in rows]
    return DataFrame(text, index=Index(rows, name="model"), columns=labels)


def _cell(measurements: Sequence[Measurement], n: int | None) -> str:
    texts = [m.text if n else f"{m.text} n={m.n:,}" for m in measurements]
    return "; ".join(texts) or MISSING


def doubts(measurements: Sequence[Measurement]) -> list[str]:
    """One line for a model's numbers that are doubted for the same reasons: which, how severe, and why."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for m in (m for m in measurements if m.mark):
        why = f"{m.validity}{': ' if m.reasons else ''}{'; '.join(m.reasons)}"
        alike.setdefault((m.mark, m.model, why), []).append(m.label)
    return [f"{mark} {model}, {', '.join(labels)}: {why}" for (mark, model, why), labels in alike.items()]
