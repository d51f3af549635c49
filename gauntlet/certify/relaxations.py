"""Certificates by bounds on every step of the network: intervals, and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gauntlet.certify.base import Certifier, Proven
from gauntlet.models.access import Target
from gauntlet.threat import Images, Labels

if TYPE_CHECKING:
    from gauntlet.certify.prover import Prover


class Interval(Certifier):
    """Interval bound propagation: cheap, and tight only for networks that were trained for it.

    Gowal et al., On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models, 2018.
    """

    name: Literal["interval"] = "interval"

    def check(self, target: Target) -> None:
        """A Keras network of layers that can be bounded."""
        super().check(target)
        self._prover(target)

    def prove(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Proven:
        """Images whose margins are positive by intervals alone."""
        return self._prover(target).margins(x, y, eps, lines=False) > 0

    def _prover(self, target: Any, refine: int = 0) -> Prover:
        from gauntlet.certify.prover import Weighed, prover

        low, high = target.clip_values
        return prover(Weighed.of(target.model), self.norm, (float(low), float(high)), refine)


class Crown(Interval):
    """Backward linear relaxation; images that intervals prove are not asked again.

    Zhang et al., Efficient Neural Network Robustness Certification with General Activation Functions, NeurIPS 2018.
    Steps that are small enough get their own bounds by lines, the others (wide convolutions) intervals, as in
    CROWN-IBP (Zhang et al., ICLR 2020).
    """

    name: Literal["crown"] = "crown"  # type: ignore[assignment]
    refine: int = Field(
        1_000_000,
        ge=0,
        le=8_000_000,
        description="Numbers an image up to which the bounds of a step are found by lines as well",
    )
    patience: int = Field(
        64,
        ge=0,
        le=1_000_000,
        description="Images in a row, most promising first, that may fail before the rest is left open; 0: try all",
    )

    def prove(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Proven:
        """Images whose margins are positive by intervals, by lines over intervals, or by lines alone."""
        prover = self._prover(target, self.refine)
        return prover.margins(x, y, eps, lines=True, patience=self.patience) > 0
