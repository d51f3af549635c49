"""The evaluation card: what was measured of one model, bound to its weights, so that it can be checked later.

A registered version is promoted only through a card that verifies against the model's own digest.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.errors import GateError
from gauntlet.gate.signature import check, sign
from gauntlet.measurement import Measurement

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]


class Card(BaseModel):
    """Everything that a reader needs to check a model's numbers, or to repeat them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="the registered version, models:/NAME/VERSION")
    model_digest: str = Field(description="SHA-256 of the weights")
    dataset: str
    dataset_digest: str
    code_digest: str = Field(description="SHA-256 of the code that measured")
    versions: dict[str, str] = Field(description="of the libraries that the numbers depend on")
    seed: int
    fold: int = Field(0, description="which of the disjoint subsets of test images it was judged on")
    attacks: list[dict[str, Any]] = Field(description="settings of every attack")
    threat_models: list[dict[str, Any]] = Field(description="norm, eps, goal, knowledge")
    triggers: list[dict[str, Any]] = Field(default_factory=list, description="known triggers that were tried")
    poison_index_digests: list[str] = Field(default_factory=list)
    backdoor_scan: dict[str, Any] | None = Field(
        None, description="verdict, class and p-value of the scan for unknown backdoors, and the MLflow run that has it"
    )
    measurements: list[Measurement]
    validity: Literal["VALID", "SUSPECT", "INVALID"]
    reasons: list[str] = Field(default_factory=list, description="why the validity is not VALID")
    champion: str | None = Field(None, description="what it was compared with")
    anchor: str | None = Field(None, description="the fixed version that promotions are held against")
    anchor_verdict: Verdict | None = Field(None, description="the gate against the anchor")
    unmet: list[str] = Field(default_factory=list, description="minima that a first champion must reach and does not")
    verdict: Verdict
    conditions: list[dict[str, Any]] = Field(default_factory=list, description="the gate, condition by condition")
    runs: dict[str, str] = Field(default_factory=dict, description="the MLflow run of every stage")
    created: str = Field(description="UTC, ISO 8601")
    seal: str = Field("", description="SHA-256 of everything else")
    signature: str = Field("", description="Ed25519 signature of the seal, where there is a key")

    def sealed(self) -> Card:
        """The same with its seal, signed where GAUNTLET_SIGNING_KEY names a key."""
        seal = self._digest()
        return self.model_copy(update={"seal": seal, "signature": sign(seal.encode())})

    def to_json(self) -> str:
        """As it is stored."""
        return self.model_dump_json(indent=1)

    def verify(self, model_digest: str, dataset_digest: str) -> None:
        """Raise `GateError` unless the card is whole, of this model on this data, and signed where that is asked."""
        wrong = {
            "its seal is broken: it was changed after it was made": self.seal != self._digest(),
            f"it is of other weights ({self.model_digest[:12]})": self.model_digest != model_digest,
            f"it is of other data ({self.dataset_digest[:12]})": self.dataset_digest != dataset_digest,
        }
        reasons = [reason for reason, is_wrong in wrong.items() if is_wrong]
        if reasons:
            raise GateError(f"the evaluation card of {self.model} does not verify: {'; '.join(reasons)}")
        check(self.seal.encode(), self.signature)

    @property
    def next_fold(self) -> int:
        """The images for the nights of this champion: others than those on which it was chosen among two.

        A night that compared the champion with itself chose nothing.
        """
        return self.fold + (self.champion not in (None, self.model))

    @property
    def refusal(self) -> str:
        """Why the model may not become the champion; nothing when it may."""
        if self.validity != "VALID":
            return f"its evaluation is {self.validity}"
        if self.champion is None:
            first = self.verdict == "INCONCLUSIVE"
            return "; ".join(self.unmet) if first else f"the night is {self.verdict}"
        if self.verdict != "PASS":
            return f"the night is {self.verdict}"
        lost = self.anchor_verdict not in (None, "PASS")
        return f"against the anchor {self.anchor} the gate says {self.anchor_verdict}" if lost else ""

    def _digest(self) -> str:
        left_out = {"seal", "signature"}
        left_out |= {"backdoor_scan"} if self.backdoor_scan is None else set()  # sealed before there was a scan
        content = json.dumps(self.model_dump(mode="json", exclude=left_out), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
