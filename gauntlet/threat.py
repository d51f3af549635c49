"""What the attacker may do: norm, budget, goal, knowledge; and the arithmetic that holds an attack to it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gauntlet.errors import AttackError

Norm = Literal["inf", "2"]
Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def number(value: Any) -> Any:
    """Text such as `8/255`, as the literature writes budgets, to a number; anything else passes unchanged."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            return value
    return value


Budget = Annotated[float, BeforeValidator(number, json_schema_input_type=float | str), Field(gt=0, allow_inf_nan=False)]
"""A budget as a number or as text such as `8/255`."""

TOLERANCE = 1e-5
"""Room for float32 rounding when a perturbation is measured against its budget (pixels are in [0, 1])."""


class ThreatModel(BaseModel):
    """Norm, budget, goal, knowledge and pixel bounds of an attacker (Carlini et al. 2019, section 2.2)."""

    model_config = ConfigDict(frozen=True)

    norm: Norm = "inf"
    eps: float = Field(ge=0, description="Budget in units of the pixel range; 0 is the image itself")
    goal: Literal["untargeted", "targeted"] = "untargeted"
    knowledge: Literal["white-box", "black-box", "transfer"] = "white-box"
    knows_defense: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)

    def project(self, adversarial: Images, clean: Images) -> Images:
        """The nearest images within the budget around `clean` and within the bounds; (n, h, w, c) float32."""
        delta = adversarial - clean
        if self.norm == "inf":
            delta = np.clip(delta, -self.eps, self.eps)
        else:
            norms = np.maximum(lengths(delta, "2"), 1e-12).reshape(-1, 1, 1, 1)
            delta = delta * np.minimum(1.0, self.eps / norms)
        return np.clip(clean + delta, *self.bounds).astype(np.float32)

    def check(self, adversarial: Images, clean: Images) -> None:
        """Raise `AttackError` unless every image is finite, of the right shape, within bounds and budget."""
        check_batch(adversarial, clean)
        low, high = float(adversarial.min()), float(adversarial.max())
        if low < self.bounds[0] or high > self.bounds[1]:
            raise AttackError(f"pixels from {low:g} to {high:g} leave the bounds {self.bounds}")
        worst = float(lengths(adversarial - clean, self.norm).max())
        if worst > self.eps + TOLERANCE:
            raise AttackError(f"perturbation of norm {worst:g} exceeds the budget {self.eps:g} (L{self.norm})")


def check_batch(adversarial: Images, clean: Images) -> None:
    """Raise `AttackError` unless every image is finite and the shape is that of the clean images."""
    if adversarial.shape != clean.shape:
        raise AttackError(f"expected images of shape {clean.shape}, the attack returned {adversarial.shape}")
    bad = int((~np.isfinite(adversarial)).any(axis=(1, 2, 3)).sum())
    if bad:
        raise AttackError(f"{bad} of {len(clean)} adversarial images hold NaN or infinite pixels")


def lengths(delta: Images, norm: Norm) -> NDArray[np.float64]:
    """The norm of every perturbation: (n, h, w, c) to (n,), in units of the pixel range."""
    flat = delta.reshape(len(delta), math.prod(delta.shape[1:])).astype(np.float64)
    return np.abs(flat).max(axis=1) if norm == "inf" else np.sqrt((flat**2).sum(axis=1))


def default_budgets(norm: str, channels: int) -> tuple[float, ...]:
    """Budgets of the literature: MNIST-like 0.1 to 0.3 (Madry et al. 2018), colour 2 to 8/255 (Croce et al. 2021)."""
    if norm == "inf":
        return (0.1, 0.2, 0.3) if channels == 1 else (2 / 255, 4 / 255, 8 / 255)
    return (0.5, 1.0, 2.0) if channels == 1 else (0.25, 0.5, 1.0)
