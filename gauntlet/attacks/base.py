"""What every evasion attack guarantees; the author of an attack writes only how images are made.

Images stay within bounds and budget, NaN and wrong shapes are refused, an image draws the same random numbers in
every batch (so its result is the same up to rounding), and success is counted elsewhere, never by the
attack itself.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gauntlet.attacks.streams import Streams
from gauntlet.errors import AttackError, SettingError
from gauntlet.models.access import Access, Target, suffices
from gauntlet.threat import Images, Labels, Norm, ThreatModel, check_batch, default_budgets, lengths


@dataclass(frozen=True)
class Crafted:
    """What an attack made of n images."""

    images: Images
    """Adversarial images (n, h, w, c); where none was found, the best try."""
    calls: NDArray[np.int64]
    """Gradients or queries that each image took, (n,)."""


class Attack(BaseModel, ABC):
    """Settings of an attack; its budget `eps` comes with each call."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    norm: str

    access: ClassVar[Access] = "gradients"
    """What the attacker must see of the model."""
    iterative: ClassVar[bool] = False
    """Whether it takes many calls an image; such attacks default to 1,000 test images."""
    adversary: ClassVar[bool] = True
    """False for the floors that any adversary must beat: they never count in a worst case."""
    minimal: ClassVar[bool] = False
    """Whether it looks for the smallest perturbation: then it runs once for all budgets, and distances are told."""

    place: ClassVar[int] = 1_000
    """Where it stands in a cascade, which goes upwards: cheap attacks first."""

    @property
    def id(self) -> str:
        """What tells these settings from all others: a digest of them."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """The name with the settings that are not the usual ones, as one types it."""
        chosen = [f"{key}={value}" for key, value in self.model_dump(exclude_defaults=True).items() if key != "name"]
        return ":".join([self.name, *([",".join(chosen)] if chosen else [])])

    @abstractmethod
    def craft(self, model: Any, x: Images, y: Labels, eps: float, streams: Streams) -> Crafted:
        """Adversarial images for `x` (n, h, w, c) with true labels `y` (n,), aimed at a budget of `eps`."""

    def run(
        self, model: Target, x: Images, y: Labels, eps: float, seed: int, index: NDArray[np.int64] | None = None
    ) -> Crafted:
        """`craft`, seeded by the images' positions `index`, then clipped to the threat model; `eps` 0 changes nothing.

        Raises `AttackError` when what was made are no images, `SettingError` when the model does not show enough.
        """
        if eps == 0:  # ART divides by it
            self.check_access(model)
            return Crafted(x.copy(), np.zeros(len(x), np.int64))
        made = self._checked(model, x, y, eps, seed, index)
        return replace(made, images=self.clip(made.images, x, eps, model.clip_values))

    def smallest(
        self, model: Target, x: Images, y: Labels, eps: float, seed: int, index: NDArray[np.int64] | None = None
    ) -> Crafted:
        """The same, but clipped to the bounds alone: what a search for the smallest perturbation found."""
        made = self._checked(model, x, y, eps, seed, index)
        return replace(made, images=np.clip(made.images, *model.clip_values).astype(np.float32))

    def _checked(
        self, model: Target, x: Images, y: Labels, eps: float, seed: int, index: NDArray[np.int64] | None
    ) -> Crafted:
        self.check_access(model)
        positions = np.arange(len(x)) if index is None else index
        made = self.craft(model, x, y, eps, Streams(seed, positions, self.name))
        check_batch(made.images, x)
        return made

    def clip(self, images: Images, x: Images, eps: float, bounds: tuple[float, float]) -> Images:
        """The images within budget and bounds; the budget is measured afterwards."""
        threat = ThreatModel(norm=self.norm, eps=eps, bounds=bounds)
        within = threat.project(images, x)
        threat.check(within, x)
        return within

    def budgets(self, asked: Sequence[float], channels: int) -> tuple[float, ...]:
        """The budgets to try: those asked for, else the literature's for this norm."""
        return tuple(asked) or default_budgets(self.norm, channels)

    def check_budget(self, eps: float) -> None:
        """Raise `SettingError` for a budget that cannot be meant."""
        largest = 1.0 if self.norm == "inf" else 100.0
        if not 0 < eps <= largest:
            raise SettingError(
                f"a budget of {eps:g} is not in (0, {largest:g}]",
                where=f"eps of {self.name}",
                fix="eps is in units of the pixel range [0, 1]: 8 of 255 is 8/255 or 0.03137",
            )

    def fitted(self, n_classes: int) -> Attack | None:
        """The attack on data of so many classes: None where it needs more, `SettingError` for a class there is not."""
        return self

    def check_access(self, model: Target) -> None:
        """Raise `SettingError` when the model does not show what the attack must see."""
        if not suffices(model.access, self.access):
            raise SettingError(
                f"{self.name} needs {self.access}, the model shows only {model.access}",
                where="attack",
                fix="take a gradient-free attack: square (scores), hopskipjump or spatial (labels)",
            )

    def without_early_stop(self) -> Attack:
        """The same attack going on with fooled images: barely fooled, an image seldom fools another model."""
        return self.model_copy(update={"early_stop": False}) if hasattr(self, "early_stop") else self

    def stronger(self) -> Attack | None:
        """The same attack with twice the iterations, to see whether it had converged; None where it has none."""
        iterations = getattr(self, "max_iter", None)
        return self.model_copy(update={"max_iter": 2 * iterations}) if iterations else None


