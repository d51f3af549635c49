"""What every certificate promises: an image that is certified stays classified correctly within the whole budget."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.errors import ModelError, SettingError
from gauntlet.measurement import Measurement, wilson
from gauntlet.models.access import Access, Target, suffices
from gauntlet.threat import Images, Labels, Norm, default_budgets

if TYPE_CHECKING:
    import pandas as pd

Proven = NDArray[np.bool_]


class Decision(NamedTuple):
    """What is known of images (n, h, w, c) at a budget; what is neither proven nor broken is open."""

    proven: Proven
    broken: NDArray[np.bool_]
    """Those with a counterexample, (n,)."""
    images: Images
    """The counterexamples, the clean images elsewhere."""


class Certifier(BaseModel, ABC):
    """Settings of a certificate; its budget `eps` comes with each call."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    norm: Norm = Field("inf", description="Norm of the budget")

    access: ClassVar[Access] = "gradients"
    """What must be seen of the model."""
    itself: ClassVar[bool] = True
    """Whether it certifies the model that is attacked, and not another one made of it."""

    @abstractmethod
    def prove(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Proven:
        """Which of the images (n, h, w, c) with true labels (n,) are certified at `eps`, (n,) bool.

        Raises `ModelError` for a model that it cannot bound, naming the layer.
        """

    def decide(self, target: Target, x: Images, y: Labels, eps: float, seed: int) -> Decision:
        """The same, with the counterexamples of a certificate that finds some."""
        return Decision(self.prove(target, x, y, eps, seed), np.zeros(len(x), bool), x)

    def check(self, target: Target) -> None:
        """Raise `SettingError` when the model does not show what this needs, `ModelError` when it cannot be bounded."""
        if not suffices(target.access, self.access):
            what = f"{self.name} needs {self.access} of the model, which shows {target.access}"
            raise SettingError(what, where="certify", fix="take smoothing")

    def budgets(self, asked: tuple[float, ...], channels: int) -> tuple[float, ...]:
        """The budgets asked for, else the usual ones of its norm."""
        return asked or default_budgets(self.norm, channels)


@dataclass(frozen=True)
class Certified:
    """One certificate at one budget."""

    certifier: Certifier
    eps: float
    index: NDArray[np.int64]
    """Positions in the test set, (n,)."""
    proven: Proven
    seconds: float
    broken: NDArray[np.bool_]
    """Those with a counterexample."""
    examples: Images
    """The counterexamples, (broken.sum(), h, w, c)."""

    def accuracy(self, model: str) -> Measurement:
        """Certified accuracy: the share of all images that are correct and proven to stay so."""
        count, n = int(self.proven.sum()), len(self.proven)
        low, high = wilson(count, n)
        facts: dict[str, Any] = {"eps": self.eps, "norm": self.certifier.norm, "knowledge": "none"}
        bounds: dict[str, Any] = {"value": count / n, "low": low, "high": high, "n": n}
        return Measurement(model=model, condition=f"certified {self.certifier.name}", **facts, **bounds)

    def frame(self) -> pd.DataFrame:
        """A row an image: what was proven of it, and its status: certified, broken or open."""
        import pandas as pd

        status = np.select([self.proven, self.broken], ["certified", "broken"], "open")
        facts: dict[str, Any] = {"certifier": self.certifier.name, "norm": self.certifier.norm, "eps": self.eps}
        return pd.DataFrame({"index": self.index, "certified": self.proven, "status": status}).assign(**facts)


def certify(
    certifier: Certifier, target: Target, x: Images, y: Labels, eps: float, seed: int, index: NDArray[np.int64]
) -> Certified:
    """The certificate of the images `index` of `x` (N, h, w, c) with labels `y` (N,)."""
    started = time.perf_counter()
    proven, broken, images = certifier.decide(target, x[index], y[index], eps, seed)
    return Certified(certifier, eps, index, proven, time.perf_counter() - started, broken, images[broken])


def refused(layer: Any, why: str) -> ModelError:
    """What is wrong with a layer."""
    kind = type(layer).__name__
    fix = "certify with smoothing, which asks for answers alone, or leave --certify out"
    return ModelError(f"layer {getattr(layer, 'name', kind)!r} ({kind}): {why}", where="certify", fix=fix)
