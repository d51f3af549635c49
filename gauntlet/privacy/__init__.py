"""Every theft, THEFTS: what a model reveals about its training images, and about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gauntlet.declare import Registry
from gauntlet.models.access import Access, suffices
from gauntlet.privacy.extraction import ExtractionCopycat, ExtractionKnockoff
from gauntlet.privacy.membership import MembershipGap, MembershipLoss
from gauntlet.privacy.theft import Roc, Theft, TheftResult

__all__ = ["THEFTS", "AnyTheft", "Roc", "Theft", "TheftResult", "Thefts", "parse", "theft", "usual"]
__all__ += ["ExtractionCopycat", "ExtractionKnockoff", "MembershipGap", "MembershipLoss"]

THEFTS = Registry("theft", Theft, MembershipGap, MembershipLoss, ExtractionCopycat, ExtractionKnockoff)
theft, parse = THEFTS.make, THEFTS.parse
if TYPE_CHECKING:
    AnyTheft = Theft
else:
    AnyTheft = THEFTS.annotation
    """A theft's settings, or text such as `extraction-knockoff:queries=1000`."""
Thefts = tuple[AnyTheft, ...]


def usual(access: Access) -> tuple[Theft, ...]:
    """What is tried when nothing is asked for: every membership attack and the strongest copy that `access` allows."""
    shown = [kind() for kind in (MembershipGap, MembershipLoss) if suffices(access, kind.needs)]
    return (*shown, ExtractionKnockoff() if suffices(access, "scores") else ExtractionCopycat())