class Targeted(Attack):
    """An attack that can aim at one class."""

    target: int | None = Field(None, ge=0, description="Class aimed at; any wrong class when not given")

    def fitted(self, n_classes: int) -> Attack | None:
        """The same, once there is such a class as the target."""
        if self.target is not None and self.target >= n_classes:
            raise SettingError(
                f"there is no class {self.target} among {n_classes}", where=f"target of {self.name}", fix="from 0 on"
            )
        return super().fitted(n_classes)

    def aims(self, y: Labels, n_classes: int) -> Labels:
        """The class that each image is aimed at, (n,); `SettingError` when there is no such class."""
        self.fitted(n_classes)
        return y if self.target is None else np.full(len(y), self.target, np.int64)


def labels_of(attacks: Sequence[Attack]) -> dict[Attack, str]:
    """How each is called among the others: by its name, and by the settings that differ where a name comes twice.

    >>> from gauntlet.attacks import Fgsm, Pgd
    >>> list(labels_of([Fgsm(), Pgd(max_iter=1), Pgd(max_iter=40)]).values())
    ['fgsm', 'pgd:max_iter=1', 'pgd:max_iter=40']
    """
    labels = {}
    for attack in attacks:
        alike = {other for other in attacks if (other.name, other.norm) == (attack.name, attack.norm)}
        mine = attack.model_dump()
        differing = [key for key in mine if any(other.model_dump()[key] != mine[key] for other in alike)]
        settings = ",".join(f"{key}={mine[key]}" for key in differing)
        labels[attack] = f"{attack.name}:{settings}" if settings else attack.name
    return labels


def one_hot(y: Labels, n_classes: int) -> Images:
    """Labels (n,) to float32 (n, n_classes), as ART wants true labels."""
    return np.eye(n_classes, dtype=np.float32)[y]


def art_norm(norm: Norm) -> float | int:
    """A norm as ART spells it."""
    return np.inf if norm == "inf" else 2


def measured(adversarial: Images, clean: Images) -> dict[str, np.ndarray]:
    """L∞ and L2 of every perturbation, measured outside the attack; `AttackError` when not finite."""
    if not np.isfinite(adversarial).all():
        raise AttackError("adversarial images hold NaN or infinite pixels")
    return {"linf": lengths(adversarial - clean, "inf"), "l2": lengths(adversarial - clean, "2")}


class global_seed:
    """Seed NumPy's global generator, which ART draws from, for a block; put its state back after it."""

    def __init__(self, seed: int) -> None:
        """`seed` in [0, 2**32)."""
        self._seed = seed

    def __enter__(self) -> None:
        """Seed."""
        self._state = np.random.get_state()
        np.random.seed(self._seed)

    def __exit__(self, *_: object) -> None:
        """Restore."""
        np.random.set_state(self._state)
