"""Every evasion attack, one small class each, and ATTACKS.

Adding one is adding one class in one file and its name to the registry below: the command line, the flows' parameters,
the logged params, the report and the tests follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from gauntlet.attacks.apgd import ApgdCe, ApgdDlr
from gauntlet.attacks.base import Attack, Crafted, measured, one_hot
from gauntlet.attacks.differences import FiniteDifferences
from gauntlet.attacks.fab import Fab
from gauntlet.attacks.fgsm import Fgsm
from gauntlet.attacks.hopskipjump import HopSkipJump
from gauntlet.attacks.libraries import Library
from gauntlet.attacks.minimum import CwL2, Ddn, DeepFool, Fmn
from gauntlet.attacks.noise import GaussianNoise, UniformNoise
from gauntlet.attacks.pgd import Pgd
from gauntlet.attacks.spatial import Spatial
from gauntlet.attacks.square import Square
from gauntlet.declare import Registry

__all__ = [
    "ATTACKS",
    "PRESETS",
    "AnyAttack",
    "Attack",
    "Attacks",
    "Crafted",
    "Library",
    "attack",
    "measured",
    "one_hot",
    "parse",
]
__all__ += ["ApgdCe", "ApgdDlr", "CwL2", "Ddn", "DeepFool", "Fab", "Fgsm", "FiniteDifferences", "Fmn"]
__all__ += ["GaussianNoise", "HopSkipJump", "Pgd", "Spatial", "Square", "UniformNoise"]

_NOISE = (UniformNoise, GaussianNoise)
_BOUNDED = (Fgsm, Pgd, ApgdCe, ApgdDlr, Fab, Square, FiniteDifferences, Spatial)
_MINIMAL = (DeepFool, Ddn, Fmn, CwL2, HopSkipJump)
RENAMED = {"gaussian-noise": "noise-gaussian"}
"""Old names, still understood."""
ATTACKS = Registry("attack", Attack, *_NOISE, *_BOUNDED, *_MINIMAL, renamed=RENAMED)
attack, parse = ATTACKS.make, ATTACKS.parse

PRESETS: dict[str, tuple[str, ...]] = {"autoattack": ("apgd-ce", "apgd-dlr", "fab", "square")}
"""Names for several attacks. `autoattack` is the standard version, in its order (Croce & Hein 2020, section 5)."""


def _expanded(attacks: Any) -> Any:
    """A list of attacks with every preset's name replaced by its attacks."""
    listed = [attacks] if isinstance(attacks, str | dict | Attack) else attacks
    if not isinstance(listed, list | tuple):
        return attacks
    return [one for text in listed for one in (PRESETS.get(text, (text,)) if isinstance(text, str) else (text,))]


if TYPE_CHECKING:
    AnyAttack = Attack
    Attacks = tuple[Attack, ...]
else:
    AnyAttack = ATTACKS.annotation
    """An attack's settings, or text such as `pgd:max_iter=40`."""
    _listed = BeforeValidator(_expanded, json_schema_input_type=list[ATTACKS.declared | str])
    Attacks = Annotated[tuple[AnyAttack, ...], _listed]
    """Several of them, or presets: the type of every flow's and command's parameter."""
