"""Every evasion attack, one small class each, and ATTACKS.

Adding one is adding one class in one file and its name to the union below: the command line, the flows' parameters,
the logged params, the report and the tests follow.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, TypeAdapter

from gauntlet.attacks.apgd import ApgdCe, ApgdDlr
from gauntlet.attacks.base import Attack, Crafted, measured, one_hot
from gauntlet.attacks.fab import Fab
from gauntlet.attacks.fgsm import Fgsm
from gauntlet.attacks.hopskipjump import HopSkipJump
from gauntlet.attacks.libraries import Library
from gauntlet.attacks.minimum import CwL2, Ddn, DeepFool, Fmn
from gauntlet.attacks.noise import GaussianNoise, UniformNoise
from gauntlet.attacks.pgd import Pgd
from gauntlet.attacks.spatial import Spatial
from gauntlet.attacks.square import Square
from gauntlet.declare import parse_declaration

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
]
__all__ += ["ApgdCe", "ApgdDlr", "CwL2", "Ddn", "DeepFool", "Fab", "Fgsm", "Fmn", "GaussianNoise", "HopSkipJump"]
__all__ += ["Pgd", "Spatial", "Square", "UniformNoise", "parse"]

_Noise = UniformNoise | GaussianNoise
_Bounded = Fgsm | Pgd | ApgdCe | ApgdDlr | Fab | Square | Spatial
_Minimal = DeepFool | Ddn | Fmn | CwL2 | HopSkipJump
_Any = _Noise | _Bounded | _Minimal
_Declared = Annotated[_Any, Field(discriminator="name")]
ATTACKS: dict[str, type[Attack]] = {kind.model_fields["name"].default: kind for kind in get_args(_Any)}

PRESETS: dict[str, tuple[str, ...]] = {"autoattack": ("apgd-ce", "apgd-dlr", "fab", "square")}
"""Names for several attacks. `autoattack` is the standard version, in its order (Croce & Hein 2020, section 5)."""

RENAMED = {"gaussian-noise": "noise-gaussian"}
"""Old names, still understood."""


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,key=value` to the settings of an attack; anything but text passes unchanged."""
    if isinstance(text, dict) and text.get("name") in RENAMED:
        return text | {"name": RENAMED[text["name"]]}
    if not isinstance(text, str):
        return text
    name, colon, rest = text.partition(":")
    return parse_declaration(f"{RENAMED.get(name, name)}{colon}{rest}", ATTACKS, "attack")


def _expanded(attacks: Any) -> Any:
    """A list of attacks with every preset's name replaced by its attacks."""
    listed = [attacks] if isinstance(attacks, str | dict | Attack) else attacks
    if not isinstance(listed, list | tuple):
        return attacks
    return [one for text in listed for one in (PRESETS.get(text, (text,)) if isinstance(text, str) else (text,))]


AnyAttack = Annotated[_Declared, BeforeValidator(parse, json_schema_input_type=_Declared | str)]
"""An attack's settings, or text such as `pgd:max_iter=40`."""
Attacks = Annotated[tuple[AnyAttack, ...], BeforeValidator(_expanded, json_schema_input_type=list[_Declared | str])]
"""Several of them, or presets: the type of every flow's and command's parameter."""


def attack(settings: str | dict[str, Any]) -> Attack:
    """The attack of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Attack = TypeAdapter(AnyAttack).validate_python(settings)
    return checked
