"""Poisonings of a training set, and POISONINGS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gauntlet.declare import Registry
from gauntlet.poisoning.base import Poisoned, Poisoning
from gauntlet.poisoning.blends import Blended, Sinusoidal, Warped
from gauntlet.poisoning.cleanlabel import CleanLabel
from gauntlet.poisoning.labels import LabelFlips
from gauntlet.poisoning.squares import AllToAll, Corners, CornerTrigger, OnePixel, Patch, SourceSpecific

POISONINGS = Registry(
    "poisoning",
    Poisoning,
    CornerTrigger,
    Patch,
    Corners,
    OnePixel,
    Blended,
    Sinusoidal,
    Warped,
    CleanLabel,
    AllToAll,
    SourceSpecific,
    LabelFlips,
)
poisoning, parse = POISONINGS.make, POISONINGS.parse
if TYPE_CHECKING:
    AnyPoisoning = Poisoning
else:
    AnyPoisoning = POISONINGS.annotation

__all__ = [
    "POISONINGS",
    "AllToAll",
    "AnyPoisoning",
    "Blended",
    "CleanLabel",
    "CornerTrigger",
    "Corners",
    "LabelFlips",
    "OnePixel",
    "Patch",
    "Poisoned",
    "Poisoning",
    "Sinusoidal",
    "SourceSpecific",
    "Warped",
    "parse",
    "poisoning",
]
