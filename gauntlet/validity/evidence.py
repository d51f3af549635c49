"""What an evaluation left behind, and a doubt about it: the words of `checks.py` and `indicators.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from gauntlet.attacks import Attack
from gauntlet.certify import Certified
from gauntlet.evaluation.outcome import Attacked
from gauntlet.measurement import budget
from gauntlet.validity.probes import Probes
from gauntlet.validity.searched import STEPS, searches
from gauntlet.validity.stakes import at_stake

Validity = Literal["VALID", "SUSPECT", "INVALID"]
ORDER: tuple[Validity, ...] = ("VALID", "SUSPECT", "INVALID")
Key = tuple[Attack, float, str]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation left behind."""

    results: Sequence[Attacked]
    n_classes: int
    probes: Probes = field(default_factory=Probes)
    inverted: bool = False
    """Whether the logits are squashed outputs, inverted: the squashing could not be removed from the model."""
    accept_chance: bool = False
    """Whether a model at chance level is meant to be evaluated."""
    expectation: bool = False
    """Whether the attacks averaged over the draws of a random model (Athalye et al. 2018, EOT)."""
    bounds: tuple[float, float] = (0.0, 1.0)
    certified: Sequence[Certified] = ()

    @property
    def rests_on_search(self) -> bool:
        """Whether the model has no gradients, and in every norm other searches break no more than the battery's."""
        held = self.probes.searched
        left = {case.norm for case in at_stake(self.results)} - {one.after.attack.norm for one in held}
        searched = self.probes.zero_gradients >= STEPS and bool(searches(self.results)) and not left
        return searched and not any(one.beats for one in held)


@dataclass(frozen=True)
class Doubt:
    """A reason for doubt; `about` names the result (attack, eps, knowledge), or None for all of them."""

    verdict: Validity
    reason: str
    about: Key | None = None
    whole: bool | None = None
    """Whether it counts for the whole evaluation; where None, `doubts` decides."""
    check: str = ""
    """Who raised it; filled in by `doubts`."""
    advice: Attack | None = None
    """What to attack with as well, where the battery is too weak."""


def key(result: Attacked) -> Key:
    return result.attack, result.eps, result.knowledge


def setting(result: Attacked) -> tuple[str, float]:
    return result.attack.norm, result.eps


def at(result: Attacked) -> str:
    """The budget of a result, with its norm unless that is L∞."""
    return budget(result.eps) if result.attack.norm == "inf" else f"L{result.attack.norm} {budget(result.eps)}"


def name(result: Attacked) -> str:
    """The attack and the budget of a result."""
    return f"{result.named} at {at(result)}"


def direct(results: Sequence[Attacked]) -> list[Attacked]:
    """Those of adversaries that attack the very model that is scored."""
    return [result for result in results if result.attack.adversary and result.knowledge != "transfer"]
