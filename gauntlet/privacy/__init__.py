"""Every theft, THEFTS: what a model gives away of its training images, and of itself."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, TypeAdapter

from gauntlet.declare import parse_declaration
from gauntlet.models.access import Access, suffices
from gauntlet.privacy.extraction import ExtractionCopycat, ExtractionKnockoff
from gauntlet.privacy.membership import MembershipGap, MembershipLoss
from gauntlet.privacy.theft import Roc, Theft, TheftResult

__all__ = ["THEFTS", "AnyTheft", "Roc", "Theft", "TheftResult", "Thefts", "parse", "theft", "usual"]
__all__ += ["ExtractionCopycat", "ExtractionKnockoff", "MembershipGap", "MembershipLoss"]

_Any = MembershipGap | MembershipLoss | ExtractionCopycat | ExtractionKnockoff
_Declared = Annotated[_Any, Field(discriminator="name")]
THEFTS: dict[str, type[Theft]] = {kind.model_fields["name"].default: kind for kind in get_args(_Any)}


def parse(text: Any) -> Any:
    """`NAME` or `NAME:key=value,...` to the settings of a theft; anything but text passes unchanged."""
    return parse_declaration(text, THEFTS, "theft")


AnyTheft = Annotated[_Declared, BeforeValidator(parse, json_schema_input_type=_Declared | str)]
"""A theft's settings, or text such as `extraction-knockoff:queries=1000`."""
Thefts = tuple[AnyTheft, ...]


def theft(settings: str | dict[str, Any]) -> Theft:
    """The theft of a declaration: text as on the command line, or a mapping with its `name`."""
    checked: Theft = TypeAdapter(AnyTheft).validate_python(settings)
    return checked


def usual(access: Access) -> tuple[Theft, ...]:
    """What is tried when nothing is asked for: every membership attack and the strongest copy that `access` allows."""
    shown = [kind() for kind in (MembershipGap, MembershipLoss) if suffices(access, kind.needs)]
    return (*shown, ExtractionKnockoff() if suffices(access, "scores") else ExtractionCopycat())
