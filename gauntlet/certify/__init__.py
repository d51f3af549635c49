"""Every certificate, and CERTIFIERS: which images no attack within a budget can break. A model and images come in.

Attacks bound robust accuracy from above, certificates from below: certified <= robust <= attacked, image by image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gauntlet.certify.base import Certified, Certifier, certify
from gauntlet.certify.exact import Exact
from gauntlet.certify.relaxations import Crown, Interval
from gauntlet.certify.smoothing import Smoothing
from gauntlet.declare import Registry

__all__ = [
    "CERTIFIERS",
    "AnyCertifier",
    "Certified",
    "Certifier",
    "Crown",
    "Exact",
    "Interval",
    "Smoothing",
    "certifier",
]
__all__ += ["certify", "parse"]

CERTIFIERS = Registry("certifier", Certifier, Interval, Crown, Exact, Smoothing)
certifier, parse = CERTIFIERS.make, CERTIFIERS.parse
if TYPE_CHECKING:
    AnyCertifier = Certifier
else:
    AnyCertifier = CERTIFIERS.annotation
    """A certifier's settings, or text such as `crown:norm=2`."""
